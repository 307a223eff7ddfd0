//! The connection of a session, whatever carries it.
//!
//! [`Link`] is what any thread may ask for or close; [`Incoming`] and
//! [`Stream`] stay on the session's thread. Over QUIC they are a connection
//! and its streams; otherwise each stream is a byte pipe of its own
//! (`pipe`), and the first of them, control, speaks for all.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::capability::FromClientHook;
use tokio::sync::mpsc;

use crate::network::Terms;
use crate::pipe::{Reader, Wire, Writer};
use crate::rpc::StreamSystem;
use crate::{CloseCode, Closing, PathFacts, Remote, transport};

/// A session's connection.
#[derive(Clone)]
pub(crate) enum Link {
    Quic(quinn::Connection),
    Pipes(Arc<Wire>),
}

impl Link {
    /// Ends the session; the first reason counts.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Link::Quic(connection) => connection.close(code.number(), reason.as_bytes()),
            Link::Pipes(wire) => wire.close(code, reason),
        }
    }

    /// The peer has logged in: it may open further streams, and have more on
    /// its way to us. A byte pipe holds no more than the kernel's buffers, and
    /// the listener lets those who have logged in open others.
    pub(crate) fn trust(&self) {
        if let Link::Quic(connection) = self {
            transport::trust(connection);
        }
    }

    /// Waits until the connection is gone and says why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn closed(&self) -> Closing {
        match self {
            Link::Quic(connection) => Closing::of(&connection.closed().await),
            Link::Pipes(wire) => wire.closed().await,
        }
    }

    /// Why the connection is gone, if it is.
    pub(crate) fn closing(&self) -> Option<Closing> {
        match self {
            Link::Quic(connection) => connection.close_reason().map(|reason| Closing::of(&reason)),
            Link::Pipes(wire) => wire.closing().cloned(),
        }
    }

    /// As of now. Byte pipes know neither round trips nor losses: that is the
    /// kernel's business.
    pub(crate) fn path(&self) -> PathFacts {
        match self {
            Link::Quic(connection) => {
                let stats = connection.stats();
                PathFacts {
                    remote: Remote::Socket(connection.remote_address()),
                    transport: "quic",
                    migrations: 0,
                    rtt: stats.path.rtt,
                    congestion_window_bytes: stats.path.cwnd,
                    mtu_bytes: stats.path.current_mtu,
                    lost_packets: stats.path.lost_packets,
                    bytes_received: stats.udp_rx.bytes,
                    bytes_sent: stats.udp_tx.bytes,
                }
            }
            Link::Pipes(wire) => {
                let (bytes_received, bytes_sent) = wire.bytes();
                PathFacts {
                    remote: wire.remote,
                    transport: wire.transport,
                    migrations: 0,
                    rtt: Duration::ZERO,
                    congestion_window_bytes: 0,
                    mtu_bytes: 0,
                    lost_packets: 0,
                    bytes_received,
                    bytes_sent,
                }
            }
        }
    }
}

/// One stream of a session.
pub(crate) enum Stream {
    Quic(quinn::SendStream, quinn::RecvStream),
    Pipe(Writer, Reader),
}

impl Stream {
    /// The RPC system of this stream, for the answering side.
    pub(crate) fn server(self, terms: Rc<Terms>, bootstrap: capnp::capability::Client) -> StreamSystem {
        match self {
            Stream::Quic(send, receive) => StreamSystem::server(receive, send, terms, bootstrap),
            Stream::Pipe(writer, reader) => StreamSystem::server(reader, writer, terms, bootstrap),
        }
    }

    /// The same for the calling side, and the peer's bootstrap capability.
    pub(crate) fn client<C: FromClientHook>(self, terms: Rc<Terms>) -> (StreamSystem, C) {
        match self {
            Stream::Quic(send, receive) => StreamSystem::client(receive, send, terms),
            Stream::Pipe(writer, reader) => StreamSystem::client(reader, writer, terms),
        }
    }
}

/// Streams that the peer opens.
pub(crate) enum Incoming {
    Quic(quinn::Connection),
    /// The listener sends them here.
    Pipes {
        wire: Arc<Wire>,
        opened: mpsc::Receiver<Stream>,
    },
}

impl Incoming {
    /// The next stream; the first is control.
    ///
    /// # Errors
    ///
    /// Why there will be none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Stream, Closing> {
        match self {
            Incoming::Quic(connection) => match connection.accept_bi().await {
                Ok((send, receive)) => Ok(Stream::Quic(send, receive)),
                Err(error) => Err(Closing::of(&error)),
            },
            Incoming::Pipes { wire, opened } => tokio::select! {
                Some(stream) = opened.recv() => Ok(stream),
                closing = wire.closed() => Err(closing),
            },
        }
    }
}
