//! What the streams of one session hold here, for any thread to read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters (they only grow) and gauges of one session, over all its streams.
/// Written by the session's worker, read by anyone; each number is right by
/// itself, two of them need not fit together.
#[derive(Debug, Default)]
pub struct Meter {
    pub(crate) calls: Counter,
    pub(crate) calls_in_flight: Gauge,
    pub(crate) questions: Gauge,
    pub(crate) abandoned: Gauge,
    pub(crate) exports: Gauge,
    pub(crate) unsent_bytes: Gauge,
    pub(crate) held_bytes: Gauge,
    pub(crate) budget_bytes: Gauge,
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) message_bytes_in: Counter,
    pub(crate) message_bytes_out: Counter,
    pub(crate) read_pauses: Counter,
    pub(crate) violations: Counter,
}

/// The numbers of a [`Meter`] at one moment; the names are those of
/// `AdmissionFacts` in the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterFacts {
    /// Calls read on all streams.
    pub calls: u64,
    /// Calls read and neither answered nor cancelled.
    pub calls_in_flight: u64,
    /// Calls and bootstraps that the peer has not finished.
    pub questions: u64,
    /// References that the peer has not released.
    pub exports: u64,
    /// Messages that the transport has not taken yet.
    pub unsent_bytes: u64,
    /// Messages of the peer that methods still look at.
    pub held_bytes: u64,
    /// Of the ingest budget.
    pub budget_bytes: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub message_bytes_in: u64,
    pub message_bytes_out: u64,
    /// How often reading had to wait for a bound.
    pub read_pauses: u64,
    /// Bounds broken; each ended the connection.
    pub violations: u64,
}

impl Meter {
    pub fn facts(&self) -> MeterFacts {
        MeterFacts {
            calls: self.calls.value(),
            calls_in_flight: self.calls_in_flight.value(),
            questions: self.questions.value(),
            exports: self.exports.value(),
            unsent_bytes: self.unsent_bytes.value(),
            held_bytes: self.held_bytes.value(),
            budget_bytes: self.budget_bytes.value(),
            messages_in: self.messages_in.value(),
            messages_out: self.messages_out.value(),
            message_bytes_in: self.message_bytes_in.value(),
            message_bytes_out: self.message_bytes_out.value(),
            read_pauses: self.read_pauses.value(),
            violations: self.violations.value(),
        }
    }

    /// Our own calls that we cancelled and that were not answered since.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.value()
    }

    /// Calls read on all streams.
    pub fn calls(&self) -> u64 {
        self.calls.value()
    }

    /// Calls read and neither answered nor cancelled.
    pub fn calls_in_flight(&self) -> u64 {
        self.calls_in_flight.value()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
