//! Opening a queue: replaying the log in order and declaring what is missing.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use super::state::{
    KIND_ACKNOWLEDGE, KIND_LOSS, KIND_PAYLOAD, KIND_STATE, Lane, LaneKey, Mark, Reason, State, Written,
    decode_loss,
};
use super::{Dropped, Queue, QueueOptions, Report, Sender, Spans, extend};
use crate::{Error, Incarnation, Log, SegmentId};
use lm_fs::Fs;

/// What replaying a log leaves behind.
#[derive(Debug, Default)]
struct Replay {
    state: State,
    segments: BTreeMap<SegmentId, Spans>,
    /// Contiguous payload records of each lane, ascending.
    runs: BTreeMap<LaneKey, Vec<(Mark, Mark)>>,
    ordinal_max: u64,
}

impl<F: Fs> Queue<F> {
    /// Opens the queue in `dir` and starts a new incarnation.
    ///
    /// `candidate` holds the wall clock in milliseconds and a random nonce; the ordinal becomes larger than every
    /// stored one. Holes that damage has left are declared with [`Reason::Corrupt`]. Nothing is written before the
    /// first append.
    ///
    /// # Errors
    ///
    /// As for [`Log::open`]. Nothing is ever deleted because it could not be read.
    pub fn open(
        fs: F,
        dir: &Path,
        options: QueueOptions,
        candidate: Incarnation,
    ) -> Result<(Queue<F>, Report), Error> {
        let (mut log, recovered) = Log::open(fs, dir, Self::log_options(&options))?;
        let mut replay = Replay::default();
        replay.run(&log)?;
        let mut dropped = BTreeMap::new();
        replay.declare_holes(&mut dropped);

        let ordinal = candidate.ordinal.max(replay.ordinal_max.saturating_add(1));
        let incarnation = Incarnation { ordinal, nonce: candidate.nonce };
        let mut state = replay.state;
        state.incarnation = incarnation;
        log.set_tag(tag(incarnation));
        let mut corrupt = Dropped::default();
        for found in dropped.values() {
            corrupt.records += found.records;
            corrupt.items += found.items;
            corrupt.bytes += found.bytes;
        }
        let streams = usize::from(options.streams);
        let sender = || Sender { at: None, cursor: None, in_flight: VecDeque::new() };
        let mut queue = Queue {
            log,
            state,
            segments: replay.segments,
            unsynced: Spans::new(),
            senders: (0..streams).map(|_| sender()).collect(),
            has_new_acknowledgements: false,
            needs_state: false,
            is_reserve_spent: true,
            accepted: vec![Dropped::default(); streams],
            dropped,
            trim_errors: 0,
            options,
        };
        queue.refill_reserve();
        Ok((queue, Report { incarnation, recovered, corrupt }))
    }
}

impl Replay {
    fn run<F: Fs>(&mut self, log: &Log<F>) -> Result<(), Error> {
        for segment in log.segments() {
            self.segments.entry(segment.id).or_default();
            let ordinal =
                segment.tag.and_then(|tag| tag.first_chunk().copied()).map_or(0, u64::from_le_bytes);
            self.ordinal_max = self.ordinal_max.max(ordinal);
        }
        let mut cursor = log.cursor_from_start();
        while let Some(entry) = cursor.step(log)? {
            let header = *entry.header();
            self.ordinal_max = self.ordinal_max.max(header.incarnation.ordinal);
            if header.kind == KIND_PAYLOAD {
                let before = Mark::before(&header);
                let after = before.after(header.items, entry.raw.len.into());
                self.payload(entry.position.segment, LaneKey::of(&header), before, after);
                continue;
            }
            if ![KIND_STATE, KIND_LOSS, KIND_ACKNOWLEDGE].contains(&header.kind) {
                continue;
            }
            let Some(payload) = cursor.load(log, &entry)? else { continue };
            match header.kind {
                KIND_STATE => {
                    if let Some(state) = State::decode(&payload) {
                        self.ordinal_max = self.ordinal_max.max(state.incarnation.ordinal);
                        // Log order is time order: a state record replaces all that was known before it.
                        self.state = state;
                    }
                }
                KIND_LOSS => {
                    if let Some((start, end, reason)) = decode_loss(&header, &payload) {
                        let lane = self.state.lanes.entry(LaneKey::of(&header)).or_default();
                        reach(lane, end);
                        if end.sequence > lane.acknowledged.sequence {
                            lane.replay_loss(start, end, reason);
                            lane.acknowledge(lane.acknowledged, lane.landed);
                        }
                    }
                }
                _ => {
                    let _ = self.state.replay_acknowledged(&payload);
                }
            }
        }
        Ok(())
    }

    fn payload(&mut self, segment: SegmentId, key: LaneKey, before: Mark, after: Mark) {
        reach(self.state.lanes.entry(key).or_default(), after);
        extend(self.segments.entry(segment).or_default(), key, before, after);
        let runs = self.runs.entry(key).or_default();
        match runs.last_mut() {
            Some((_, end)) if end.sequence == before.sequence => *end = after,
            Some((_, end)) if end.sequence > before.sequence => {}
            _ => runs.push((before, after)),
        }
    }

    /// Declares what lies before and between the records of each lane and is neither acknowledged nor lost already.
    fn declare_holes(&mut self, dropped: &mut BTreeMap<(u8, Reason), Dropped>) {
        for (key, lane) in &mut self.state.lanes {
            let runs = self.runs.remove(key).unwrap_or_default();
            let mut from = lane.acknowledged;
            for (start, end) in runs.into_iter().chain([(lane.next, lane.next)]) {
                if start.sequence > from.sequence {
                    for (start, end) in lane.uncovered(from, start) {
                        dropped.entry((key.stream, Reason::Corrupt)).or_default().add(start, end);
                        lane.declare(start, end, Reason::Corrupt, Written::No, false);
                    }
                }
                if end.sequence > from.sequence {
                    from = end;
                }
            }
        }
        // A lane that an old segment still mentions and a later state record does not is finished.
    }
}

/// Everything read from the log is durable, so a lane reaches at least to `end`.
fn reach(lane: &mut Lane, end: Mark) {
    for mark in [&mut lane.next, &mut lane.appended, &mut lane.synced] {
        if mark.sequence < end.sequence {
            *mark = end;
        }
    }
}

pub(super) fn tag(incarnation: Incarnation) -> [u8; 16] {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&incarnation.ordinal.to_le_bytes());
    tag[8..].copy_from_slice(&incarnation.nonce.to_le_bytes());
    tag
}
