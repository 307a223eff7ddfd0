//! Does the equation close: `accepted = stored + declared lost + queued`?
//!
//! Producers write known sequences: numbered lines into a followed, rotated
//! file ([`lines`]), and numbered samples and lines through a session of our
//! own ([`mesh`]). [`run()`] kills processes by a seeded schedule meanwhile,
//! then lets everything drain, asks all of it back through the public API and
//! answers every violation: a line lost, doubled, damaged, never written or
//! out of order, a missing measurement, an undeclared or needless loss.

pub mod lines;
pub mod mesh;
mod run;
mod samples;

pub use run::{Failure, Mutant, Options, Schedule, Summary, Target, run};

/// Violations of one kind that are told; a run that loses much says so briefly.
const TOLD_MAX: usize = 8;

/// Collects what is wrong, without drowning the reader.
#[derive(Debug, Default)]
pub struct Violations(Vec<String>);

impl Violations {
    pub fn add(&mut self, violation: impl Into<String>) {
        self.0.push(violation.into());
    }

    /// Adds the first of `items` and how many there are.
    pub fn add_all<T: std::fmt::Debug>(&mut self, what: &str, items: &[T]) {
        if !items.is_empty() {
            self.add(format!(
                "{what}: {} of them, first {:?}",
                items.len(),
                &items[..items.len().min(TOLD_MAX)]
            ));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}
