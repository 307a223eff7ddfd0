//! Calls by interface and method since the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lm_schema::interfaces::{INTERFACES, Interface};
use lm_telemetry::{Histogram, Snapshot};

/// What became of the calls of one method.
#[derive(Clone, Copy, Debug)]
pub struct MethodTotals {
    pub interface: &'static str,
    pub method: &'static str,
    pub calls: u64,
    pub errors: u64,
    /// From the guard to the answer, of all calls.
    pub durations: Snapshot,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
    durations: Histogram,
}

/// One row a method, in the order of the schema's table.
pub(super) struct Totals {
    rows: Vec<Vec<Counters>>,
}

impl Totals {
    pub fn new() -> Totals {
        let row = |interface: &Interface| interface.methods.iter().map(|_| Counters::default()).collect();
        Totals { rows: INTERFACES.iter().map(row).collect() }
    }

    pub fn add(
        &self,
        interface: Option<&'static Interface>,
        method: u16,
        duration: Duration,
        has_failed: bool,
    ) {
        let Some(interface) = interface else { return };
        let Some(at) = INTERFACES.iter().position(|known| known.id == interface.id) else { return };
        let Some(counters) = self.rows[at].get(usize::from(method)) else { return };
        counters.calls.fetch_add(1, Ordering::Relaxed);
        counters.errors.fetch_add(u64::from(has_failed), Ordering::Relaxed);
        counters.durations.observe(duration);
    }

    /// Every method that was called.
    pub fn all(&self) -> Vec<MethodTotals> {
        let mut all = Vec::new();
        for (interface, row) in INTERFACES.iter().zip(&self.rows) {
            for (method, counters) in interface.methods.iter().zip(row) {
                let calls = counters.calls.load(Ordering::Relaxed);
                if calls == 0 {
                    continue;
                }
                all.push(MethodTotals {
                    interface: interface.name,
                    method: method.name,
                    calls,
                    errors: counters.errors.load(Ordering::Relaxed),
                    durations: counters.durations.snapshot(),
                });
            }
        }
        all
    }
}
