//! The live tail: the newest lines and notices in one shared, bounded ring.
//!
//! Readers hold a position, not a buffer of their own, so any number of slow
//! ones costs nothing; one that falls behind the ring is told how many events
//! it missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use lm_model::Labels;
use tokio::sync::watch;

/// Events and bytes that the ring keeps; the oldest go first.
const EVENTS_MAX: usize = 8192;
const BYTES_MAX: usize = 8 << 20;

/// Something that has just become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailEvent {
    Log { labels: Labels, time_unix_nano: i64, line: Box<[u8]> },
    Notice(Notice),
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub time_unix_nano: i64,
    /// Stable, lower_snake_case.
    pub code: String,
    pub agent: String,
    pub message: String,
    pub items: u64,
}

impl TailEvent {
    fn bytes(&self) -> usize {
        match self {
            TailEvent::Log { line, .. } => line.len() + 96,
            TailEvent::Notice(notice) => notice.message.len() + 192,
        }
    }
}

/// The newest events of one run of the collector.
pub struct Tail {
    /// Names this run: positions of another run mean nothing here.
    pub epoch: u64,
    ring: Mutex<Ring>,
    /// The position after the newest event.
    end: watch::Sender<u64>,
}

struct Ring {
    events: VecDeque<Arc<TailEvent>>,
    bytes: usize,
    /// Position of the first event that is kept.
    start: u64,
}

/// Position of a run's first event, so that 0 is "before all of them".
pub const FIRST: u64 = 1;

/// What a reader gets.
pub struct Slice {
    /// With their positions.
    pub events: Vec<(u64, Arc<TailEvent>)>,
    /// Events between the reader's position and the ring's start.
    pub missed: u64,
    /// Where to go on.
    pub next: u64,
}

impl Tail {
    pub fn new(epoch: u64) -> Self {
        let ring = Ring { events: VecDeque::new(), bytes: 0, start: FIRST };
        Tail { epoch, ring: Mutex::new(ring), end: watch::Sender::new(FIRST) }
    }

    pub fn publish(&self, events: impl IntoIterator<Item = TailEvent>) {
        let mut ring = self.locked();
        for event in events {
            ring.bytes += event.bytes();
            ring.events.push_back(Arc::new(event));
        }
        while ring.events.len() > EVENTS_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.events.pop_front() else { break };
            ring.bytes -= oldest.bytes();
            ring.start += 1;
        }
        let end = ring.start + ring.events.len() as u64;
        drop(ring);
        self.end.send_if_modified(|known| {
            let is_new = *known != end;
            *known = end;
            is_new
        });
    }

    /// The position after the newest event.
    pub fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Notifies when the end moves.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Up to `scan_max` events from `position` on, those that `keep` takes.
    pub fn read(&self, position: u64, scan_max: usize, keep: impl Fn(&TailEvent) -> bool) -> Slice {
        let (first, found) = {
            let ring = self.locked();
            let first = position.max(ring.start);
            let skip = (first - ring.start) as usize;
            let found: Vec<_> = ring.events.iter().skip(skip).take(scan_max).cloned().collect();
            (first, found)
        };
        let next = first + found.len() as u64;
        let events = (first..).zip(found).filter(|(_, event)| keep(event)).collect();
        Slice { events, missed: first - position.min(first), next }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> TailEvent {
        TailEvent::Log { labels: Labels::empty(), time_unix_nano: 0, line: text.as_bytes().into() }
    }

    #[test]
    fn readers_go_on_where_they_were() {
        let tail = Tail::new(1);
        tail.publish(["a", "b", "c"].map(line));
        let slice = tail.read(2, 10, |event| *event != line("b"));
        assert_eq!(slice.events.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3]);
        assert_eq!((slice.missed, slice.next, tail.end()), (0, 4, 4));
    }

    #[test]
    fn a_reader_that_lags_is_told_how_much_it_missed() {
        let tail = Tail::new(1);
        for _ in 0..EVENTS_MAX + 5 {
            tail.publish([line("x")]);
        }
        let slice = tail.read(2, 1, |_| true);
        assert_eq!((slice.missed, slice.events[0].0, slice.next), (4, 6, 7));
        let ring = tail.locked();
        assert_eq!(ring.events.len(), EVENTS_MAX);
    }

    #[test]
    fn the_ring_is_bounded_by_bytes_too() {
        let tail = Tail::new(1);
        let long = "x".repeat(1 << 20);
        tail.publish((0..20).map(|_| line(&long)));
        assert!(tail.locked().bytes <= BYTES_MAX);
    }
}
