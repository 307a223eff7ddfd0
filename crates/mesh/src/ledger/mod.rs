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

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lm_schema::interfaces::Interface;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;

pub(crate) use calls::Call;
pub use calls::{CallRecord, CallState};
pub use entry::{CapabilityFacts, Terms, Verdict};
pub use grant::{Grant, Root};
pub(crate) use guard::told;
pub use tap::{TapBatch, TapCost, TapFilter, TapReader, TooManyTaps};
pub use totals::MethodTotals;

use calls::SlowCalls;
use entry::{Entry, LedgerClock};
use tap::Taps;
use totals::Totals;

/// Entries that a listing copies at a time.
const LISTED_AT_ONCE: usize = 1024;

/// All capabilities of a process. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    next_id: AtomicU64,
    next_call: AtomicU64,
    entries: Mutex<Entries>,
    totals: Totals,
    slow: SlowCalls,
    taps: Taps,
    clock: LedgerClock,
}

/// What stands: an entry is taken out when its peer has released it, when it
/// is revoked, and when its session ends, whichever is first.
#[derive(Default)]
struct Entries {
    by_id: BTreeMap<u64, Arc<Entry>>,
    /// Session and id: a subtree never leaves its session, so that ending one
    /// does not look at all the others.
    by_session: BTreeSet<(u64, u64)>,
}

impl Entries {
    fn insert(&mut self, entry: Arc<Entry>) {
        entry.activity.granted();
        self.by_session.insert((entry.session, entry.id));
        self.by_id.insert(entry.id, entry);
    }

    fn remove(&mut self, entry: &Entry) {
        if self.by_id.remove(&entry.id).is_some() {
            self.by_session.remove(&(entry.session, entry.id));
            entry.activity.released();
        }
    }

    /// Takes out whatever of a session is cut.
    fn remove_cut(&mut self, session: u64) -> Ended {
        let of_session = self.by_session.range((session, 0)..=(session, u64::MAX));
        let cut: Vec<_> = of_session
            .filter_map(|(_, id)| self.by_id.get(id))
            .filter(|entry| entry.cut.is_cancelled())
            .cloned()
            .collect();
        let mut ended = Ended::default();
        for entry in cut {
            match entry.interface {
                Some(_) => ended.capabilities += 1,
                None => ended.sessions += 1,
            }
            self.remove(&entry);
        }
        ended
    }
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
    pub fn root(&self, session: u64, holder: Arc<str>, activity: Arc<Activity>) -> Root {
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
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(id, parent, session, interface, terms, cut, activity));
        let mut entries = self.entries();
        // What is derived from a capability while that is being revoked is
        // refused like it, and must not stay in the list. Both sides look
        // while they hold the lock, after the cut.
        if !entry.cut.is_cancelled() {
            entries.insert(entry.clone());
        }
        drop(entries);
        entry
    }

    /// The peer has released the capability.
    fn release(&self, entry: &Entry) {
        self.entries().remove(entry);
    }

    /// Ends a capability and all that was derived from it. `None` when there
    /// is no such capability. A session's root takes its session along.
    pub fn revoke(&self, id: u64, verdict: &Verdict) -> Option<Ended> {
        let entry = self.entries().by_id.get(&id).cloned()?;
        Some(self.end(&[entry], verdict))
    }

    /// Ends these capabilities, and all that was derived from them, in one
    /// step; what is not there is left out.
    pub fn revoke_all(&self, ids: &[u64], verdict: &Verdict) -> Ended {
        let of: Vec<_> = {
            let entries = self.entries();
            ids.iter().filter_map(|id| entries.by_id.get(id).cloned()).collect()
        };
        self.end(&of, verdict)
    }

    /// Ends every capability and session of a holder.
    pub fn revoke_holder(&self, holder: &str, verdict: &Verdict) -> Ended {
        let is_of = |entry: &&Arc<Entry>| *entry.holder == *holder;
        let of: Vec<_> = self.entries().by_id.values().filter(is_of).cloned().collect();
        self.end(&of, verdict)
    }

    fn end(&self, entries: &[Arc<Entry>], verdict: &Verdict) -> Ended {
        let mut sessions = BTreeSet::new();
        for entry in entries {
            let _ = entry.verdict.set(verdict.clone());
            entry.cut.cancel();
            sessions.insert(entry.session);
        }
        let mut ended = Ended::default();
        for session in sessions {
            let of_session = self.entries().remove_cut(session);
            ended.capabilities += of_session.capabilities;
            ended.sessions += of_session.sessions;
        }
        ended
    }

    /// Cuts what is left of a session that has ended.
    fn end_session(&self, root: &Entry) {
        root.cut.cancel();
        self.entries().remove_cut(root.session);
    }

    /// How many capabilities there are, sessions' roots not counted.
    pub fn len(&self) -> usize {
        self.entries().by_id.values().filter(|entry| entry.interface.is_some()).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many capabilities there are of each interface.
    pub fn count_by_interface(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for interface in self.entries().by_id.values().filter_map(|entry| entry.interface) {
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
        let mut found = Vec::new();
        let mut after = after;
        loop {
            // A part at a time: while the lock is held, nobody is granted anything.
            let part: Vec<_> = {
                let entries = self.entries();
                let rest = entries.by_id.range((Bound::Excluded(after), Bound::Unbounded));
                rest.take(LISTED_AT_ONCE).map(|(_, entry)| entry.clone()).collect()
            };
            let Some(last) = part.last() else { return (found, false) };
            after = last.id;
            for facts in part.iter().map(|entry| entry.facts(&self.shared.clock)).filter(&is_wanted) {
                if found.len() == limit {
                    return (found, true);
                }
                found.push(facts);
            }
        }
    }

    /// Calls under way that have lasted at least `over`, longest first, then
    /// the latest finished ones that were slow; at most `limit`.
    pub fn calls(&self, over: Duration, limit: usize) -> Vec<CallRecord> {
        let now = Instant::now();
        let entries: Vec<_> = self.entries().by_id.values().cloned().collect();
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

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
