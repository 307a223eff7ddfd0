//! What the ledger keeps of one capability.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lm_schema::interfaces::Interface;
use tokio_util::sync::CancellationToken;

use super::calls::{self, InFlight};
use crate::activity::Activity;

/// Wall time of monotonic instants: one base, so that a clock that jumps
/// cannot make a call end before it began.
pub(super) struct LedgerClock {
    pub base: Instant,
    pub base_unix_ms: i64,
}

impl LedgerClock {
    pub fn new() -> LedgerClock {
        let base_unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64);
        LedgerClock { base: Instant::now(), base_unix_ms }
    }

    pub fn unix_ms(&self, at: Instant) -> i64 {
        self.base_unix_ms + at.saturating_duration_since(self.base).as_millis() as i64
    }
}

/// How a session's root is listed.
pub(super) const ROOT: &str = "Session";

/// What a capability is granted for.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Whose it is; the grantor's holder when absent.
    pub holder: Option<Arc<str>>,
    /// What it is limited to, for people: `agent=web-1`.
    pub scope: String,
    /// How long it may be called; no longer than its grantor in any case, and
    /// as long as that when absent.
    pub lifetime: Option<Duration>,
    /// Whether a call that is under way when the capability is revoked runs to
    /// its end. For calls that check [`Grant::check`] themselves before they
    /// commit, so that nothing is half done; every other call is cut.
    pub finishes_calls: bool,
}

impl Terms {
    pub fn scope(scope: impl Into<String>) -> Terms {
        Terms { scope: scope.into(), ..Terms::default() }
    }
}

/// Why a capability ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Stable, first in every error: `revoked`, `denied`.
    pub code: &'static str,
    pub reason: String,
}

pub(super) struct Entry {
    pub id: u64,
    pub parent: Option<Arc<Entry>>,
    pub session: u64,
    pub holder: Arc<str>,
    /// `None`: the root of a session, which is no capability one could call.
    pub interface: Option<&'static Interface>,
    pub scope: String,
    pub granted: Instant,
    pub expires: Option<Instant>,
    pub finishes_calls: bool,
    /// Cancelled by a revocation of this entry or of one it derives from.
    pub cut: CancellationToken,
    pub verdict: OnceLock<Verdict>,
    pub activity: Arc<Activity>,
    pub calls: AtomicU64,
    pub errors: AtomicU64,
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    /// Ordinal and monotonic milliseconds since the ledger began; -1: never.
    pub last_method: AtomicI64,
    pub last_use_ms: AtomicI64,
    pub in_flight: Mutex<Vec<InFlight>>,
}

/// Facts of one entry, as of now.
#[derive(Clone, Debug)]
pub struct CapabilityFacts {
    pub id: u64,
    /// The capability it was derived from; `None` for a session's root.
    pub grantor: Option<u64>,
    pub session: u64,
    pub holder: Arc<str>,
    pub interface: &'static str,
    pub scope: String,
    pub granted_unix_ms: i64,
    pub expires_unix_ms: Option<i64>,
    pub calls: u64,
    pub errors: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub in_flight: usize,
    pub last_method: Option<&'static str>,
    pub last_use_unix_ms: Option<i64>,
}

impl Entry {
    pub fn new(
        id: u64,
        parent: Option<Arc<Entry>>,
        session: u64,
        interface: Option<&'static Interface>,
        terms: Terms,
        cut: CancellationToken,
        activity: Arc<Activity>,
    ) -> Entry {
        let granted = Instant::now();
        let holder = match (&terms.holder, &parent) {
            (Some(holder), _) => holder.clone(),
            (None, Some(parent)) => parent.holder.clone(),
            (None, None) => Arc::from(""),
        };
        // Nothing that was derived outlives what it was derived from.
        let own = terms.lifetime.map(|lifetime| granted + lifetime);
        let inherited = parent.as_ref().and_then(|parent| parent.expires);
        let expires = [own, inherited].into_iter().flatten().min();
        Entry {
            id,
            parent,
            session,
            holder,
            interface,
            scope: terms.scope,
            granted,
            expires,
            finishes_calls: terms.finishes_calls,
            cut,
            verdict: OnceLock::new(),
            activity,
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            last_method: AtomicI64::new(-1),
            last_use_ms: AtomicI64::new(-1),
            in_flight: Mutex::default(),
        }
    }

    /// The nearest verdict on the way up.
    pub fn verdict(&self) -> Option<&Verdict> {
        let mut at = Some(self);
        while let Some(entry) = at {
            if let Some(verdict) = entry.verdict.get() {
                return Some(verdict);
            }
            at = entry.parent.as_deref();
        }
        None
    }

    pub fn facts(&self, clock: &LedgerClock) -> CapabilityFacts {
        let last_use = self.last_use_ms.load(Ordering::Relaxed);
        let last_method = usize::try_from(self.last_method.load(Ordering::Relaxed)).ok();
        CapabilityFacts {
            id: self.id,
            grantor: self.parent.as_ref().map(|parent| parent.id),
            session: self.session,
            holder: self.holder.clone(),
            interface: self.interface.map_or(ROOT, |interface| interface.name),
            scope: self.scope.clone(),
            granted_unix_ms: clock.unix_ms(self.granted),
            expires_unix_ms: self.expires.map(|at| clock.unix_ms(at)),
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            in_flight: self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).len(),
            last_method: last_method.and_then(|ordinal| calls::method_name(self.interface, ordinal)),
            last_use_unix_ms: (last_use >= 0).then(|| clock.base_unix_ms + last_use),
        }
    }
}
