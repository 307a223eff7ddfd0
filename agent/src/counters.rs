//! What happened since the agent started, counted by whoever sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lm_model::{LossReason, Stream};

/// Written by both threads, read for our own series and heartbeats.
#[derive(Debug, Default)]
pub struct Counters {
    pub accepted_items: [AtomicU64; 3],
    /// Skipped because the queue was full and refuses: never accepted, so no loss.
    pub refused_items: [AtomicU64; 3],
    dropped_items: [[AtomicU64; LossReason::ALL.len()]; 3],
    /// Batches that the collector answered for good.
    pub sent_batches: AtomicU64,
    /// Sessions that were opened after the first.
    pub reconnects: AtomicU64,
    /// A session is open.
    pub has_session: AtomicBool,
    /// Collectors of the host that did not come back in their time.
    pub host_stalls: AtomicU64,
    /// How long the last cycle took.
    cycle_nanos: AtomicU64,
}

impl Counters {
    pub fn set_cycle(&self, took: Duration) {
        self.cycle_nanos.store(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How long the last cycle took.
    pub fn cycle(&self) -> Duration {
        Duration::from_nanos(self.cycle_nanos.load(Ordering::Relaxed))
    }

    /// What the queue has accepted since it was opened.
    pub fn set_accepted(&self, stream: Stream, items: u64) {
        self.accepted_items[stream as usize].store(items, Ordering::Relaxed);
    }

    /// What the queue has given up for `reason` since it was opened.
    pub fn set_dropped(&self, stream: Stream, reason: LossReason, items: u64) {
        self.dropped_items[stream as usize][reason as usize].store(items, Ordering::Relaxed);
    }

    pub fn dropped(&self, stream: Stream, reason: LossReason, items: u64) {
        self.dropped_items[stream as usize][reason as usize].fetch_add(items, Ordering::Relaxed);
    }

    /// Every kind of drop that happened, with its number of items.
    pub fn drops(&self) -> impl Iterator<Item = (Stream, LossReason, u64)> {
        let all = Stream::ALL.into_iter().flat_map(|s| LossReason::ALL.into_iter().map(move |r| (s, r)));
        all.filter_map(|(stream, reason)| {
            let items = self.dropped_items[stream as usize][reason as usize].load(Ordering::Relaxed);
            (items > 0).then_some((stream, reason, items))
        })
    }

    /// As [`drops`](Self::drops), and `reasons` of every stream in any case.
    pub fn drops_or_zero(&self, reasons: &[LossReason]) -> Vec<(Stream, LossReason, u64)> {
        let mut drops: Vec<_> = self.drops().collect();
        for (stream, reason) in Stream::ALL.into_iter().flat_map(|s| reasons.iter().map(move |r| (s, *r))) {
            if !drops.iter().any(|(s, r, _)| (*s, *r) == (stream, reason)) {
                drops.push((stream, reason, 0));
            }
        }
        drops
    }

    pub fn dropped_total(&self) -> u64 {
        self.drops().map(|(.., items)| items).sum()
    }
}
