//! What one query may use, counted by all that work for it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::answer::Stats;
use crate::engine::{Error, Interrupt, Limits};

/// Units of work (a sample looked at, a value computed) between two looks at
/// the caller's interrupt.
const WORK_BETWEEN_CHECKS: usize = 1 << 16;

/// Asks whether to go on.
pub(crate) type Ask<'a> = &'a (dyn Fn() -> Option<Interrupt> + Sync);

pub(crate) struct Budget<'a> {
    limits: &'a Limits,
    interrupt: Ask<'a>,
    /// Samples and values held now.
    held: AtomicUsize,
    peak: AtomicUsize,
    samples_read: AtomicUsize,
}

impl<'a> Budget<'a> {
    pub fn new(limits: &'a Limits, interrupt: Ask<'a>) -> Self {
        Budget {
            limits,
            interrupt,
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            samples_read: AtomicUsize::new(0),
        }
    }

    pub fn stats(&self) -> Stats {
        Stats {
            samples_read: self.samples_read.load(Ordering::Relaxed),
            samples_peak: self.peak.load(Ordering::Relaxed),
        }
    }

    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What is held after some of it went. Only while one thread works.
    pub fn set_held(&self, held: usize) {
        self.held.store(held, Ordering::Relaxed);
        self.peak.fetch_max(held, Ordering::Relaxed);
    }

    /// Samples and values that may still be taken up.
    pub fn room(&self) -> usize {
        self.limits.samples_max.saturating_sub(self.held())
    }

    /// Counts samples or values that are about to be held.
    pub fn charge(&self, samples: usize) -> Result<(), Error> {
        if samples > self.room() {
            return Err(self.too_many_samples());
        }
        let held = self.held.fetch_add(samples, Ordering::Relaxed) + samples;
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.limits.samples_max { Err(self.too_many_samples()) } else { Ok(()) }
    }

    /// Gives back what [`Budget::charge`] took.
    pub fn release(&self, samples: usize) {
        self.held.fetch_sub(samples, Ordering::Relaxed);
    }

    /// Counts samples that came from the store.
    pub fn count_read(&self, samples: usize) {
        self.samples_read.fetch_add(samples, Ordering::Relaxed);
    }

    pub fn too_many_samples(&self) -> Error {
        Error::Limit(format!(
            "query processing would load too many samples into memory: the limit is {}",
            self.limits.samples_max
        ))
    }

    pub fn check_interrupt(&self) -> Result<(), Error> {
        match (self.interrupt)() {
            None => Ok(()),
            Some(Interrupt::Canceled) => Err(Error::Canceled),
            Some(Interrupt::Timeout) => Err(Error::Timeout),
        }
    }
}

/// Counts the work of one thread, and now and then asks whether to go on.
#[derive(Default)]
pub(crate) struct WorkCount(usize);

impl WorkCount {
    pub fn add(&mut self, work: usize, budget: &Budget<'_>) -> Result<(), Error> {
        self.0 = self.0.saturating_add(work);
        if self.0 < WORK_BETWEEN_CHECKS {
            return Ok(());
        }
        self.0 = 0;
        budget.check_interrupt()
    }
}
