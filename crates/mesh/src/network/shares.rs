//! Who gets bytes of a budget next. A plain state machine.
//!
//! A message takes its bytes step by step, as they are read. The first bytes
//! that a session holds, its *allowance*, come out of a pool that nothing else
//! may use: who sends little never waits for those who hold much. What is above
//! comes out of the rest, which all share. There whoever holds least goes
//! first; so while somebody waits nobody above an equal share gets more, and a
//! single session may hold all of it while nobody else asks.
//!
//! Steps alone could deadlock: all bytes in half-read messages, each waiting
//! for more. So one largest message is set aside as *reserve*, and one message
//! at a time, the *finisher*, may use it. It can always be read to its end,
//! answered and given back; then the next becomes the finisher.
//!
//! A message whose bytes come slowly keeps its own as long as nobody waits.
//! Then it is *cut*: of the slow sessions the one that holds most, one at a
//! time, and never for one that holds as much itself.

use std::collections::{BTreeSet, HashMap, VecDeque};

pub(super) type SessionId = u64;
pub(super) type LeaseId = u64;
pub(super) type WaiterId = u64;

struct Waiter {
    id: WaiterId,
    lease: LeaseId,
    bytes: u64,
}

#[derive(Default)]
struct Holder {
    bytes: u64,
    waiting: VecDeque<Waiter>,
    /// Leases that could go on, and hardly do.
    slow: Vec<LeaseId>,
}

pub(super) struct Shares {
    total: u64,
    reserve: u64,
    /// Of one session, and of all together.
    allowance: u64,
    pool: u64,
    used: u64,
    /// Held by sessions within their allowance, be there room or not.
    allowed: u64,
    holders: HashMap<SessionId, Holder>,
    /// Sessions with a waiter: bytes held, oldest waiter, session.
    order: BTreeSet<(u64, WaiterId, SessionId)>,
    /// Sessions with a slow lease: bytes held, session.
    slow: BTreeSet<(u64, SessionId)>,
    /// Was told to end, and has not.
    cut: Option<LeaseId>,
    finisher: Option<(SessionId, LeaseId)>,
    next_waiter: WaiterId,
    waits: u64,
}

impl Shares {
    /// No lease may grow beyond `reserve`. A quarter of the total is for the
    /// `allowance` that each session has.
    pub fn new(total: u64, reserve: u64, allowance: u64) -> Self {
        let total = total.max(reserve.saturating_mul(2));
        Shares {
            total,
            reserve,
            allowance,
            pool: total / 4,
            used: 0,
            allowed: 0,
            holders: HashMap::new(),
            order: BTreeSet::new(),
            slow: BTreeSet::new(),
            cut: None,
            finisher: None,
            next_waiter: 0,
            waits: 0,
        }
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    /// How often somebody had to wait.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Asks for `bytes` more. `None`: granted. Otherwise the waiter, which a
    /// later call reports as granted.
    pub fn request(&mut self, session: SessionId, lease: LeaseId, bytes: u64) -> Option<WaiterId> {
        let (shared, more) = (self.shared(), self.more_shared(session, bytes));
        let fits = more == 0 || self.order.is_empty() && shared + more <= self.shared_max();
        if fits || self.finisher == Some((session, lease)) {
            self.take_now(session, bytes);
            return None;
        }
        let id = self.next_waiter;
        self.next_waiter += 1;
        self.change(session, |holder| holder.waiting.push_back(Waiter { id, lease, bytes }));
        let granted = self.grants();
        if granted.contains(&id) {
            debug_assert_eq!(granted.len(), 1, "nobody else's turn has come by asking");
            return None;
        }
        self.waits += 1;
        Some(id)
    }

    /// Takes `bytes` without asking. May exceed the total.
    pub fn take_now(&mut self, session: SessionId, bytes: u64) {
        self.used += bytes;
        self.change(session, |holder| holder.bytes += bytes);
    }

    /// Ends a lease and gives back all its `bytes`. Returns whose turn it is.
    #[must_use = "waiters must be woken"]
    pub fn release(&mut self, session: SessionId, lease: LeaseId, bytes: u64) -> Vec<WaiterId> {
        if self.finisher == Some((session, lease)) {
            self.finisher = None;
        }
        self.set_slow(session, lease, false);
        self.give_back(session, bytes)
    }

    /// Whether the bytes of a lease come slowly. One that waits is not slow.
    pub fn set_slow(&mut self, session: SessionId, lease: LeaseId, is_slow: bool) {
        self.change(session, |holder| {
            holder.slow.retain(|other| *other != lease);
            if is_slow {
                holder.slow.push(lease);
            }
        });
        if !is_slow && self.cut == Some(lease) {
            self.cut = None;
        }
    }

    /// The lease that has to end so that others may go on: released, or not
    /// slow any more. Until then there is no other.
    #[must_use = "it must be told"]
    pub fn next_cut(&mut self) -> Option<LeaseId> {
        let (&(asking, ..), &(most, session)) = (self.order.first()?, self.slow.last()?);
        if self.cut.is_some() || most <= asking {
            return None;
        }
        self.cut = self.holders[&session].slow.first().copied();
        self.cut
    }

    /// Gives back some bytes of a lease that goes on. Returns whose turn it is.
    #[must_use = "waiters must be woken"]
    pub fn give_back(&mut self, session: SessionId, bytes: u64) -> Vec<WaiterId> {
        self.used -= bytes;
        self.change(session, |holder| holder.bytes -= bytes);
        self.grants()
    }

    /// Forgets a waiter that was not granted. Returns whose turn it is.
    #[must_use = "waiters must be woken"]
    pub fn cancel(&mut self, session: SessionId, waiter: WaiterId) -> Vec<WaiterId> {
        self.change(session, |holder| holder.waiting.retain(|other| other.id != waiter));
        self.grants()
    }

    fn grants(&mut self) -> Vec<WaiterId> {
        let mut granted = Vec::new();
        loop {
            if let Some((session, lease)) = self.finisher
                && let Some(id) = self.grant(session, |waiter| waiter.lease == lease)
            {
                granted.push(id);
                continue;
            }
            let Some(&(_, first, session)) = self.order.first() else { return granted };
            let next = &self.holders[&session].waiting[0];
            let (next_bytes, next_lease) = (next.bytes, next.lease);
            let more = self.more_shared(session, next_bytes);
            if more == 0 || self.shared() + more <= self.shared_max() {
                granted.extend(self.grant(session, |waiter| waiter.id == first));
            } else if self.finisher.is_none() {
                self.finisher = Some((session, next_lease));
            } else {
                return granted;
            }
        }
    }

    /// Of what all share, the finisher's included.
    fn shared(&self) -> u64 {
        self.used - self.allowed.min(self.pool)
    }

    fn shared_max(&self) -> u64 {
        self.total - self.reserve - self.pool
    }

    /// What `bytes` more of a session take of what all share.
    fn more_shared(&self, session: SessionId, bytes: u64) -> u64 {
        let held = self.holders.get(&session).map_or(0, |holder| holder.bytes);
        let allowed = self.allowed + (held + bytes).min(self.allowance) - held.min(self.allowance);
        self.used + bytes - allowed.min(self.pool) - self.shared()
    }

    fn grant(&mut self, session: SessionId, is_meant: impl Fn(&Waiter) -> bool) -> Option<WaiterId> {
        let waiting = &self.holders.get(&session)?.waiting;
        let at = waiting.iter().position(is_meant)?;
        let Waiter { id, bytes, .. } = waiting[at];
        self.change(session, |holder| {
            holder.waiting.remove(at);
        });
        self.take_now(session, bytes);
        Some(id)
    }

    /// Every change of a holder goes through here: its places depend on what
    /// it holds, what it waits for, and what is slow.
    fn change(&mut self, session: SessionId, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(session).or_default();
        if let Some(first) = holder.waiting.front() {
            self.order.remove(&(holder.bytes, first.id, session));
        }
        if !holder.slow.is_empty() {
            self.slow.remove(&(holder.bytes, session));
        }
        self.allowed -= holder.bytes.min(self.allowance);
        change(holder);
        self.allowed += holder.bytes.min(self.allowance);
        if let Some(first) = holder.waiting.front() {
            self.order.insert((holder.bytes, first.id, session));
        }
        if !holder.slow.is_empty() {
            self.slow.insert((holder.bytes, session));
        }
        if holder.bytes == 0 && holder.waiting.is_empty() && holder.slow.is_empty() {
            self.holders.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests;
