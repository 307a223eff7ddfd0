//! Handing out and acknowledging.

use std::ops::ControlFlow;

use super::state::{KIND_PAYLOAD, KIND_SNAPSHOT, Lane, LaneKey, Mark, Reason, Written};
use super::{Context, IN_FLIGHT_MAX, Pending, Queue, ResumeAt, Sender};
use crate::format::SEGMENT_HEADER_BYTES;
use crate::{Error, Incarnation, Position, SegmentId};
use lm_fs::Fs;

impl<F: Fs> Queue<F> {
    /// What [`Queue::next_unsent`] would return, without moving. A loss that was seen keeps its range.
    pub fn peek(&mut self, stream: u8) -> Result<Option<Pending>, Error> {
        Ok(self.fetch(stream)?.map(|(pending, _, _)| pending))
    }

    /// The next synced record or loss of `stream` that was not handed out since the last rewind.
    ///
    /// Oldest incarnation first, in sequence order. `None`: nothing now, ask again after a sync.
    ///
    /// # Errors
    ///
    /// Nothing was handed out; a later call tries the same place again.
    pub fn next_unsent(&mut self, stream: u8) -> Result<Option<Pending>, Error> {
        let Some((pending, incarnation, end)) = self.fetch(stream)? else { return Ok(None) };
        let sender = &mut self.senders[usize::from(stream)];
        sender.at = Some((incarnation, end));
        if let (Pending::Payload { position, .. }, Some(cursor)) = (&pending, &mut sender.cursor) {
            debug_assert_eq!(cursor.position(), *position);
        }
        if sender.in_flight.len() < IN_FLIGHT_MAX {
            sender.in_flight.push_back((incarnation, end));
        }
        Ok(Some(pending))
    }

    /// Goes back to the first record that is not acknowledged.
    pub fn rewind(&mut self, stream: u8) {
        let _ = self.current(stream);
        let sender = &mut self.senders[usize::from(stream)];
        sender.at = None;
        sender.cursor = None;
    }

    /// Everything below `durable_end` is durable at the collector, below `landed_end` in the object store.
    ///
    /// Cumulative; smaller numbers than before, unknown incarnations and ends beyond what was synced change
    /// nothing more than they can. Made durable with later appends: losing it only causes a record to be sent
    /// again. Space is freed by the next sync.
    ///
    /// # Errors
    ///
    /// Only when a segment must be read to count what was acknowledged; nothing changed.
    pub fn acknowledge(
        &mut self,
        stream: u8,
        incarnation: Incarnation,
        durable_end: u64,
        landed_end: u64,
    ) -> Result<(), Error> {
        let _ = self.current(stream);
        let key = LaneKey { stream, incarnation };
        let Some(lane) = self.state.lanes.get(&key) else { return Ok(()) };
        let (before, landed_before) = (lane.acknowledged.sequence, lane.landed);
        let mark = self.mark_at(&key, lane, durable_end.min(lane.synced.sequence))?;
        let Some(lane) = self.state.lanes.get_mut(&key) else { return Ok(()) };
        lane.acknowledge(mark, landed_end);
        if lane.acknowledged.sequence == before && lane.landed == landed_before {
            return Ok(());
        }
        self.has_new_acknowledgements = true;
        let through = lane.acknowledged;
        let sender = &mut self.senders[usize::from(stream)];
        sender.in_flight.retain(|(sent, end)| *sent != incarnation || end.sequence > through.sequence);
        if let Some((sent, at)) = &mut sender.at
            && *sent == incarnation
            && at.sequence < through.sequence
        {
            *at = through;
        }
        Ok(())
    }

    /// Acknowledges what the collector says at login and rewinds every stream.
    pub fn resume(&mut self, resume: &[ResumeAt]) -> Result<(), Error> {
        for at in resume {
            self.acknowledge(at.stream, at.incarnation, at.durable_end, at.landed_end)?;
        }
        for stream in 0..self.options.streams {
            self.rewind(stream);
        }
        Ok(())
    }

    /// Shows the snapshot at the start of the segment of `position` and the payloads between it and `position`.
    ///
    /// With a damaged segment the snapshot or payloads may be missing.
    pub fn context(&self, position: Position, visit: &mut dyn FnMut(Context<'_>)) -> Result<(), Error> {
        self.visit(position.segment, Some(position), visit)
    }

    /// Shows the newest snapshot and every payload behind it: what a caller that starts needs to go on.
    pub fn latest_context(&self, visit: &mut dyn FnMut(Context<'_>)) -> Result<(), Error> {
        for segment in self.log.segments().rev() {
            let mut cursor = self.log.cursor(segment.start());
            while let Some(entry) = cursor.step(&self.log)? {
                if entry.position.segment != segment.id {
                    break;
                }
                if entry.header().kind == KIND_SNAPSHOT && cursor.load(&self.log, &entry)?.is_some() {
                    return self.visit(segment.id, None, visit);
                }
            }
        }
        let oldest = self.log.segments().next().map_or(0, |segment| segment.id);
        self.visit(oldest, None, visit)
    }

    fn visit(
        &self,
        from: SegmentId,
        until: Option<Position>,
        visit: &mut dyn FnMut(Context<'_>),
    ) -> Result<(), Error> {
        let mut cursor = self.log.cursor(Position { segment: from, offset: SEGMENT_HEADER_BYTES });
        let mut has_snapshot = false;
        while let Some((position, record)) = cursor.next(&self.log)? {
            if until.is_some_and(|until| position >= until) {
                break;
            }
            let header = record.header;
            match header.kind {
                KIND_SNAPSHOT if !has_snapshot => {
                    has_snapshot = true;
                    visit(Context::Snapshot(&record.payload));
                }
                KIND_PAYLOAD => visit(Context::Payload {
                    stream: header.stream,
                    incarnation: header.incarnation,
                    sequence: header.sequence,
                    payload: &record.payload,
                }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Finds what comes next, declaring what turns out to be unreadable on the way.
    fn fetch(&mut self, stream: u8) -> Result<Option<(Pending, Incarnation, Mark)>, Error> {
        let _ = self.current(stream);
        loop {
            let Some((key, at)) = self.unsent(stream) else { return Ok(None) };
            let lane = self.state.lanes.get_mut(&key).expect("unsent() returns a key of the map");
            if lane.loss_at(at.sequence).is_some() {
                return Ok(hand_out_loss(lane, &key, at));
            }
            let bound = lane.loss_after(at.sequence).unwrap_or(lane.synced);
            let hole_end = match self.find_payload(&key, at, bound)? {
                ControlFlow::Break((pending, end)) => return Ok(Some((pending, key.incarnation, end))),
                ControlFlow::Continue(hole_end) => hole_end,
            };
            let lane = self.state.lanes.get_mut(&key).expect("find_payload() removes no lanes");
            lane.declare(at, hole_end, Reason::Corrupt, Written::No, false);
            self.dropped.entry((stream, Reason::Corrupt)).or_default().add(at, hole_end);
        }
    }

    /// The first place of `stream` that was not handed out and is durable.
    fn unsent(&self, stream: u8) -> Option<(LaneKey, Mark)> {
        let sent = self.senders[usize::from(stream)].at;
        self.state.lanes_of(stream).find_map(|(key, lane)| {
            let at = match sent {
                Some((incarnation, _)) if key.incarnation < incarnation => return None,
                Some((incarnation, at)) if key.incarnation == incarnation => at,
                _ => lane.acknowledged,
            };
            (at.sequence < lane.synced.sequence).then_some((*key, at))
        })
    }

    /// Reads the payload at `at`, or says up to where there is none. `bound` is where the lane's next loss starts.
    fn find_payload(
        &mut self,
        key: &LaneKey,
        at: Mark,
        bound: Mark,
    ) -> Result<ControlFlow<(Pending, Mark), Mark>, Error> {
        let earlier = |one: Mark, other: Mark| if one.sequence < other.sequence { one } else { other };
        let holding = self.segments.iter().find_map(|(id, spans)| {
            spans.get(key).filter(|span| span.end.sequence > at.sequence).map(|span| (*id, *span))
        });
        let Some((segment, span)) = holding else { return Ok(ControlFlow::Continue(bound)) };
        if span.first.sequence > at.sequence {
            return Ok(ControlFlow::Continue(earlier(span.first, bound)));
        }
        let sender: &mut Sender<F> = &mut self.senders[usize::from(key.stream)];
        let start = Position { segment, offset: SEGMENT_HEADER_BYTES };
        // The cursor stands at the record handed out last, or nowhere useful.
        let cursor = match &mut sender.cursor {
            Some(cursor) if cursor.position().segment == segment => cursor,
            other => other.insert(self.log.cursor(start)),
        };
        let entered_at = cursor.position();
        while let Some(entry) = cursor.step(&self.log)? {
            if entry.position.segment != segment {
                break;
            }
            let header = *entry.header();
            if header.kind != KIND_PAYLOAD || LaneKey::of(&header) != *key || header.sequence < at.sequence {
                continue;
            }
            let payload = match cursor.load(&self.log, &entry) {
                Ok(payload) => payload,
                Err(error) => {
                    cursor.seek(entry.position);
                    return Err(error);
                }
            };
            let Some(payload) = payload else { continue };
            cursor.seek(entry.position);
            if header.sequence > at.sequence {
                return Ok(ControlFlow::Continue(earlier(Mark::before(&header), bound)));
            }
            let bytes = payload.len() as u64;
            let pending = Pending::Payload {
                incarnation: key.incarnation,
                sequence: header.sequence,
                items: header.items,
                bytes,
                payload,
                position: entry.position,
            };
            return Ok(ControlFlow::Break((pending, at.after(header.items, bytes))));
        }
        sender.cursor = None;
        if entered_at != start {
            // The cursor was ahead, after an acknowledgement or a peek: look again from the start.
            return self.find_payload(key, at, bound);
        }
        Ok(ControlFlow::Continue(earlier(span.end, bound)))
    }

    /// The mark at `sequence`, or the closest known one below it.
    fn mark_at(&self, key: &LaneKey, lane: &Lane, sequence: u64) -> Result<Mark, Error> {
        if sequence <= lane.acknowledged.sequence {
            return Ok(lane.acknowledged);
        }
        let in_flight = self.senders[usize::from(key.stream)].in_flight.iter();
        let sent = in_flight.filter(|(incarnation, _)| *incarnation == key.incarnation).map(|(_, end)| *end);
        let lost = lane.losses.values().flat_map(|loss| [loss.start, loss.end]);
        let spans = self.segments.values().filter_map(|spans| spans.get(key));
        let edges = spans.flat_map(|span| [span.first, span.end]);
        let mut known = [lane.synced].into_iter().chain(sent).chain(lost).chain(edges);
        if let Some(mark) = known.find(|mark| mark.sequence == sequence) {
            return Ok(mark);
        }
        if lane.loss_at(sequence).is_some() {
            // Inside a loss items cannot be divided; `Lane::acknowledge` cuts the range and keeps the items.
            return Ok(Mark { sequence, ..lane.acknowledged });
        }
        let holding = self.segments.iter().find(|(_, spans)| {
            spans.get(key).is_some_and(|span| span.first.sequence <= sequence && sequence < span.end.sequence)
        });
        let mut best = lane.acknowledged;
        if let Some((&segment, _)) = holding {
            let mut cursor = self.log.cursor(Position { segment, offset: SEGMENT_HEADER_BYTES });
            while let Some(entry) = cursor.step(&self.log)? {
                let header = entry.header();
                if entry.position.segment != segment {
                    break;
                }
                if header.kind != KIND_PAYLOAD || LaneKey::of(header) != *key {
                    continue;
                }
                let before = Mark::before(header);
                for mark in [before, before.after(header.items, entry.raw.len.into())] {
                    if mark.sequence <= sequence && mark.sequence > best.sequence {
                        best = mark;
                    }
                }
            }
        }
        Ok(best)
    }
}

/// Freezes the loss at `at` and describes it; `None` while it is not durable.
fn hand_out_loss(lane: &mut Lane, key: &LaneKey, at: Mark) -> Option<(Pending, Incarnation, Mark)> {
    let start = lane.loss_at(at.sequence)?.start.sequence;
    let loss = lane.losses.get_mut(&start)?;
    // Damage is found again by the next process: it needs no record to be true.
    if loss.written != Written::Durable && loss.reason != Reason::Corrupt {
        return None;
    }
    loss.is_frozen = true;
    let pending = Pending::Loss {
        incarnation: key.incarnation,
        start: loss.start.sequence,
        end: loss.end.sequence,
        items: loss.end.items.saturating_sub(loss.start.items),
        bytes: loss.end.bytes.saturating_sub(loss.start.bytes),
        reason: loss.reason,
    };
    Some((pending, key.incarnation, loss.end))
}
