//! The memory that batches of all sessions may take, from the first byte of a
//! message that is read to its answer. Who is next is decided by
//! [`super::shares`]; this is the waiting.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Meter;
use super::shares::{LeaseId, SessionId, Shares, WaiterId};

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
    next_lease: LeaseId,
}

impl State {
    /// Call the wakers after the lock is gone.
    #[must_use]
    fn settle(&mut self, granted: Vec<WaiterId>) -> Vec<Waker> {
        self.granted.extend(&granted);
        granted.iter().filter_map(|id| self.wakers.remove(id)).collect()
    }
}

impl Budget {
    /// `message_bytes_max` is the largest lease; the total is at least twice
    /// that.
    pub fn new(total_bytes: usize, message_bytes_max: usize) -> Self {
        let shares = Shares::new(total_bytes as u64, message_bytes_max as u64);
        let (wakers, granted) = (HashMap::new(), HashSet::new());
        Budget { state: Arc::new(Mutex::new(State { shares, wakers, granted, next_lease: 0 })) }
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
        Lease { budget: self.clone(), session, id: state.next_lease, bytes: 0, meter: meter.clone() }
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
    meter: Arc<Meter>,
}

impl Lease {
    /// Waits for `bytes` more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call leaves the lease as it was.
    pub(crate) fn grow(&mut self, bytes: usize) -> Grow<'_> {
        Grow { lease: self, bytes: bytes as u64, waiter: None }
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
}

impl Future for Grow<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        {
            let mut state = this.lease.budget.locked();
            let waiter = match this.waiter {
                Some(waiter) => Some(waiter).filter(|waiter| !state.granted.remove(waiter)),
                None => state.shares.request(this.lease.session, this.lease.id, this.bytes),
            };
            this.waiter = waiter;
            if let Some(waiter) = waiter {
                state.wakers.insert(waiter, cx.waker().clone());
                return Poll::Pending;
            }
        }
        let bytes = std::mem::take(&mut this.bytes);
        this.lease.took(bytes);
        Poll::Ready(())
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
