//! Making room: removing what is not needed, then what the policy gives up.

use super::state::{LaneKey, Mark, Reason, Written};
use super::{OnFull, Queue, Snapshot, Span};
use crate::{Error, SegmentId};
use lm_fs::{File, Fs};

/// Holds disk space for declaring losses when everything else is full.
const RESERVE_FILE: &str = "reserve";

impl<F: Fs> Queue<F> {
    /// What batches may occupy.
    pub(super) fn limit(&self) -> u64 {
        self.options.bytes_max - self.options.reserve_bytes.min(self.options.bytes_max / 4)
    }

    /// Makes room for a payload of `len` bytes; `false` if the policy gives up nothing for it.
    pub(super) fn make_room(&mut self, len: u64, snapshot: Snapshot<'_>) -> Result<bool, Error> {
        // Each turn removes a segment or ends the loop.
        while self.log.bytes_after(len) > self.limit() {
            let oldest_kept = self.removable(false).next();
            if let Some(id) = oldest_kept {
                self.remove(&[id], snapshot)?;
                continue;
            }
            if self.options.on_full != OnFull::DropOldest {
                return Ok(false);
            }
            if !self.drop_oldest(snapshot)? {
                // Nothing is pending on disk: the snapshot alone is larger than the queue may be.
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Frees a segment on a full disk: an acknowledged one, else the oldest if the policy says so.
    pub(super) fn free_segment(&mut self, snapshot: Snapshot<'_>) -> Result<bool, Error> {
        self.spend_reserve();
        let oldest_kept = self.removable(false).next();
        if let Some(id) = oldest_kept {
            self.remove(&[id], snapshot)?;
            return Ok(true);
        }
        Ok(self.options.on_full == OnFull::DropOldest && self.drop_oldest(snapshot)?)
    }

    /// Gives the reserve file back to a full disk, so that a loss can be written, in a segment no larger than it
    /// must be.
    pub(super) fn spend_reserve(&mut self) {
        self.is_reserve_spent = true;
        self.log.set_preallocate(false);
        let _ = self.log.fs().remove(&self.log.dir().join(RESERVE_FILE));
    }

    /// Takes the reserve again, if the disk has room.
    pub(super) fn refill_reserve(&mut self) {
        let path = self.log.dir().join(RESERVE_FILE);
        let bytes = self.options.bytes_max - self.limit();
        let fs = self.log.fs();
        let file = fs.open(&path).or_else(|_| fs.create_new(&path));
        if file.and_then(|file| file.allocate(bytes)).is_ok() {
            self.is_reserve_spent = false;
            self.log.set_preallocate(self.options.preallocate);
        } else {
            let _ = self.log.fs().remove(&path);
        }
    }

    /// Removes segments of which everything is acknowledged and landed, or declared lost.
    pub(super) fn trim(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        let ids: Vec<SegmentId> = self.removable(true).collect();
        if !ids.is_empty() {
            self.remove(&ids, snapshot)?;
        }
        let current = self.state.incarnation;
        let segments = &self.segments;
        self.state.lanes.retain(|key, lane| {
            key.incarnation == current
                || !lane.is_finished()
                || segments.values().any(|spans| spans.contains_key(key))
        });
        Ok(())
    }

    /// Segments without a record that is still needed, oldest first.
    fn removable(&self, must_be_landed: bool) -> impl Iterator<Item = SegmentId> {
        let active = self.log.active();
        let candidates = self.log.segments().map(|segment| segment.id).filter(move |id| Some(*id) != active);
        candidates.filter(move |id| {
            let spans = self.segments.get(id).into_iter().flatten();
            let mut lanes = spans.filter_map(|(key, span)| Some((self.state.lanes.get(key)?, span)));
            lanes.all(|(lane, span)| lane.covers(span.first.sequence, span.end.sequence, must_be_landed))
        })
    }

    /// Removes segments after what makes them unnecessary is durable in a newer one.
    fn remove(&mut self, ids: &[SegmentId], snapshot: Snapshot<'_>) -> Result<(), Error> {
        let active = self.log.active();
        let has_durable_state = active.is_some_and(|id| self.log.segments().any(|segment| segment.id == id));
        if self.has_new_acknowledgements || !has_durable_state {
            self.append_losses(snapshot)?;
            self.append_acknowledgements(snapshot)?;
        }
        if self.log.unsynced_bytes() > 0 {
            self.sync_log(snapshot)?;
        }
        for &id in ids {
            self.log.remove_segment(id)?;
            self.segments.remove(&id);
        }
        Ok(())
    }

    /// Gives up the oldest segment with pending records; `false` if there is none.
    fn drop_oldest(&mut self, snapshot: Snapshot<'_>) -> Result<bool, Error> {
        let Some(id) = self.oldest_pending() else { return Ok(false) };
        if Some(id) == self.log.active() {
            self.roll(snapshot)?;
        }
        let spans: Vec<(LaneKey, Span)> =
            self.segments.get(&id).into_iter().flatten().map(|(key, span)| (*key, *span)).collect();
        for (key, span) in spans {
            self.declare_dropped(&key, &span);
        }
        self.append_losses(snapshot)?;
        self.sync_log(snapshot)?;
        self.remove(&[id], snapshot)?;
        Ok(true)
    }

    fn oldest_pending(&self) -> Option<SegmentId> {
        let pending = |key: &LaneKey, span: &Span| {
            let lane = self.state.lanes.get(key);
            lane.is_some_and(|lane| !lane.covers(span.first.sequence, span.end.sequence, false))
        };
        self.segments
            .iter()
            .find(|(_, spans)| spans.iter().any(|(key, span)| pending(key, span)))
            .map(|(id, _)| *id)
    }

    /// Declares the pending part of a span lost. What is in flight is declared record by record: the collector may
    /// have taken any number of them, and its answer must fall on the edge of a loss.
    fn declare_dropped(&mut self, key: &LaneKey, span: &Span) {
        let Some(lane) = self.state.lanes.get_mut(key) else { return };
        let mut from =
            if lane.acknowledged.sequence > span.first.sequence { lane.acknowledged } else { span.first };
        let in_flight = self.senders[usize::from(key.stream)].in_flight.iter();
        let edges: Vec<Mark> = in_flight
            .filter(|(incarnation, end)| *incarnation == key.incarnation && end.sequence > from.sequence)
            .map(|(_, end)| *end)
            .collect();
        let sent_through = edges.iter().map(|edge| edge.sequence).max().unwrap_or(0);
        let inside = edges.into_iter().filter(|edge| edge.sequence < span.end.sequence);
        for to in inside.chain([span.end]) {
            if to.sequence <= from.sequence {
                continue;
            }
            let was_sent = to.sequence <= sent_through;
            for (start, end) in lane.uncovered(from, to) {
                self.dropped.entry((key.stream, Reason::DropOldest)).or_default().add(start, end);
            }
            lane.declare(from, to, Reason::DropOldest, Written::No, was_sent);
            from = to;
        }
    }
}
