//! The shared facts of a session that runs over byte pipes: any thread may
//! look, and ask for its end.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::{CloseCode, Closing};

/// Where the other side of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    Socket(SocketAddr),
    /// A process of this host, by its credentials.
    Local {
        uid: u32,
        pid: Option<i32>,
    },
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Remote::Socket(addr) => addr.fmt(f),
            Remote::Local { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Remote::Local { uid, pid: None } => write!(f, "uid {uid}"),
        }
    }
}

/// One session's pipes, together.
#[derive(Debug)]
pub(crate) struct Wire {
    pub transport: &'static str,
    pub remote: Remote,
    received: AtomicU64,
    sent: AtomicU64,
    farewell: OnceLock<(CloseCode, String)>,
    closes: CancellationToken,
    closing: OnceLock<Closing>,
    closed: CancellationToken,
}

impl Wire {
    pub(crate) fn new(transport: &'static str, remote: Remote) -> Wire {
        Wire {
            transport,
            remote,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            farewell: OnceLock::new(),
            closes: CancellationToken::new(),
            closing: OnceLock::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Asks for the end; the first word counts. The thread of the session
    /// tells the peer.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        if self.farewell.set((code, reason.to_owned())).is_ok() {
            self.closes.cancel();
        }
    }

    /// Waits until somebody asks for the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn farewell(&self) -> &(CloseCode, String) {
        self.closes.cancelled().await;
        self.farewell.get().expect("close() sets the word before it wakes us")
    }

    /// It is over; the first reason counts.
    pub(crate) fn end(&self, closing: Closing) {
        if self.closing.set(closing).is_ok() {
            self.closed.cancel();
        }
    }

    pub(crate) fn closing(&self) -> Option<&Closing> {
        self.closing.get()
    }

    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn closed(&self) -> Closing {
        self.closed.cancelled().await;
        self.closing.get().expect("end() sets the reason before it wakes us").clone()
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of frames, before TLS: received, sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}
