//! Watching calls as they finish: filtered, sampled, bounded, and with its
//! own cost counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CallRecord, CallState, Grant};

/// Taps at a time: each costs every call a look.
const TAPS_MAX: usize = 8;
/// Calls that wait for a reader; more are counted as missed.
const WAITING_MAX: usize = 1024;

/// Which calls a tap wants. Absent and empty: any.
#[derive(Clone, Debug, Default)]
pub struct TapFilter {
    pub session: Option<u64>,
    /// Whose calls are left out, whatever else matches.
    pub except_session: Option<u64>,
    pub capability: Option<u64>,
    pub holder: String,
    pub interface: String,
    pub method: String,
    pub errors_only: bool,
    /// Every how manieth match is taken; 0 and 1: each.
    pub sample_every: u32,
}

impl TapFilter {
    fn is_match(&self, call: &CallRecord) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted.eq_ignore_ascii_case(found);
        self.session.is_none_or(|session| session == call.session)
            && self.except_session != Some(call.session)
            && self.capability.is_none_or(|capability| capability == call.capability)
            && is(&self.holder, &call.holder)
            && is(&self.interface, call.interface)
            && is(&self.method, call.method)
            && !(self.errors_only && call.state == CallState::Done)
    }
}

/// What a tap has taken from the calls it watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCost {
    pub seen: u64,
    pub matched: u64,
    pub duration: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("overloaded: {TAPS_MAX} taps are open; close one first")]
pub struct TooManyTaps;

#[derive(Default)]
pub(super) struct Taps {
    /// Read at every call, so that without taps a call pays one load.
    open: Arc<AtomicUsize>,
    list: RwLock<Vec<Arc<Tap>>>,
}

struct Tap {
    filter: TapFilter,
    seen: AtomicU64,
    matched: AtomicU64,
    nanos: AtomicU64,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    is_closed: AtomicBool,
    /// Of the capability that it is read through.
    cut: OnceLock<CancellationToken>,
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<CallRecord>,
    missed: u64,
}

impl Taps {
    pub fn is_any(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    pub fn open(&self, filter: TapFilter) -> Result<TapReader, TooManyTaps> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.retain(|tap| tap.is_open());
        if list.len() >= TAPS_MAX {
            return Err(TooManyTaps);
        }
        let tap = Arc::new(Tap {
            filter,
            seen: AtomicU64::new(0),
            matched: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            waiting: Mutex::default(),
            arrived: Notify::new(),
            is_closed: false.into(),
            cut: OnceLock::new(),
        });
        list.push(tap.clone());
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(TapReader { tap, open: self.open.clone() })
    }

    pub fn offer(&self, call: &CallRecord) {
        if !self.is_any() {
            return;
        }
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        for tap in list.iter().filter(|tap| tap.is_open()) {
            tap.offer(call);
        }
    }
}

impl Tap {
    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
            && !self.cut.get().is_some_and(CancellationToken::is_cancelled)
    }

    fn offer(&self, call: &CallRecord) {
        let began = Instant::now();
        self.seen.fetch_add(1, Ordering::Relaxed);
        if self.filter.is_match(call) {
            let nth = self.matched.fetch_add(1, Ordering::Relaxed);
            if nth.is_multiple_of(u64::from(self.filter.sample_every.max(1))) {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.calls.len() == WAITING_MAX {
                    waiting.missed += 1;
                } else {
                    waiting.calls.push_back(call.clone());
                }
                drop(waiting);
                self.arrived.notify_one();
            }
        }
        self.nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// The reading end of a tap; dropping it closes the tap.
pub struct TapReader {
    tap: Arc<Tap>,
    open: Arc<AtomicUsize>,
}

/// What a tap hands out at a time.
#[derive(Debug)]
pub struct TapBatch {
    pub calls: Vec<CallRecord>,
    /// Calls that matched since the last batch and found no room.
    pub missed: u64,
    pub cost: TapCost,
}

impl TapReader {
    /// Ends with `grant` too: a peer may keep a revoked tap for as long as it
    /// likes, and it must cost nothing.
    pub fn until_revoked(self, grant: &Grant) -> TapReader {
        let _ = self.tap.cut.set(grant.entry.cut.clone());
        self
    }

    /// Calls that have finished, at most `limit`; waits up to `wait` for one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: calls are taken in the same turn in which they are returned.
    pub async fn next(&self, wait: Duration, limit: usize) -> TapBatch {
        let _ = tokio::time::timeout(wait, async {
            loop {
                let arrived = self.tap.arrived.notified();
                if !self.tap.waiting.lock().unwrap_or_else(PoisonError::into_inner).calls.is_empty() {
                    return;
                }
                arrived.await;
            }
        })
        .await;
        let mut waiting = self.tap.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.calls.len().min(limit);
        TapBatch {
            calls: waiting.calls.drain(..count).collect(),
            missed: std::mem::take(&mut waiting.missed),
            cost: TapCost {
                seen: self.tap.seen.load(Ordering::Relaxed),
                matched: self.tap.matched.load(Ordering::Relaxed),
                duration: Duration::from_nanos(self.tap.nanos.load(Ordering::Relaxed)),
            },
        }
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.tap.is_closed.store(true, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
