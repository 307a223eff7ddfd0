//! Threads that help with a query whose series are many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use lm_promql::Workers;

/// So many threads at most help with all queries together. They live as long
/// as the part of a query that they help with.
#[derive(Debug)]
pub struct Helpers {
    free: AtomicUsize,
}

impl Helpers {
    pub fn new(threads: usize) -> Self {
        Helpers { free: AtomicUsize::new(threads) }
    }

    /// Takes half of those that are free, one at least: no query gets all while
    /// there are several.
    fn take(&self) -> Taken<'_> {
        let half = |free: usize| Some(free - free.div_ceil(2));
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half).unwrap_or(0);
        Taken { helpers: self, count: free.div_ceil(2) }
    }
}

/// Helpers that are given back when dropped, also by a panic.
struct Taken<'h> {
    helpers: &'h Helpers,
    count: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.helpers.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

impl Workers for Helpers {
    fn run(&self, job: &(dyn Fn() + Sync)) {
        let taken = self.take();
        std::thread::scope(|scope| {
            for index in 0..taken.count {
                // Where none can be started, the others do its part.
                let _ = Builder::new().name(format!("query-help-{index}")).spawn_scoped(scope, job);
            }
            job();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn calls(helpers: &Helpers) -> usize {
        let calls = AtomicUsize::new(0);
        helpers.run(&|| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        calls.into_inner()
    }

    #[test]
    fn half_of_the_free_help_and_all_are_given_back() {
        let helpers = Helpers::new(4);
        assert_eq!(calls(&helpers), 3);
        // While one query has two, the next one gets one.
        let taken = helpers.take();
        assert_eq!(calls(&helpers), 2);
        drop(taken);
        assert!(catch_unwind(AssertUnwindSafe(|| helpers.run(&|| panic!("as a query may")))).is_err());
        assert_eq!(calls(&helpers), 3);
        assert_eq!(calls(&Helpers::new(0)), 1);
    }
}
