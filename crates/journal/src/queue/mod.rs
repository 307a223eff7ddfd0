//! A bounded durable queue with gapless sequences and declared losses.
//!
//! Responsible for what an agent promises: a batch that was appended and synced is delivered in order or declared
//! lost, exactly, for every stream. It knows no time, no network and no batch contents.
//!
//! - A *lane* is one stream of one incarnation. Its sequences start at 0 and have no gaps. Every open starts a new
//!   incarnation; older ones keep theirs and are delivered first.
//! - *Pending* records are not acknowledged. Only they count as depth. *Kept* records are acknowledged and not
//!   landed: they stay while there is room, and trimming them is no loss.
//! - Every segment starts with a state record (cluster, marks and losses of every lane) and the caller's snapshot,
//!   so that any older segment can go. The two become durable together with the first records behind them or not
//!   at all: a snapshot never speaks of records that a crash took.
//! - A loss is durable before the records it stands for are removed, and before it is handed out.
//! - Nothing is kept in memory for a record, only for a segment, a lane, a loss and a record in flight.
//!
//! Read [`Queue`] first; `state.rs` draws the journal's own records.

mod deliver;
mod recover;
mod room;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use crate::{
    Cursor, Error, Incarnation, Log, LogOptions, Position, Record, RecordHeader, Recovered, SegmentId,
};
use lm_fs::Fs;
use recover::tag;

use state::{
    KIND_ACKNOWLEDGE, KIND_PAYLOAD, KIND_SNAPSHOT, KIND_STATE, LaneKey, State, Written, encode_loss,
};
pub use state::{Mark, Reason};

/// Largest cluster id.
const CLUSTER_BYTES_MAX: usize = 64;
/// Smallest segment.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Marks remembered for records in flight; beyond that an acknowledgement reads the segment again.
const IN_FLIGHT_MAX: usize = 1024;

/// What happens to a batch that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// Give up the oldest segment, declare the loss, accept the batch.
    #[default]
    DropOldest,
    /// Give the batch its sequence and declare it lost.
    DropNewest,
    /// Answer [`AppendError::Full`]: whoever reads the source stops reading.
    Refuse,
}

/// How a queue behaves.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Bound on what the queue occupies on disk. Default 1 GiB. A snapshot may exceed it for a moment.
    pub bytes_max: u64,
    /// Segment size, default 16 MiB, held between 64 KiB and an eighth of `bytes_max`. The unit of dropping.
    pub segment_bytes: u64,
    /// Part of `bytes_max` that batches never use, so that losses can be declared. Default 1 MiB, at most a
    /// quarter of `bytes_max`.
    pub reserve_bytes: u64,
    pub on_full: OnFull,
    /// Number of streams; stream numbers are below it. Default 3.
    pub streams: u8,
    /// Bound on memory for records waiting for a sync. Default 4 MiB.
    pub unsynced_bytes_max: u64,
    /// Reserve disk space for each segment. Default true.
    pub preallocate: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        QueueOptions {
            bytes_max: 1 << 30,
            segment_bytes: 16 << 20,
            reserve_bytes: 1 << 20,
            on_full: OnFull::default(),
            streams: 3,
            unsynced_bytes_max: 4 << 20,
            preallocate: true,
        }
    }
}

/// What [`Queue::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub incarnation: Incarnation,
    pub recovered: Recovered,
    /// Newly declared losses with [`Reason::Corrupt`].
    pub corrupt: Dropped,
}

/// What the next batch of a stream must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub incarnation: Incarnation,
    pub sequence: u64,
    /// Items accepted before in this stream and incarnation.
    pub items_before: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// In the queue; durable after the next sync.
    Queued { incarnation: Incarnation, sequence: u64 },
    /// Declared lost under its sequence, by [`OnFull::DropNewest`]; durable after the next sync.
    Lost { incarnation: Incarnation, sequence: u64 },
}

/// A batch was not taken; its sequence is still free.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the queue is full")]
    Full,
    #[error(transparent)]
    Journal(#[from] Error),
}

/// The next thing to send on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    Payload {
        incarnation: Incarnation,
        sequence: u64,
        items: u32,
        bytes: u64,
        payload: Vec<u8>,
        position: Position,
    },
    /// Sequences `[start, end)` are gone.
    Loss { incarnation: Incarnation, start: u64, end: u64, items: u64, bytes: u64, reason: Reason },
}

/// Where a collector wants to go on, as told at login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeAt {
    pub stream: u8,
    pub incarnation: Incarnation,
    /// Everything below is durable at the collector.
    pub durable_end: u64,
    /// Everything below is in the object store.
    pub landed_end: u64,
}

/// What [`Queue::context`] shows.
#[derive(Debug, Clone, Copy)]
pub enum Context<'a> {
    Snapshot(&'a [u8]),
    Payload { stream: u8, incarnation: Incarnation, sequence: u64, payload: &'a [u8] },
}

/// A number of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub records: u64,
    pub items: u64,
    pub bytes: u64,
}

impl Dropped {
    fn add(&mut self, start: Mark, end: Mark) {
        self.records += end.sequence.saturating_sub(start.sequence);
        self.items += end.items.saturating_sub(start.items);
        self.bytes += end.bytes.saturating_sub(start.bytes);
    }
}

/// What one stream holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Payloads not acknowledged, including those not synced yet.
    pub pending: Dropped,
    /// Declared losses not acknowledged.
    pub lost: Dropped,
    /// Payload bytes acknowledged and still on disk.
    pub kept_bytes: u64,
}

/// Counters and levels. Totals count from `open`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// By stream number.
    pub streams: Vec<Depth>,
    pub accepted: Vec<Dropped>,
    pub dropped: BTreeMap<(u8, Reason), Dropped>,
    pub bytes: u64,
    pub bytes_max: u64,
    pub segment_oldest: Option<SegmentId>,
    pub segments: usize,
    /// Removals that failed; they are tried again at every sync.
    pub trim_errors: u64,
}

/// The caller's snapshot: called when a new segment is started.
///
/// It may or may not include the batch that is being appended: both become durable together.
pub type Snapshot<'a> = &'a mut dyn FnMut() -> Vec<u8>;

/// A bounded durable queue. See the module documentation.
///
/// All methods block on the disk except `next`, `acknowledge` (mostly), `rewind` and `stats`.
#[derive(Debug)]
pub struct Queue<F: Fs> {
    log: Log<F>,
    options: QueueOptions,
    state: State,
    /// What each segment holds of each lane.
    segments: BTreeMap<SegmentId, Spans>,
    /// The same for what is appended and not synced.
    unsynced: Spans,
    senders: Vec<Sender<F>>,
    /// Acknowledgements newer than the last durable record of them.
    has_new_acknowledgements: bool,
    /// The log misses a state record: the cluster changed.
    needs_state: bool,
    /// The reserve file was given up to get through a full disk.
    is_reserve_spent: bool,
    accepted: Vec<Dropped>,
    dropped: BTreeMap<(u8, Reason), Dropped>,
    trim_errors: u64,
}

/// The payload records of a lane in one segment: between two marks, possibly with holes.
type Spans = BTreeMap<LaneKey, Span>;

#[derive(Debug, Clone, Copy)]
struct Span {
    first: Mark,
    end: Mark,
}

/// Where a stream's delivery stands.
#[derive(Debug)]
struct Sender<F: Fs> {
    /// What was handed out last, and where the next begins. `None`: at the first unacknowledged.
    at: Option<(Incarnation, Mark)>,
    cursor: Option<Cursor<F>>,
    /// Ends of what is handed out and not acknowledged.
    in_flight: VecDeque<(Incarnation, Mark)>,
}

fn extend(spans: &mut Spans, key: LaneKey, first: Mark, end: Mark) {
    let span = spans.entry(key).or_insert(Span { first, end });
    if end.sequence > span.end.sequence {
        span.end = end;
    }
    if first.sequence < span.first.sequence {
        span.first = first;
    }
}

impl<F: Fs> Queue<F> {
    fn log_options(options: &QueueOptions) -> LogOptions {
        let segment_max = (options.bytes_max / 8).max(SEGMENT_BYTES_MIN);
        LogOptions {
            segment_bytes: options.segment_bytes.clamp(SEGMENT_BYTES_MIN, segment_max),
            unsynced_bytes_max: options.unsynced_bytes_max,
            preallocate: options.preallocate,
            ..LogOptions::default()
        }
    }

    /// The incarnation of this process.
    pub fn incarnation(&self) -> Incarnation {
        self.state.incarnation
    }

    /// Goes on under another incarnation; what is queued keeps its own. Durable with the next state record, which
    /// the next append or [`Queue::pin_cluster`] writes.
    ///
    /// # Panics
    ///
    /// If it is not later than the present one.
    pub fn begin_incarnation(&mut self, incarnation: Incarnation) {
        assert!(incarnation > self.state.incarnation, "incarnations only grow");
        self.state.incarnation = incarnation;
        self.log.set_tag(tag(incarnation));
        self.needs_state = true;
    }

    pub fn cluster(&self) -> Option<&[u8]> {
        self.state.cluster.as_deref()
    }

    pub fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// What the next batch of `stream` must contain.
    ///
    /// # Panics
    ///
    /// If `stream` is not below [`QueueOptions::streams`]; so do all methods that take a stream.
    pub fn next(&self, stream: u8) -> Next {
        let next = self.state.lanes.get(&self.current(stream)).map_or(Mark::default(), |lane| lane.next);
        Next { incarnation: self.state.incarnation, sequence: next.sequence, items_before: next.items }
    }

    /// Takes a batch, under the sequence that [`Queue::next`] told.
    ///
    /// # Errors
    ///
    /// The batch was not taken and nothing accepted before is affected. `Full` occurs under [`OnFull::Refuse`] only.
    pub fn append(
        &mut self,
        stream: u8,
        items: u32,
        payload: &[u8],
        snapshot: Snapshot<'_>,
    ) -> Result<Appended, AppendError> {
        let key = self.current(stream);
        let len = payload.len() as u64;
        let bytes_max = self.log.options().record_bytes_max.min(self.limit() / 2);
        if len > bytes_max {
            return Err(Error::TooLarge { bytes: len, bytes_max }.into());
        }
        let placed = self.place_or_free(key, items, payload, snapshot);
        let end = match placed {
            Ok(Some(end)) => end,
            Ok(None) => return self.overflow(key, items, len),
            Err(error) if error.is_out_of_space() && self.options.on_full != OnFull::DropOldest => {
                return self.overflow(key, items, len);
            }
            Err(error) => return Err(error.into()),
        };
        let lane = self.state.lanes.entry(key).or_default();
        let start = lane.next;
        lane.next = end;
        lane.appended = end;
        self.accepted[usize::from(stream)].add(start, end);
        extend(&mut self.unsynced, key, start, end);
        Ok(Appended::Queued { incarnation: key.incarnation, sequence: start.sequence })
    }

    /// Makes everything accepted so far durable and removes what is not needed any more.
    ///
    /// Cheap when there is nothing to do. Call it also after acknowledgements, to free space.
    ///
    /// # Errors
    ///
    /// Nothing that was not durable before may be counted as durable; all of it is kept, and the next call tries
    /// again.
    pub fn sync(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        if let Err(error) = self.sync_all(snapshot) {
            if !error.is_out_of_space() || self.is_reserve_spent {
                return Err(error);
            }
            self.spend_reserve();
            self.sync_all(snapshot)?;
        }
        // What is synced stays synced whatever removing old files brings.
        if self.trim(snapshot).is_err() {
            self.trim_errors += 1;
        }
        if self.is_reserve_spent {
            self.refill_reserve();
        }
        Ok(())
    }

    /// Hands everything accepted so far to the operating system: it survives the process, not a power cut.
    pub fn flush(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        self.append_losses(snapshot)?;
        self.log.flush()
    }

    /// Syncs and seals the last segment, so that later damage to its end is noticed.
    pub fn close(mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        self.sync(snapshot)?;
        if self.has_new_acknowledgements {
            self.append_acknowledgements(snapshot)?;
            self.sync_log(snapshot)?;
        }
        self.log.seal()
    }

    /// Remembers the collector's cluster, durably.
    ///
    /// # Panics
    ///
    /// If `cluster` is longer than 64 bytes.
    pub fn pin_cluster(&mut self, cluster: &[u8], snapshot: Snapshot<'_>) -> Result<(), Error> {
        assert!(cluster.len() <= CLUSTER_BYTES_MAX, "a cluster id has at most {CLUSTER_BYTES_MAX} bytes");
        self.append_losses(snapshot)?;
        self.needs_state |= self.state.cluster.as_deref() != Some(cluster);
        self.state.cluster = Some(cluster.to_vec());
        self.append_losses(snapshot)?;
        self.sync_log(snapshot)
    }

    /// Starts over for another collector, durably.
    ///
    /// Pending payloads stay. For each lane with pending records, what the earlier collector acknowledged is
    /// declared lost ahead of them with [`Reason::Reassigned`], so that the new one can follow from 0.
    ///
    /// # Errors
    ///
    /// It may have taken effect in memory; call again with the same id.
    pub fn reassign(&mut self, cluster: &[u8], snapshot: Snapshot<'_>) -> Result<(), Error> {
        assert!(cluster.len() <= CLUSTER_BYTES_MAX, "a cluster id has at most {CLUSTER_BYTES_MAX} bytes");
        self.append_losses(snapshot)?;
        // Older acknowledgements must not be replayed behind the new state record.
        self.sync_log(snapshot)?;
        if self.state.cluster.as_deref() != Some(cluster) {
            self.state.cluster = Some(cluster.to_vec());
            self.needs_state = true;
            let current = self.state.incarnation;
            for (key, lane) in &mut self.state.lanes {
                let acknowledged = lane.acknowledged;
                if acknowledged.sequence == 0 || (lane.is_finished() && key.incarnation != current) {
                    continue;
                }
                lane.acknowledged = Mark::default();
                lane.landed = 0;
                lane.declare(Mark::default(), acknowledged, Reason::Reassigned, Written::No, true);
                self.dropped
                    .entry((key.stream, Reason::Reassigned))
                    .or_default()
                    .add(Mark::default(), acknowledged);
            }
            for sender in &mut self.senders {
                *sender = Sender { at: None, cursor: None, in_flight: VecDeque::new() };
            }
        }
        self.append_losses(snapshot)?;
        self.sync_log(snapshot)
    }

    /// Levels and counters.
    pub fn stats(&self) -> Stats {
        let mut streams = vec![Depth::default(); usize::from(self.options.streams)];
        for (key, lane) in &self.state.lanes {
            let Some(depth) = streams.get_mut(usize::from(key.stream)) else { continue };
            let lost = lane.lost_pending();
            depth.lost.add(Mark::default(), lost);
            let all = lane.acknowledged;
            depth.pending.records += (lane.next.sequence - all.sequence).saturating_sub(lost.sequence);
            depth.pending.items += lane.next.items.saturating_sub(all.items).saturating_sub(lost.items);
            depth.pending.bytes += lane.next.bytes.saturating_sub(all.bytes).saturating_sub(lost.bytes);
            for span in self.segments.values().filter_map(|spans| spans.get(key)) {
                depth.kept_bytes +=
                    lane.acknowledged.bytes.min(span.end.bytes).saturating_sub(span.first.bytes);
            }
        }
        Stats {
            streams,
            accepted: self.accepted.clone(),
            dropped: self.dropped.clone(),
            bytes: self.log.bytes(),
            bytes_max: self.options.bytes_max,
            segment_oldest: self.log.segments().next().map(|segment| segment.id),
            segments: self.log.segments().count(),
            trim_errors: self.trim_errors,
        }
    }

    fn current(&self, stream: u8) -> LaneKey {
        assert!(stream < self.options.streams, "stream {stream} is not below QueueOptions::streams");
        LaneKey { stream, incarnation: self.state.incarnation }
    }

    /// A full disk is treated like a full queue: what can be given up goes, segment by segment.
    fn place_or_free(
        &mut self,
        key: LaneKey,
        items: u32,
        payload: &[u8],
        snapshot: Snapshot<'_>,
    ) -> Result<Option<Mark>, Error> {
        loop {
            match self.place(key, items, payload, snapshot) {
                Err(error) if error.is_out_of_space() => {
                    if !self.free_segment(snapshot)? {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Appends the batch if there is room, and says where the lane then ends.
    fn place(
        &mut self,
        key: LaneKey,
        items: u32,
        payload: &[u8],
        snapshot: Snapshot<'_>,
    ) -> Result<Option<Mark>, Error> {
        let len = payload.len() as u64;
        if !self.make_room(len, snapshot)? {
            return Ok(None);
        }
        // A loss goes ahead of what follows it in its lane, so that no crash leaves the hole without it.
        self.append_losses(snapshot)?;
        let start = self.state.lanes.entry(key).or_default().next;
        let header = RecordHeader {
            kind: KIND_PAYLOAD,
            stream: key.stream,
            flags: 0,
            items,
            sequence: start.sequence,
            sequence_end: start.sequence.saturating_add(1),
            incarnation: key.incarnation,
            items_before: start.items,
            bytes_before: start.bytes,
        };
        self.append_record(&header, payload, snapshot)?;
        Ok(Some(start.after(items, len)))
    }

    /// The batch does not fit and nothing may be dropped for it.
    fn overflow(&mut self, key: LaneKey, items: u32, len: u64) -> Result<Appended, AppendError> {
        if self.options.on_full != OnFull::DropNewest {
            return Err(AppendError::Full);
        }
        let lane = self.state.lanes.entry(key).or_default();
        let (start, end) = (lane.next, lane.next.after(items, len));
        lane.next = end;
        lane.declare(start, end, Reason::DropNewest, Written::No, false);
        self.accepted[usize::from(key.stream)].add(start, end);
        self.dropped.entry((key.stream, Reason::DropNewest)).or_default().add(start, end);
        Ok(Appended::Lost { incarnation: key.incarnation, sequence: start.sequence })
    }

    fn sync_all(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        self.append_losses(snapshot)?;
        if self.has_new_acknowledgements && !self.unsynced.is_empty() {
            self.append_acknowledgements(snapshot)?;
        }
        self.sync_log(snapshot)
    }

    /// Appends what was declared and has no record yet.
    fn append_losses(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        if self.needs_state {
            let header = RecordHeader { kind: KIND_STATE, ..RecordHeader::default() };
            let payload = self.state.encode();
            self.append_record(&header, &payload, snapshot)?;
            self.needs_state = false;
        }
        let keys: Vec<LaneKey> = self.state.lanes.keys().copied().collect();
        for key in keys {
            while let Some(loss) = self.unwritten_loss(&key) {
                let (header, payload) = encode_loss(&key, &loss);
                self.append_record(&header, &payload, snapshot)?;
                let Some(lane) = self.state.lanes.get_mut(&key) else { break };
                if let Some(declared) = lane.losses.get_mut(&loss.start.sequence) {
                    declared.written = Written::Appended;
                }
                if lane.appended.sequence < loss.end.sequence {
                    lane.appended = loss.end;
                }
            }
        }
        Ok(())
    }

    fn unwritten_loss(&self, key: &LaneKey) -> Option<state::Loss> {
        let lane = self.state.lanes.get(key)?;
        lane.losses.values().find(|loss| loss.written == Written::No).copied()
    }

    fn append_acknowledgements(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        let header = RecordHeader { kind: KIND_ACKNOWLEDGE, ..RecordHeader::default() };
        let payload = self.state.encode_acknowledged();
        self.append_record(&header, &payload, snapshot)?;
        self.has_new_acknowledgements = false;
        Ok(())
    }

    /// Appends to the log, rolling and syncing as it asks for.
    fn append_record(
        &mut self,
        header: &RecordHeader,
        payload: &[u8],
        snapshot: Snapshot<'_>,
    ) -> Result<(), Error> {
        let len = payload.len() as u64;
        // At most two turns each: a new segment may start with records that a full disk made wait.
        loop {
            if self.log.needs_sync(len) {
                self.sync_log(snapshot)?;
            } else if self.log.needs_roll(len) {
                self.roll(snapshot)?;
            } else {
                break;
            }
        }
        self.log.append(header, payload).map(drop)
    }

    /// Starts a new segment. What the old one could not sync moves to the new one.
    fn roll(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        if self.log.active().is_some() {
            self.sync_log(snapshot)?;
        }
        let state = &self.state;
        self.log.roll(&mut || preamble(state, snapshot)).map(drop)
    }

    fn sync_log(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        let state = &self.state;
        let synced = self.log.sync(&mut || preamble(state, snapshot))?;
        if let Some(end) = synced.end {
            let spans = self.segments.entry(end.segment).or_default();
            for (key, span) in std::mem::take(&mut self.unsynced) {
                extend(spans, key, span.first, span.end);
            }
        }
        for lane in self.state.lanes.values_mut() {
            lane.synced = lane.appended;
            for loss in lane.losses.values_mut().filter(|loss| loss.written == Written::Appended) {
                loss.written = Written::Durable;
            }
        }
        Ok(())
    }
}

/// What every segment starts with.
fn preamble(state: &State, snapshot: Snapshot<'_>) -> Vec<Record> {
    let record = |kind, payload| Record { header: RecordHeader { kind, ..RecordHeader::default() }, payload };
    vec![record(KIND_STATE, state.encode()), record(KIND_SNAPSHOT, snapshot())]
}
