//! Who gets bytes of a budget next. A plain state machine.
//!
//! A message takes its bytes step by step, as they are read. Whoever holds
//! least goes first; so while somebody waits nobody above an equal share gets
//! more, and a single session may hold all that nobody else asks for.
//!
//! Steps alone could deadlock: all bytes in half-read messages, each waiting
//! for more. So one largest message is set aside as *reserve*, and one message
//! at a time, the *finisher*, may use it. It can always be read to its end,
//! answered and given back; then the next becomes the finisher.

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
}

pub(super) struct Shares {
    total: u64,
    reserve: u64,
    used: u64,
    holders: HashMap<SessionId, Holder>,
    /// Sessions with a waiter: bytes held, oldest waiter, session.
    order: BTreeSet<(u64, WaiterId, SessionId)>,
    finisher: Option<(SessionId, LeaseId)>,
    next_waiter: WaiterId,
    waits: u64,
}

impl Shares {
    /// No lease may grow beyond `reserve`.
    pub fn new(total: u64, reserve: u64) -> Self {
        Shares {
            total: total.max(reserve.saturating_mul(2)),
            reserve,
            used: 0,
            holders: HashMap::new(),
            order: BTreeSet::new(),
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
        let fits = self.order.is_empty() && self.used + bytes <= self.total - self.reserve;
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
        self.give_back(session, bytes)
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
            if self.used + next.bytes <= self.total - self.reserve {
                granted.extend(self.grant(session, |waiter| waiter.id == first));
            } else if self.finisher.is_none() {
                self.finisher = Some((session, next.lease));
            } else {
                return granted;
            }
        }
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

    /// Every change of a holder goes through here: its place depends on both
    /// what it holds and what it waits for.
    fn change(&mut self, session: SessionId, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(session).or_default();
        if let Some(first) = holder.waiting.front() {
            self.order.remove(&(holder.bytes, first.id, session));
        }
        change(holder);
        match holder.waiting.front() {
            Some(first) => {
                self.order.insert((holder.bytes, first.id, session));
            }
            None if holder.bytes == 0 => {
                self.holders.remove(&session);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
