//! The ledger: every capability that was granted, to whom, for what, from
//! which other, and what became of it.
//!
//! A session's root is the first entry; everything else is derived from an
//! entry that is already there ([`Grant::derive`]) and dies with it. Revoking
//! cuts a whole subtree: one store that every descendant sees. The entries are
//! plain shared data, so that any thread may list, watch and revoke while the
//! capabilities themselves stay on their sessions' workers.

mod calls;
mod entry;
mod grant;
mod guard;
mod tap;
mod totals;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lm_schema::interfaces::Interface;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;

pub(crate) use calls::Call;
pub use calls::{CallRecord, CallState};
pub use entry::{CapabilityFacts, Terms, Verdict};
pub use grant::Grant;
pub(crate) use grant::Root;
pub use tap::{TapBatch, TapCost, TapFilter, TapReader, TooManyTaps};
pub use totals::MethodTotals;

use calls::SlowCalls;
use entry::{Entry, LedgerClock};
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
        Ledger {
            shared: Arc::new(Shared {
                next_id: AtomicU64::new(1),
                next_call: AtomicU64::new(1),
                entries: Mutex::default(),
                totals: Totals::new(),
                slow: SlowCalls::default(),
                taps: Taps::default(),
                clock: LedgerClock::new(),
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

    /// A grant that belongs to no session and never ends by itself: what tests
    /// of servers derive from.
    #[doc(hidden)]
    pub fn without_session(&self, holder: &str) -> Grant {
        let terms = Terms { holder: Some(Arc::from(holder)), ..Terms::default() };
        let activity = Arc::new(Activity::new(u32::MAX, Arc::default()));
        let entry = self.enter(None, 0, None, terms, CancellationToken::new(), activity);
        Grant { entry, ledger: self.clone() }
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
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(id, parent, session, interface, terms, cut, activity));
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
