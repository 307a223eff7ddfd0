//! The ledger: every capability that was granted, to whom, for what, from
//! which other, and what became of it.
//!
//! A session's root is the first entry; everything else is derived from an
//! entry that is already there ([`Grant::derive`]) and dies with it. Revoking
//! cuts a whole subtree: one store that every descendant sees. The entries are
//! plain shared data, so that any thread may list, watch and revoke while the
//! capabilities themselves stay on their sessions' workers.

mod calls;
mod guard;
mod tap;
mod totals;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lm_schema::interfaces::Interface;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;

pub(crate) use calls::Call;
pub use calls::{CallRecord, CallState};
pub use tap::{TapBatch, TapCost, TapFilter, TapReader, TooManyTaps};
pub use totals::MethodTotals;

use calls::{InFlight, SlowCalls};
use tap::Taps;
use totals::Totals;

/// All capabilities of a process. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    next_id: AtomicU64,
    next_call: AtomicU64,
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    totals: Totals,
    slow: SlowCalls,
    taps: Taps,
    clock: LedgerClock,
}

/// Wall time of monotonic instants: one base, so that a clock that jumps
/// cannot make a call end before it began.
struct LedgerClock {
    base: Instant,
    base_unix_ms: i64,
}

impl LedgerClock {
    fn unix_ms(&self, at: Instant) -> i64 {
        self.base_unix_ms + at.saturating_duration_since(self.base).as_millis() as i64
    }
}

/// What a capability is granted for.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Whose it is; the grantor's holder when absent.
    pub holder: Option<Arc<str>>,
    /// What it is limited to, for people: `agent=web-1`.
    pub scope: String,
    /// How long it may be called. With its session when absent.
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

struct Entry {
    id: u64,
    parent: Option<Arc<Entry>>,
    session: u64,
    holder: Arc<str>,
    /// `None`: the root of a session, which is no capability one could call.
    interface: Option<&'static Interface>,
    scope: String,
    granted: Instant,
    expires: Option<Instant>,
    finishes_calls: bool,
    /// Cancelled by a revocation of this entry or of one it derives from.
    cut: CancellationToken,
    verdict: OnceLock<Verdict>,
    activity: Arc<Activity>,
    calls: AtomicU64,
    errors: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    /// Ordinal and monotonic milliseconds since the ledger began; -1: never.
    last_method: AtomicI64,
    last_use_ms: AtomicI64,
    in_flight: Mutex<Vec<InFlight>>,
}

/// One granted capability. Holding a `Grant` lets code check whether it still
/// stands and derive others from it; it keeps nothing alive at the peer.
#[derive(Clone)]
pub struct Grant {
    entry: Arc<Entry>,
    ledger: Ledger,
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

/// How a session's root is listed.
const ROOT: &str = "Session";

/// What a revocation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub capabilities: usize,
    pub sessions: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger::new()
    }
}

impl Ledger {
    pub fn new() -> Ledger {
        let base_unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64);
        Ledger {
            shared: Arc::new(Shared {
                next_id: AtomicU64::new(1),
                next_call: AtomicU64::new(1),
                entries: Mutex::default(),
                totals: Totals::new(),
                slow: SlowCalls::default(),
                taps: Taps::default(),
                clock: LedgerClock { base: Instant::now(), base_unix_ms },
            }),
        }
    }

    /// The root of a session: what everything it is granted derives from. It
    /// ends, with all of that, when the returned value is dropped.
    pub(crate) fn root(&self, session: u64, holder: Arc<str>, activity: Arc<Activity>) -> Root {
        let terms = Terms { holder: Some(holder), ..Terms::default() };
        let entry = self.enter(None, session, None, terms, CancellationToken::new(), activity);
        Root(Grant { entry, ledger: self.clone() })
    }

    fn enter(
        &self,
        parent: Option<Arc<Entry>>,
        session: u64,
        interface: Option<&'static Interface>,
        terms: Terms,
        cut: CancellationToken,
        activity: Arc<Activity>,
    ) -> Arc<Entry> {
        let granted = Instant::now();
        let holder = match (&terms.holder, &parent) {
            (Some(holder), _) => holder.clone(),
            (None, Some(parent)) => parent.holder.clone(),
            (None, None) => Arc::from(""),
        };
        let entry = Arc::new(Entry {
            id: self.shared.next_id.fetch_add(1, Ordering::Relaxed),
            parent,
            session,
            holder,
            interface,
            scope: terms.scope,
            granted,
            expires: terms.lifetime.map(|lifetime| granted + lifetime),
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
        });
        entry.activity.granted();
        self.entries().insert(entry.id, entry.clone());
        entry
    }

    /// Takes an entry out: the peer has released the capability.
    fn release(&self, entry: &Entry) {
        if self.entries().remove(&entry.id).is_some() {
            entry.activity.released();
        }
    }

    /// Ends a capability and all that was derived from it. `None` when there
    /// is no such capability. A session's root takes its session along.
    pub fn revoke(&self, id: u64, verdict: &Verdict) -> Option<Ended> {
        let entry = self.entries().get(&id).cloned()?;
        Some(self.end(&[entry], verdict))
    }

    /// Ends every capability and session of a holder.
    pub fn revoke_holder(&self, holder: &str, verdict: &Verdict) -> Ended {
        let of: Vec<_> = self.entries().values().filter(|entry| *entry.holder == *holder).cloned().collect();
        self.end(&of, verdict)
    }

    fn end(&self, entries: &[Arc<Entry>], verdict: &Verdict) -> Ended {
        let before = self.standing();
        for entry in entries {
            let _ = entry.verdict.set(verdict.clone());
            entry.cut.cancel();
        }
        let after = self.standing();
        Ended {
            capabilities: before.capabilities.saturating_sub(after.capabilities),
            sessions: before.sessions.saturating_sub(after.sessions),
        }
    }

    fn standing(&self) -> Ended {
        let mut standing = Ended::default();
        for entry in self.entries().values().filter(|entry| !entry.cut.is_cancelled()) {
            match entry.interface {
                Some(_) => standing.capabilities += 1,
                None => standing.sessions += 1,
            }
        }
        standing
    }

    /// How many capabilities there are, sessions' roots not counted.
    pub fn len(&self) -> usize {
        self.entries().values().filter(|entry| entry.interface.is_some()).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many capabilities there are of each interface.
    pub fn count_by_interface(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for interface in self.entries().values().filter_map(|entry| entry.interface) {
            *counts.entry(interface.name).or_default() += 1;
        }
        counts
    }

    /// Capabilities in the order of their grant, after `after`, at most
    /// `limit` of those that `is_wanted`; and whether there are more.
    pub fn capabilities(
        &self,
        after: u64,
        limit: usize,
        is_wanted: impl Fn(&CapabilityFacts) -> bool,
    ) -> (Vec<CapabilityFacts>, bool) {
        let entries: Vec<_> = {
            let entries = self.entries();
            entries.range(after.saturating_add(1)..).map(|(_, entry)| entry.clone()).collect()
        };
        let mut found = Vec::new();
        for entry in entries {
            let facts = entry.facts(&self.shared.clock);
            if !is_wanted(&facts) {
                continue;
            }
            if found.len() == limit {
                return (found, true);
            }
            found.push(facts);
        }
        (found, false)
    }

    /// Calls under way that have lasted at least `over`, longest first, then
    /// the latest finished ones that were slow; at most `limit`.
    pub fn calls(&self, over: Duration, limit: usize) -> Vec<CallRecord> {
        let now = Instant::now();
        let entries: Vec<_> = self.entries().values().cloned().collect();
        let mut found: Vec<CallRecord> =
            entries.iter().flat_map(|entry| entry.calls_in_flight(&self.shared.clock, now)).collect();
        found.retain(|call| call.duration >= over);
        found.sort_by_key(|call| std::cmp::Reverse(call.duration));
        found.extend(self.shared.slow.latest().into_iter().filter(|call| call.duration >= over));
        found.truncate(limit);
        found
    }

    /// Finished calls from now on. At most eight taps at a time.
    ///
    /// # Errors
    ///
    /// [`TooManyTaps`], until another one is dropped.
    pub fn tap(&self, filter: TapFilter) -> Result<TapReader, TooManyTaps> {
        self.shared.taps.open(filter)
    }

    /// Calls by interface and method since the start. Bounded by the schema.
    pub fn totals(&self) -> Vec<MethodTotals> {
        self.shared.totals.all()
    }

    /// Finished calls that last longer than this are kept for a while.
    pub fn slow_after(&self) -> Duration {
        calls::SLOW_AFTER
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The nearest verdict on the way up.
    fn verdict(&self) -> Option<&Verdict> {
        let mut at = Some(self);
        while let Some(entry) = at {
            if let Some(verdict) = entry.verdict.get() {
                return Some(verdict);
            }
            at = entry.parent.as_deref();
        }
        None
    }

    fn facts(&self, clock: &LedgerClock) -> CapabilityFacts {
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

impl Grant {
    /// The number under which an operator finds and revokes it.
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    pub fn holder(&self) -> &Arc<str> {
        &self.entry.holder
    }

    /// Whether it still stands: call before anything that must not happen
    /// after a revocation, and once more before a commit.
    ///
    /// # Errors
    ///
    /// What the peer is to be told, its stable code first.
    pub fn check(&self) -> Result<(), capnp::Error> {
        if self.entry.cut.is_cancelled() {
            return Err(self.ended());
        }
        match self.entry.expires {
            Some(expires) if expires <= Instant::now() => {
                Err(capnp::Error::failed("expired: the capability was granted for a limited time".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Why it ended.
    pub fn verdict(&self) -> Option<Verdict> {
        self.entry.verdict().cloned()
    }

    /// Waits until it is revoked, or its session ends.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn revoked(&self) {
        self.entry.cut.cancelled().await;
    }

    fn ended(&self) -> capnp::Error {
        match self.entry.verdict() {
            Some(Verdict { code, reason }) => capnp::Error::failed(format!("{code}: {reason}")),
            None => capnp::Error::disconnected("the session has ended".to_owned()),
        }
    }

    /// A new entry below this one.
    fn below(&self, interface: &'static Interface, terms: Terms) -> Grant {
        let entry = self.ledger.enter(
            Some(self.entry.clone()),
            self.entry.session,
            Some(interface),
            terms,
            self.entry.cut.child_token(),
            self.entry.activity.clone(),
        );
        Grant { entry, ledger: self.ledger.clone() }
    }
}

/// A session's root entry; dropping it ends the session's capabilities.
pub(crate) struct Root(pub Grant);

impl Drop for Root {
    fn drop(&mut self) {
        self.0.entry.cut.cancel();
        self.0.ledger.release(&self.0.entry);
    }
}
