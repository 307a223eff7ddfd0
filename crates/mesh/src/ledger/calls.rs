//! One call: from the moment the guard lets it in to its answer.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lm_schema::interfaces::Interface;
use lm_telemetry::log::REQUEST;

use super::Grant;
use super::entry::{Entry, LedgerClock, ROOT};

/// A finished call that took longer is kept. Long polls are slow on purpose
/// and are not.
pub(super) const SLOW_AFTER: Duration = Duration::from_millis(100);
/// Slow calls that are kept, the latest.
const SLOW_MAX: usize = 256;

/// A call under way.
pub(super) struct InFlight {
    number: u64,
    method: u16,
    started: Instant,
    parameter_bytes: u64,
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    InFlight,
    Done,
    /// With the stable code of its error; `canceled` when the peer took it
    /// back or its session ended.
    Failed(String),
}

/// Facts of one call: never its contents.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub capability: u64,
    pub session: u64,
    pub holder: Arc<str>,
    pub interface: &'static str,
    pub method: &'static str,
    pub started_unix_ms: i64,
    /// So far, or in all.
    pub duration: Duration,
    /// A long poll.
    pub is_waiting: bool,
    /// Of the message that it came in.
    pub parameter_bytes: u64,
    pub state: CallState,
}

/// The latest slow calls.
#[derive(Default)]
pub(super) struct SlowCalls {
    calls: Mutex<VecDeque<CallRecord>>,
}

impl SlowCalls {
    fn add(&self, call: CallRecord) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() == SLOW_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// Newest first.
    pub fn latest(&self) -> Vec<CallRecord> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

pub(super) fn method_name(interface: Option<&'static Interface>, ordinal: usize) -> Option<&'static str> {
    interface?.methods.get(ordinal).map(|method| method.name)
}

/// Whether a method answers when something happens, not as soon as it can.
pub(super) fn is_waiting(interface: Option<&'static Interface>, ordinal: usize) -> bool {
    interface
        .and_then(|interface| interface.methods.get(ordinal))
        .is_some_and(|method| method.signature.contains("waitMs "))
}

/// A call that the guard let in. Dropping it without [`Call::finished`] counts
/// as canceled.
pub(crate) struct Call {
    grant: Grant,
    number: u64,
    method: u16,
    started: Instant,
    parameter_bytes: u64,
    is_finished: Cell<bool>,
}

impl Grant {
    /// Lets a call in, or says why not.
    pub(super) fn begin(
        &self,
        interface_id: u64,
        method: u16,
        parameter_bytes: u64,
    ) -> Result<Call, capnp::Error> {
        let entry = &*self.entry;
        self.check()?;
        // A method of another interface is refused by the server itself; here
        // it must not pass for one of ours.
        let is_ours = entry.interface.is_some_and(|interface| interface.id == interface_id);
        let method = if is_ours { method } else { u16::MAX };
        entry.activity.begin()?;
        let shared = &self.ledger.shared;
        let started = Instant::now();
        let number = shared.next_call.fetch_add(1, Ordering::Relaxed);
        entry.calls.fetch_add(1, Ordering::Relaxed);
        entry.bytes_received.fetch_add(parameter_bytes, Ordering::Relaxed);
        entry.last_method.store(i64::from(method), Ordering::Relaxed);
        let since = started.saturating_duration_since(shared.clock.base).as_millis() as i64;
        entry.last_use_ms.store(since, Ordering::Relaxed);
        entry.in_flight.lock().unwrap_or_else(PoisonError::into_inner).push(InFlight {
            number,
            method,
            started,
            parameter_bytes,
        });
        Ok(Call {
            grant: self.clone(),
            number,
            method,
            started,
            parameter_bytes,
            is_finished: Cell::new(false),
        })
    }
}

impl Call {
    /// Bytes of results that the method has made.
    pub(super) fn sent(&self, bytes: u64) {
        self.grant.entry.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn finished(&self, error: Option<&capnp::Error>) {
        if self.is_finished.replace(true) {
            return;
        }
        let state = error.map_or(CallState::Done, |error| CallState::Failed(stable_code(error)));
        self.leave(state);
    }

    fn leave(&self, state: CallState) {
        let entry = &*self.grant.entry;
        let shared = &self.grant.ledger.shared;
        let duration = self.started.elapsed();
        {
            let mut in_flight = entry.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = in_flight.iter().position(|call| call.number == self.number) {
                in_flight.swap_remove(at);
            }
        }
        entry.activity.end();
        let has_failed = state != CallState::Done;
        if has_failed {
            entry.errors.fetch_add(1, Ordering::Relaxed);
        }
        shared.totals.add(entry.interface, self.method, duration, has_failed);
        // Facts alone: what was asked and answered is nobody's business.
        tracing::debug!(
            target: REQUEST,
            rpc_system = "capnp",
            rpc_service = entry.interface.map_or(ROOT, |interface| interface.name),
            rpc_method = method_name(entry.interface, usize::from(self.method)).unwrap_or("unknown"),
            outcome = match &state {
                CallState::Failed(code) => &code[..],
                CallState::InFlight | CallState::Done => "ok",
            },
            duration_us = duration.as_micros() as u64,
            user = &entry.holder[..],
            session = entry.session,
            request_bytes = self.parameter_bytes,
            "call"
        );
        let is_slow = duration >= SLOW_AFTER && !is_waiting(entry.interface, usize::from(self.method));
        if !is_slow && !shared.taps.is_any() {
            return;
        }
        let record =
            entry.record(&shared.clock, self.method, self.started, duration, self.parameter_bytes, state);
        shared.taps.offer(&record);
        if is_slow {
            shared.slow.add(record);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_finished.get() {
            self.leave(CallState::Failed("canceled".to_owned()));
        }
    }
}

impl Entry {
    fn record(
        &self,
        clock: &LedgerClock,
        method: u16,
        started: Instant,
        duration: Duration,
        parameter_bytes: u64,
        state: CallState,
    ) -> CallRecord {
        CallRecord {
            capability: self.id,
            session: self.session,
            holder: self.holder.clone(),
            interface: self.interface.map_or(ROOT, |interface| interface.name),
            method: method_name(self.interface, usize::from(method)).unwrap_or("unknown"),
            started_unix_ms: clock.unix_ms(started),
            duration,
            is_waiting: is_waiting(self.interface, usize::from(method)),
            parameter_bytes,
            state,
        }
    }

    pub(super) fn calls_in_flight(&self, clock: &LedgerClock, now: Instant) -> Vec<CallRecord> {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let record = |call: &InFlight| {
            let duration = now.saturating_duration_since(call.started);
            self.record(clock, call.method, call.started, duration, call.parameter_bytes, CallState::InFlight)
        };
        in_flight.iter().map(record).collect()
    }
}

/// The word before the first colon when it is one of ours, else the kind.
fn stable_code(error: &capnp::Error) -> String {
    let text = &error.extra;
    match text.split_once(':') {
        Some((code, _))
            if (1..=16).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase()) =>
        {
            code.to_owned()
        }
        _ => match error.kind {
            capnp::ErrorKind::Overloaded => "overloaded",
            capnp::ErrorKind::Disconnected => "disconnected",
            capnp::ErrorKind::Unimplemented => "unimplemented",
            _ => "failed",
        }
        .to_owned(),
    }
}
