//! The bounds of a stream as of now: they change when the peer logs in, and
//! when a ticket says what the stream is for.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::{Budget, Meter, StreamLimits};

pub(crate) struct Terms {
    limits: Cell<StreamLimits>,
    /// Whose budget incoming messages are taken from, and as which session.
    budget: RefCell<Option<(Budget, u64)>>,
    pub meter: Arc<Meter>,
}

impl Terms {
    pub fn new(limits: StreamLimits, meter: Arc<Meter>) -> Self {
        Terms { limits: Cell::new(limits), budget: RefCell::new(None), meter }
    }

    pub fn limits(&self) -> StreamLimits {
        self.limits.get()
    }

    /// From the next message on.
    pub fn change(&self, limits: StreamLimits, budget: Option<(Budget, u64)>) {
        self.limits.set(limits);
        *self.budget.borrow_mut() = budget;
    }

    /// Where an incoming message takes its memory from, if not from nowhere.
    pub fn lease(&self) -> Option<super::Lease> {
        self.budget.borrow().as_ref().map(|(budget, session)| budget.lease(*session, &self.meter))
    }
}
