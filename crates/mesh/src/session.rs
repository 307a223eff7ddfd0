//! Who is connected: facts of each session that any thread may read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::activity::Activity;
use crate::link::Link;
use crate::{Budget, CloseCode, Grant, Lease, Ledger, MeshLimits, Meter, Principal, Remote, Role};

/// What a peer said of itself at login. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerDescription {
    pub product: String,
    pub version: String,
    pub hostname: String,
    /// The `job` label of an agent's own series; empty: it did not say.
    pub job: String,
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
    pub batches: AtomicU64,
    pub items: AtomicU64,
    last_heartbeat_unix_ms: AtomicI64,
    clock_skew_ms: AtomicI64,
    report: Mutex<AgentReport>,
    meter: Arc<Meter>,
    budget: Budget,
    link: Link,
    path: Mutex<SeenPath>,
    activity: Arc<Activity>,
    grant: Grant,
}

/// Where the peer was when somebody last looked.
#[derive(Debug)]
struct SeenPath {
    remote: Remote,
    migrations: u32,
}

/// The path between a peer and us, as of now.
#[derive(Clone, Copy, Debug)]
pub struct PathFacts {
    pub remote: Remote,
    /// `quic`, `tcp` or `unix`. Only QUIC knows its round-trip time,
    /// congestion window, MTU and losses; the others show zero.
    pub transport: &'static str,
    /// How often the peer's address was seen to have changed.
    pub migrations: u32,
    pub rtt: Duration,
    pub congestion_window_bytes: u64,
    pub mtu_bytes: u16,
    pub lost_packets: u64,
    /// UDP payload, or bytes before TLS.
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// What [`PathFacts::transport`] is over QUIC.
const QUIC: &str = "quic";

/// What a session holds here, and what counts it.
pub(crate) struct Holdings {
    pub activity: Arc<Activity>,
    pub grant: Grant,
    pub meter: Arc<Meter>,
    pub budget: Budget,
}

impl Session {
    pub(crate) fn new(
        id: u64,
        principal: Principal,
        peer: PeerDescription,
        connected_unix_ms: i64,
        link: Link,
        holdings: Holdings,
    ) -> Self {
        let Holdings { activity, grant, meter, budget } = holdings;
        let path = Mutex::new(SeenPath { remote: link.path().remote, migrations: 0 });
        Session {
            id,
            principal,
            peer,
            connected_unix_ms,
            batches: AtomicU64::new(0),
            items: AtomicU64::new(0),
            last_heartbeat_unix_ms: AtomicI64::new(0),
            clock_skew_ms: AtomicI64::new(0),
            report: Mutex::default(),
            meter,
            budget,
            link,
            path,
            activity,
            grant,
        }
    }

    /// Records a heartbeat that arrived at `now_unix_ms`.
    pub fn heartbeat(&self, report: AgentReport, now_unix_ms: i64) {
        // Looking is what notices that the address has changed.
        let _ = self.path();
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

    /// What the session holds here, against its bounds.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Takes over `bytes` of a message that were copied, at once; call it
    /// before the message is dropped, and keep it as long as the copy.
    pub fn lease_now(&self, bytes: usize) -> Lease {
        self.budget.lease_now(self.id, &self.meter, bytes)
    }

    /// What its capabilities are doing.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The root of what it was granted.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The path in use: it may move.
    pub fn path(&self) -> PathFacts {
        let mut path = self.link.path();
        let mut seen = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.remote != path.remote {
            *seen = SeenPath { remote: path.remote, migrations: seen.migrations + 1 };
        }
        path.migrations = seen.migrations;
        path
    }
}

/// All sessions of a server.
#[derive(Clone)]
pub struct Registry {
    sessions: Arc<Mutex<BTreeMap<u64, Arc<Session>>>>,
    ledger: Ledger,
    incidents: Arc<Incidents>,
    limits: MeshLimits,
    budget: Budget,
    /// Of sessions that have ended; changed while `sessions` is locked.
    ended: Arc<Mutex<Traffic>>,
}

/// What went over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub lost_packets: u64,
}

impl Traffic {
    fn add(&mut self, path: &PathFacts) {
        self.bytes_received += path.bytes_received;
        self.bytes_sent += path.bytes_sent;
        self.lost_packets += path.lost_packets;
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new(MeshLimits::default())
    }
}

/// What went wrong since the start, by kind.
#[derive(Debug, Default)]
pub struct Incidents {
    pub logins_refused: AtomicU64,
    pub handshakes_refused: AtomicU64,
    pub panics: AtomicU64,
    /// Sessions, and connections before login, that broke a bound.
    pub limits_broken: AtomicU64,
    /// Calls answered `overloaded:` unseen.
    pub calls_refused: AtomicU64,
}

impl Registry {
    /// Of a server whose peers may hold no more than `limits`.
    pub fn new(limits: MeshLimits) -> Registry {
        Registry {
            sessions: Arc::default(),
            ledger: Ledger::new(),
            incidents: Arc::default(),
            limits,
            budget: Budget::new(limits.ingest_bytes_max, limits.bulk.message_bytes_max),
            ended: Arc::default(),
        }
    }

    pub fn limits(&self) -> &MeshLimits {
        &self.limits
    }

    /// Memory of batches between their arrival and their answer.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What all sessions were granted.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn incidents(&self) -> &Arc<Incidents> {
        &self.incidents
    }

    pub(crate) fn login_refused(&self) {
        self.incidents.logins_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake_refused(&self) {
        self.incidents.handshakes_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended_by_limit(&self) {
        self.incidents.limits_broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.incidents.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a session. Older ones of the same agent end: an agent that was
    /// killed and came back would be listed twice until the idle timeout.
    pub(crate) fn insert(&self, session: Arc<Session>) {
        let mut sessions = self.locked();
        if session.principal.role == Role::Agent {
            for older in sessions.values().filter(|older| older.principal == session.principal) {
                older.link.close(CloseCode::Superseded, "a newer session of this agent took over");
            }
        }
        sessions.insert(session.id, session);
    }

    pub(crate) fn remove(&self, id: u64) {
        let mut sessions = self.locked();
        if let Some(session) = sessions.remove(&id) {
            let path = session.path();
            if path.transport == QUIC {
                self.ended.lock().unwrap_or_else(PoisonError::into_inner).add(&path);
            }
        }
    }

    /// Of all sessions over QUIC since the start.
    pub fn quic_traffic(&self) -> Traffic {
        let sessions = self.locked();
        let mut traffic = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = sessions.values().map(|session| session.path());
        paths.filter(|path| path.transport == QUIC).for_each(|path| traffic.add(&path));
        traffic
    }

    pub fn session(&self, id: u64) -> Option<Arc<Session>> {
        self.locked().get(&id).cloned()
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
