//! How long the oldest item in the queue has waited, without reading it.

use std::collections::VecDeque;

use lm_model::{Incarnation, Stream};

/// Of one stream. With as many every second one goes, and new ones are twice as
/// far apart: a long queue's age is then known to less than its hundredth.
const MARKS_MAX: usize = 512;
/// Batches closer together share a mark, at first.
const INTERVAL_MS: i64 = 1_000;

/// Remembers when some of the batches that are pending were queued, always the
/// oldest among them.
#[derive(Default)]
pub struct Ages {
    streams: [Marks; 3],
}

struct Marks {
    marks: VecDeque<Mark>,
    interval_ms: i64,
}

impl Default for Marks {
    fn default() -> Self {
        Marks { marks: VecDeque::new(), interval_ms: INTERVAL_MS }
    }
}

struct Mark {
    at: (Incarnation, u64),
    /// Of the newest item in the batch.
    unix_ms: i64,
}

impl Ages {
    /// A batch was queued behind all others of its stream.
    pub fn queued(&mut self, stream: Stream, incarnation: Incarnation, sequence: u64, unix_ms: i64) {
        let Marks { marks, interval_ms } = &mut self.streams[stream as usize];
        let is_close = |last: &Mark| {
            // A clock that was set back begins anew.
            last.at.0 == incarnation && (0..*interval_ms).contains(&(unix_ms - last.unix_ms))
        };
        if marks.back().is_some_and(is_close) {
            return;
        }
        if marks.len() == MARKS_MAX {
            let mut index = 0;
            marks.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            *interval_ms = interval_ms.saturating_mul(2);
        }
        marks.push_back(Mark { at: (incarnation, sequence), unix_ms });
    }

    /// Everything of `incarnation` below `end` is acknowledged, and so is what
    /// was before it.
    pub fn acknowledged(&mut self, stream: Stream, incarnation: Incarnation, end: u64) {
        let Marks { marks, .. } = &mut self.streams[stream as usize];
        // The batches up to the second mark may be older than it.
        while marks.get(1).is_some_and(|second| second.at <= (incarnation, end)) {
            marks.pop_front();
        }
    }

    /// When the oldest item of the streams that have any was queued, or a
    /// little before.
    pub fn oldest_unix_ms(&mut self, has_pending: [bool; 3]) -> Option<i64> {
        for (stream, has_pending) in self.streams.iter_mut().zip(has_pending) {
            if !has_pending {
                stream.marks.clear();
                stream.interval_ms = INTERVAL_MS;
            }
        }
        self.streams.iter().filter_map(|stream| stream.marks.front()).map(|mark| mark.unix_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Incarnation = Incarnation { ordinal: 1, nonce: 0 };
    const TWO: Incarnation = Incarnation { ordinal: 2, nonce: 0 };

    #[test]
    fn the_oldest_that_waits_counts() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest_unix_ms([true; 3]), None);
        ages.queued(Stream::Metrics, ONE, 7, 10_000);
        ages.queued(Stream::Metrics, ONE, 8, 10_500);
        ages.queued(Stream::Metrics, ONE, 9, 12_000);
        ages.queued(Stream::Metrics, TWO, 0, 30_000);
        ages.queued(Stream::Logs, TWO, 0, 11_000);
        let oldest = |ages: &mut Ages| ages.oldest_unix_ms([true; 3]);
        assert_eq!(oldest(&mut ages), Some(10_000));
        // 8 is still there, and as old as 7 for all that is known.
        ages.acknowledged(Stream::Metrics, ONE, 8);
        assert_eq!(oldest(&mut ages), Some(10_000));
        ages.acknowledged(Stream::Metrics, ONE, 9);
        assert_eq!(oldest(&mut ages), Some(11_000));
        ages.acknowledged(Stream::Metrics, TWO, 0);
        assert_eq!(ages.oldest_unix_ms([true, false, true]), Some(30_000));
        assert_eq!(ages.oldest_unix_ms([false; 3]), None);
        // The clock was set back.
        ages.queued(Stream::Metrics, TWO, 5, 40_000);
        ages.queued(Stream::Metrics, TWO, 6, 1_000);
        ages.acknowledged(Stream::Metrics, TWO, 6);
        assert_eq!(oldest(&mut ages), Some(1_000));
    }

    #[test]
    fn a_long_queue_takes_no_more_memory() {
        let mut ages = Ages::default();
        for n in 0..100_000 {
            ages.queued(Stream::Logs, ONE, n, 1_000 * n as i64);
        }
        assert!(ages.streams[Stream::Logs as usize].marks.len() <= MARKS_MAX);
        assert_eq!(ages.oldest_unix_ms([true; 3]), Some(0));
        ages.acknowledged(Stream::Logs, ONE, 50_000);
        let oldest = ages.oldest_unix_ms([true; 3]).unwrap();
        assert!((49_000_000..=50_000_000).contains(&oldest), "{oldest}");
    }
}
