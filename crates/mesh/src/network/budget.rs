//! The memory that batches of all sessions may take, from the first byte of a
//! message that is read to its answer. Who is next is decided by
//! [`super::shares`]; this is the waiting.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Meter;
use super::shares::{LeaseId, SessionId, Shares, WaiterId};

/// What each session may hold of a quarter of the budget that is kept for
/// such: a few usual batches.
const ALLOWANCE_BYTES: u64 = 256 << 10;

/// A budget of a process. Cheap to clone.
#[derive(Clone)]
pub struct Budget {
    state: Arc<Mutex<State>>,
}

struct State {
    shares: Shares,
    wakers: HashMap<WaiterId, Waker>,
    /// Granted, and the waiter has not looked yet.
    granted: HashSet<WaiterId>,
    /// Of leases that are slow.
    slow_wakers: HashMap<LeaseId, Waker>,
    /// Told to end, and has not looked yet.
    cuts: HashSet<LeaseId>,
    next_lease: LeaseId,
}

impl State {
    /// Call the wakers after the lock is gone.
    #[must_use]
    fn settle(&mut self, granted: Vec<WaiterId>) -> Vec<Waker> {
        self.granted.extend(&granted);
        let mut wakers: Vec<_> = granted.iter().filter_map(|id| self.wakers.remove(id)).collect();
        if let Some(lease) = self.shares.next_cut() {
            self.cuts.insert(lease);
            wakers.extend(self.slow_wakers.remove(&lease));
        }
        wakers
    }

    fn not_slow(&mut self, lease: LeaseId) {
        self.slow_wakers.remove(&lease);
        self.cuts.remove(&lease);
    }
}

impl Budget {
    /// `message_bytes_max` is the largest lease; the total is at least twice
    /// that.
    pub fn new(total_bytes: usize, message_bytes_max: usize) -> Self {
        let state = State {
            shares: Shares::new(total_bytes as u64, message_bytes_max as u64, ALLOWANCE_BYTES),
            wakers: HashMap::new(),
            granted: HashSet::new(),
            slow_wakers: HashMap::new(),
            cuts: HashSet::new(),
            next_lease: 0,
        };
        Budget { state: Arc::new(Mutex::new(state)) }
    }

    /// Bytes in use. May exceed the total by what [`Budget::lease_now`] took.
    pub fn used_bytes(&self) -> u64 {
        self.locked().shares.used()
    }

    pub fn total_bytes(&self) -> u64 {
        self.locked().shares.total()
    }

    /// How often a message had to wait.
    pub fn waits(&self) -> u64 {
        self.locked().shares.waits()
    }

    /// A lease of `bytes`, at once, even over the total: for bytes that are in
    /// memory already. A method that has copied a batch takes this before it
    /// drops its parameters, so that the budget is exceeded by at most one
    /// message a thread, and only for as long as the copy takes.
    pub fn lease_now(&self, session: u64, meter: &Arc<Meter>, bytes: usize) -> Lease {
        let mut lease = self.lease(session, meter);
        self.locked().shares.take_now(session, bytes as u64);
        lease.took(bytes as u64);
        lease
    }

    /// An empty lease, to grow.
    pub(crate) fn lease(&self, session: u64, meter: &Arc<Meter>) -> Lease {
        let mut state = self.locked();
        state.next_lease += 1;
        let id = state.next_lease;
        Lease { budget: self.clone(), session, id, bytes: 0, is_slow: false, meter: meter.clone() }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        // No code that can panic runs between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a [`Budget`], given back on drop.
pub struct Lease {
    budget: Budget,
    session: SessionId,
    id: LeaseId,
    bytes: u64,
    is_slow: bool,
    meter: Arc<Meter>,
}

impl Lease {
    /// Waits for `bytes` more. Answers whether it had to wait.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call leaves the lease as it was.
    pub(crate) fn grow(&mut self, bytes: usize) -> Grow<'_> {
        // Who waits is not slow: it could not end if it was told to.
        self.not_slow();
        Grow { lease: self, bytes: bytes as u64, waiter: None, has_waited: false }
    }

    /// Says that the bytes it was made for come slowly. Ready when it has to
    /// be given up for others.
    pub(super) fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wakers = {
            let mut state = self.budget.locked();
            if !std::mem::replace(&mut self.is_slow, true) {
                state.shares.set_slow(self.session, self.id, true);
            }
            let wakers = state.settle(Vec::new());
            if state.cuts.contains(&self.id) {
                return Poll::Ready(());
            }
            state.slow_wakers.insert(self.id, cx.waker().clone());
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    /// Takes [`Lease::poll_slow`] back.
    pub(super) fn not_slow(&mut self) {
        if !std::mem::take(&mut self.is_slow) {
            return;
        }
        let wakers = {
            let mut state = self.budget.locked();
            state.not_slow(self.id);
            state.shares.set_slow(self.session, self.id, false);
            state.settle(Vec::new())
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn took(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.meter.budget_bytes.add(bytes);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.meter.budget_bytes.sub(self.bytes);
        let wakers = {
            let mut state = self.budget.locked();
            state.not_slow(self.id);
            let granted = state.shares.release(self.session, self.id, self.bytes);
            state.settle(granted)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A lease that waits to grow.
pub(crate) struct Grow<'a> {
    lease: &'a mut Lease,
    bytes: u64,
    waiter: Option<WaiterId>,
    has_waited: bool,
}

impl Future for Grow<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let told = {
            let mut state = this.lease.budget.locked();
            let waiter = match this.waiter {
                Some(waiter) => Some(waiter).filter(|waiter| !state.granted.remove(waiter)),
                None => state.shares.request(this.lease.session, this.lease.id, this.bytes),
            };
            this.waiter = waiter;
            waiter.map(|waiter| {
                state.wakers.insert(waiter, cx.waker().clone());
                state.settle(Vec::new())
            })
        };
        if let Some(told) = told {
            this.has_waited = true;
            told.into_iter().for_each(Waker::wake);
            return Poll::Pending;
        }
        let bytes = std::mem::take(&mut this.bytes);
        this.lease.took(bytes);
        Poll::Ready(this.has_waited)
    }
}

impl Drop for Grow<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter else { return };
        let wakers = {
            let mut state = self.lease.budget.locked();
            state.wakers.remove(&waiter);
            let granted = if state.granted.remove(&waiter) {
                // Granted and never taken: back to the others. The finisher's
                // place goes with its lease.
                state.shares.give_back(self.lease.session, self.bytes)
            } else {
                state.shares.cancel(self.lease.session, waiter)
            };
            state.settle(granted)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
