//! Who is connected: facts of each session that any thread may read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{CloseCode, Principal, Role};

/// What a peer said of itself at login. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerDescription {
    pub product: String,
    pub version: String,
    pub hostname: String,
}

/// What an agent last reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentReport {
    pub unix_ms: i64,
    pub queue_pending_bytes: u64,
    pub queue_pending_batches: u64,
    pub queue_capacity_bytes: u64,
    pub dropped_items: u64,
}

/// One logged-in peer.
pub struct Session {
    pub id: u64,
    pub principal: Principal,
    pub peer: PeerDescription,
    pub connected_unix_ms: i64,
    /// Calls read on all streams.
    pub calls: Arc<AtomicU64>,
    pub batches: AtomicU64,
    pub items: AtomicU64,
    last_heartbeat_unix_ms: AtomicI64,
    clock_skew_ms: AtomicI64,
    report: Mutex<AgentReport>,
    connection: quinn::Connection,
}

impl Session {
    pub(crate) fn new(
        id: u64,
        principal: Principal,
        peer: PeerDescription,
        connected_unix_ms: i64,
        connection: quinn::Connection,
        calls: Arc<AtomicU64>,
    ) -> Self {
        Session {
            id,
            principal,
            peer,
            connected_unix_ms,
            calls,
            batches: AtomicU64::new(0),
            items: AtomicU64::new(0),
            last_heartbeat_unix_ms: AtomicI64::new(0),
            clock_skew_ms: AtomicI64::new(0),
            report: Mutex::default(),
            connection,
        }
    }

    /// Records a heartbeat that arrived at `now_unix_ms`.
    pub fn heartbeat(&self, report: AgentReport, now_unix_ms: i64) {
        self.last_heartbeat_unix_ms.store(now_unix_ms, Ordering::Relaxed);
        self.clock_skew_ms.store(report.unix_ms.saturating_sub(now_unix_ms), Ordering::Relaxed);
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    pub fn last_heartbeat_unix_ms(&self) -> i64 {
        self.last_heartbeat_unix_ms.load(Ordering::Relaxed)
    }

    /// The peer's clock minus ours at the last heartbeat.
    pub fn clock_skew_ms(&self) -> i64 {
        self.clock_skew_ms.load(Ordering::Relaxed)
    }

    pub fn report(&self) -> AgentReport {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path in use, as of now: it may move.
    pub fn remote(&self) -> std::net::SocketAddr {
        self.connection.remote_address()
    }

    /// Round-trip time, packets and bytes of the connection.
    pub fn stats(&self) -> quinn::ConnectionStats {
        self.connection.stats()
    }
}

/// All sessions of a server.
#[derive(Clone, Default)]
pub struct Registry {
    sessions: Arc<Mutex<BTreeMap<u64, Arc<Session>>>>,
}

impl Registry {
    /// Adds a session. Older ones of the same agent end: an agent that was
    /// killed and came back would be listed twice until the idle timeout.
    pub(crate) fn insert(&self, session: Arc<Session>) {
        let mut sessions = self.locked();
        if session.principal.role == Role::Agent {
            for older in sessions.values().filter(|older| older.principal == session.principal) {
                let reason = b"a newer session of this agent took over";
                older.connection.close(CloseCode::Superseded.number(), reason);
            }
        }
        sessions.insert(session.id, session);
    }

    pub(crate) fn remove(&self, id: u64) {
        self.locked().remove(&id);
    }

    /// Everybody who is logged in, by session number.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.locked().values().cloned().collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Session>>> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
