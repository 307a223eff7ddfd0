//! What a session is doing, summed over its capabilities.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::Incidents;

/// Counters of one session; any thread may read them.
#[derive(Debug)]
pub struct Activity {
    calls: AtomicU64,
    in_flight: AtomicU32,
    in_flight_max: u32,
    refused: AtomicU64,
    capabilities: AtomicU32,
    /// Of the whole process.
    incidents: Arc<Incidents>,
}

impl Activity {
    /// `in_flight_max`: calls that a session may have under way; one more is
    /// answered `overloaded:` at once.
    pub fn new(in_flight_max: u32, incidents: Arc<Incidents>) -> Activity {
        Activity {
            calls: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            in_flight_max,
            refused: AtomicU64::new(0),
            capabilities: AtomicU32::new(0),
            incidents,
        }
    }

    pub(crate) fn begin(&self) -> Result<(), capnp::Error> {
        let under_way = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if under_way >= self.in_flight_max {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.incidents.calls_refused.fetch_add(1, Ordering::Relaxed);
            return Err(capnp::Error::overloaded(format!(
                "overloaded: {under_way} calls of this session are under way (at most {})",
                self.in_flight_max
            )));
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn granted(&self) {
        self.capabilities.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn released(&self) {
        self.capabilities.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls that were let in.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls that were answered `overloaded:` unseen.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Capabilities that the session holds, its root included.
    pub fn capabilities(&self) -> u32 {
        self.capabilities.load(Ordering::Relaxed)
    }
}
