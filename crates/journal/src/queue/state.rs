//! What a queue knows: a lane for each stream and incarnation, with its marks and losses.
//!
//! Counting is done with *marks*: cumulative (sequence, items, bytes) points of a lane. Every record carries the
//! mark before it, so whatever lies between two marks is counted by subtraction, also if it cannot be read.
//!
//! ```text
//! state record payload (kind 1), little-endian
//!   cluster length u8 (255: none) | cluster bytes | current incarnation
//!   lane count u32,  each: stream u8 | incarnation | next mark | acknowledged mark | landed u64
//!   loss count u32,  each: stream u8 | incarnation | start mark | end mark | reason u8
//! acknowledge record payload (kind 5): lane count u32, each: stream u8 | incarnation | acknowledged mark | landed u64
//! loss record (kind 4): sequences and the start mark in the header; payload: end items u64 | end bytes u64 | reason u8
//! incarnation: ordinal u64 | nonce u64         mark: sequence u64 | items u64 | bytes u64
//! ```

use std::collections::BTreeMap;

use crate::{Incarnation, RecordHeader};

pub(super) const KIND_STATE: u8 = 1;
pub(super) const KIND_SNAPSHOT: u8 = 2;
pub(super) const KIND_PAYLOAD: u8 = 3;
pub(super) const KIND_LOSS: u8 = 4;
pub(super) const KIND_ACKNOWLEDGE: u8 = 5;

const NO_CLUSTER: u8 = 255;

/// A point in a lane: everything before it, cumulatively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub sequence: u64,
    pub items: u64,
    pub bytes: u64,
}

impl Mark {
    pub(super) fn before(header: &RecordHeader) -> Mark {
        Mark { sequence: header.sequence, items: header.items_before, bytes: header.bytes_before }
    }

    pub(super) fn after(self, items: u32, bytes: u64) -> Mark {
        Mark {
            sequence: self.sequence.saturating_add(1),
            items: self.items.saturating_add(items.into()),
            bytes: self.bytes.saturating_add(bytes),
        }
    }
}

/// Why records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The queue was full and gave up its oldest records.
    DropOldest = 1,
    /// The queue was full and gave up new records.
    DropNewest = 2,
    /// The disk damaged or lost them.
    Corrupt = 3,
    /// An earlier collector acknowledged them; the present one will never see them.
    Reassigned = 4,
}

impl Reason {
    fn from_u8(byte: u8) -> Option<Reason> {
        [Reason::DropOldest, Reason::DropNewest, Reason::Corrupt, Reason::Reassigned]
            .into_iter()
            .find(|reason| *reason as u8 == byte)
    }
}

/// How far a declared loss got on its way to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    No,
    Appended,
    Durable,
}

/// A declared loss, not acknowledged yet. It starts where it is filed in [`Lane::losses`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub start: Mark,
    pub end: Mark,
    pub reason: Reason,
    /// Handed out once, so it must keep its range.
    pub is_frozen: bool,
    pub written: Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub stream: u8,
    pub incarnation: Incarnation,
}

impl LaneKey {
    pub fn of(header: &RecordHeader) -> LaneKey {
        LaneKey { stream: header.stream, incarnation: header.incarnation }
    }
}

/// One stream of one incarnation.
///
/// Invariant: `acknowledged <= synced <= appended <= next`, and losses are disjoint, inside
/// `[acknowledged, next)` and filed under their start sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    pub next: Mark,
    /// What has a record in the log, synced or not.
    pub appended: Mark,
    pub synced: Mark,
    pub acknowledged: Mark,
    pub landed: u64,
    pub losses: BTreeMap<u64, Loss>,
}

impl Lane {
    pub fn loss_at(&self, sequence: u64) -> Option<&Loss> {
        let (_, loss) = self.losses.range(..=sequence).next_back()?;
        (sequence < loss.end.sequence).then_some(loss)
    }

    /// The mark of the first loss that starts at or after `sequence`.
    pub fn loss_after(&self, sequence: u64) -> Option<Mark> {
        self.losses.range(sequence..).next().map(|(_, loss)| loss.start)
    }

    /// Parts of `[start, end)` that no loss covers. Their edges have marks, so the parts can be counted.
    pub fn uncovered(&self, start: Mark, end: Mark) -> Vec<(Mark, Mark)> {
        let mut parts = Vec::new();
        let mut from = start;
        for loss in self.losses.values() {
            if loss.end.sequence <= from.sequence {
                continue;
            }
            if loss.start.sequence >= end.sequence {
                break;
            }
            if loss.start.sequence > from.sequence {
                parts.push((from, loss.start));
            }
            from = loss.end;
        }
        if from.sequence < end.sequence {
            parts.push((from, end));
        }
        parts
    }

    /// Declares what is not declared yet of `[start, end)`, joining a neighbour of the same reason if it was not
    /// handed out.
    pub fn declare(&mut self, start: Mark, end: Mark, reason: Reason, written: Written, is_frozen: bool) {
        for (start, end) in self.uncovered(start, end) {
            let before = self.losses.range_mut(..start.sequence).next_back().map(|(_, loss)| loss);
            match before {
                Some(loss)
                    if loss.end.sequence == start.sequence
                        && loss.reason == reason
                        && !loss.is_frozen
                        && !is_frozen =>
                {
                    loss.end = end;
                    loss.written = written;
                }
                _ => {
                    self.losses.insert(start.sequence, Loss { start, end, reason, is_frozen, written });
                }
            }
        }
    }

    /// Declares a loss read back from the log. A record with the same start supersedes the one before.
    pub fn replay_loss(&mut self, start: Mark, end: Mark, reason: Reason) {
        let following =
            self.losses.range(start.sequence.saturating_add(1)..).next().map(|(_, loss)| loss.start);
        if let Some(loss) = self.losses.get_mut(&start.sequence)
            && loss.reason == reason
            && loss.end.sequence < end.sequence
            && following.is_none_or(|following| following.sequence >= end.sequence)
        {
            loss.end = end;
        }
        self.declare(start, end, reason, Written::Durable, true);
    }

    /// Moves the acknowledged mark forward. A loss that it cuts keeps the items it cannot divide.
    pub fn acknowledge(&mut self, mark: Mark, landed: u64) {
        if mark.sequence > self.acknowledged.sequence {
            self.acknowledged = mark;
        }
        self.landed = self.landed.max(landed.min(self.acknowledged.sequence));
        let through = self.acknowledged.sequence;
        while let Some(entry) = self.losses.first_entry().filter(|entry| *entry.key() < through) {
            let mut loss = entry.remove();
            if loss.end.sequence > through {
                loss.start.sequence = through;
                self.acknowledged.items = loss.start.items;
                self.acknowledged.bytes = loss.start.bytes;
                self.losses.insert(through, loss);
            }
        }
    }

    /// Everything known is acknowledged and landed.
    pub fn is_finished(&self) -> bool {
        self.acknowledged.sequence == self.next.sequence
    }

    /// Whether each of `[first, end)` is acknowledged (and landed, if asked) or durably declared lost.
    pub fn covers(&self, first: u64, end: u64, must_be_landed: bool) -> bool {
        let mut at = first.max(if must_be_landed { self.landed } else { self.acknowledged.sequence });
        while at < end {
            match self.loss_at(at) {
                Some(loss) if loss.written == Written::Durable => at = loss.end.sequence,
                _ => return false,
            }
        }
        true
    }

    pub fn lost_pending(&self) -> Mark {
        self.losses.values().fold(Mark::default(), |sum, loss| Mark {
            sequence: sum.sequence + (loss.end.sequence - loss.start.sequence),
            items: sum.items + loss.end.items.saturating_sub(loss.start.items),
            bytes: sum.bytes + loss.end.bytes.saturating_sub(loss.start.bytes),
        })
    }
}

/// Everything that a state record holds.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub incarnation: Incarnation,
    pub cluster: Option<Vec<u8>>,
    pub lanes: BTreeMap<LaneKey, Lane>,
}

impl State {
    pub fn lanes_of(&self, stream: u8) -> impl Iterator<Item = (&LaneKey, &Lane)> {
        self.lanes.iter().filter(move |(key, _)| key.stream == stream)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.cluster {
            Some(cluster) => {
                out.push(
                    u8::try_from(cluster.len()).expect("pin_cluster() bounds the cluster id to 64 bytes"),
                );
                out.extend_from_slice(cluster);
            }
            None => out.push(NO_CLUSTER),
        }
        put_incarnation(&mut out, self.incarnation);
        put_count(&mut out, self.lanes.len());
        for (key, lane) in &self.lanes {
            put_key(&mut out, key);
            put_mark(&mut out, lane.next);
            put_mark(&mut out, lane.acknowledged);
            out.extend_from_slice(&lane.landed.to_le_bytes());
        }
        let losses =
            || self.lanes.iter().flat_map(|(key, lane)| lane.losses.values().map(move |loss| (key, loss)));
        put_count(&mut out, losses().count());
        for (key, loss) in losses() {
            put_key(&mut out, key);
            put_mark(&mut out, loss.start);
            put_mark(&mut out, loss.end);
            out.push(loss.reason as u8);
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<State> {
        let mut bytes = Bytes(bytes);
        let cluster = match bytes.u8()? {
            NO_CLUSTER => None,
            len => Some((0..len).map(|_| bytes.u8()).collect::<Option<Vec<u8>>>()?),
        };
        let mut state = State { incarnation: bytes.incarnation()?, cluster, lanes: BTreeMap::new() };
        for _ in 0..bytes.u32()? {
            let key = bytes.key()?;
            let (next, acknowledged, landed) = (bytes.mark()?, bytes.mark()?, bytes.u64()?);
            let lane =
                Lane { next, appended: next, synced: next, acknowledged, landed, losses: BTreeMap::new() };
            state.lanes.insert(key, lane);
        }
        for _ in 0..bytes.u32()? {
            let key = bytes.key()?;
            let (start, end, reason) = (bytes.mark()?, bytes.mark()?, Reason::from_u8(bytes.u8()?)?);
            state.lanes.get_mut(&key)?.declare(start, end, reason, Written::Durable, true);
        }
        Some(state)
    }

    pub fn encode_acknowledged(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_count(&mut out, self.lanes.len());
        for (key, lane) in &self.lanes {
            put_key(&mut out, key);
            put_mark(&mut out, lane.acknowledged);
            out.extend_from_slice(&lane.landed.to_le_bytes());
        }
        out
    }

    /// Applies an acknowledge record.
    pub fn replay_acknowledged(&mut self, bytes: &[u8]) -> Option<()> {
        let mut bytes = Bytes(bytes);
        for _ in 0..bytes.u32()? {
            let (key, mark, landed) = (bytes.key()?, bytes.mark()?, bytes.u64()?);
            if let Some(lane) = self.lanes.get_mut(&key) {
                for end in [&mut lane.next, &mut lane.appended, &mut lane.synced] {
                    if end.sequence < mark.sequence {
                        *end = mark;
                    }
                }
                lane.acknowledge(mark, landed);
            }
        }
        Some(())
    }
}

pub(super) fn encode_loss(key: &LaneKey, loss: &Loss) -> (RecordHeader, Vec<u8>) {
    let header = RecordHeader {
        kind: KIND_LOSS,
        stream: key.stream,
        items: u32::try_from(loss.end.items.saturating_sub(loss.start.items)).unwrap_or(u32::MAX),
        sequence: loss.start.sequence,
        sequence_end: loss.end.sequence,
        incarnation: key.incarnation,
        items_before: loss.start.items,
        bytes_before: loss.start.bytes,
        flags: 0,
    };
    let mut payload = Vec::with_capacity(17);
    payload.extend_from_slice(&loss.end.items.to_le_bytes());
    payload.extend_from_slice(&loss.end.bytes.to_le_bytes());
    payload.push(loss.reason as u8);
    (header, payload)
}

pub(super) fn decode_loss(header: &RecordHeader, payload: &[u8]) -> Option<(Mark, Mark, Reason)> {
    let mut bytes = Bytes(payload);
    let end = Mark { sequence: header.sequence_end, items: bytes.u64()?, bytes: bytes.u64()? };
    let reason = Reason::from_u8(bytes.u8()?)?;
    (header.sequence < end.sequence).then_some((Mark::before(header), end, reason))
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_incarnation(out: &mut Vec<u8>, incarnation: Incarnation) {
    out.extend_from_slice(&incarnation.ordinal.to_le_bytes());
    out.extend_from_slice(&incarnation.nonce.to_le_bytes());
}

fn put_key(out: &mut Vec<u8>, key: &LaneKey) {
    out.push(key.stream);
    put_incarnation(out, key.incarnation);
}

fn put_mark(out: &mut Vec<u8>, mark: Mark) {
    for number in [mark.sequence, mark.items, mark.bytes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Takes fields off the front; `None` when there are not enough bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn incarnation(&mut self) -> Option<Incarnation> {
        Some(Incarnation { ordinal: self.u64()?, nonce: self.u64()? })
    }

    fn key(&mut self) -> Option<LaneKey> {
        Some(LaneKey { stream: self.u8()?, incarnation: self.incarnation()? })
    }

    fn mark(&mut self) -> Option<Mark> {
        Some(Mark { sequence: self.u64()?, items: self.u64()?, bytes: self.u64()? })
    }
}
