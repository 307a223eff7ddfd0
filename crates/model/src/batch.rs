//! How deliveries are named, resumed, and declared lost.

use std::fmt;

/// The independent, ordered streams of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stream {
    Metrics = 0,
    Logs = 1,
    Events = 2,
}

/// A stream number that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStream(pub u8);

impl Stream {
    pub const ALL: [Stream; 3] = [Stream::Metrics, Stream::Logs, Stream::Events];

    pub fn name(self) -> &'static str {
        match self {
            Stream::Metrics => "metrics",
            Stream::Logs => "logs",
            Stream::Events => "events",
        }
    }
}

impl TryFrom<u8> for Stream {
    type Error = UnknownStream;

    fn try_from(value: u8) -> Result<Self, UnknownStream> {
        Stream::ALL.into_iter().find(|stream| *stream as u8 == value).ok_or(UnknownStream(value))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One run of an agent. Later runs have a larger ordinal; the nonce tells a
/// copied queue directory from its original.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// `max(stored + 1, wall clock in ms)` at the agent's start.
    pub ordinal: u64,
    pub nonce: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.ordinal, self.nonce)
    }
}

/// What identifies a batch within one agent. Sequences start at 0 and have no
/// gaps within a stream and incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub sequence: u64,
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stream, self.incarnation, self.sequence)
    }
}

/// Where a stream goes on after a reconnect: every sequence below
/// `durable_end` is stored (or declared lost) at the collector, every one
/// below `landed_end` is also in the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub durable_end: u64,
    pub landed_end: u64,
}

/// Why records were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LossReason {
    /// The queue was full and its policy dropped the oldest segment.
    QueueFullOldest = 0,
    /// The queue was full and its policy dropped what was new.
    QueueFullNewest = 1,
    /// The collector can never accept the batch.
    Rejected = 2,
    /// Bytes on disk were damaged.
    Corrupt = 3,
    /// An operator moved the queue to another collector.
    Reassigned = 4,
    /// A limit of the collector dropped part of a batch.
    Limit = 5,
    /// A source could not be read in time (rotated away, truncated).
    Source = 6,
    /// A batch of a fenced incarnation that was never acknowledged.
    Fenced = 7,
}

impl LossReason {
    pub const ALL: [LossReason; 8] = [
        LossReason::QueueFullOldest,
        LossReason::QueueFullNewest,
        LossReason::Rejected,
        LossReason::Corrupt,
        LossReason::Reassigned,
        LossReason::Limit,
        LossReason::Source,
        LossReason::Fenced,
    ];

    /// The value of the `reason` label of metrics and notices.
    pub fn name(self) -> &'static str {
        match self {
            LossReason::QueueFullOldest => "queue_full_oldest",
            LossReason::QueueFullNewest => "queue_full_newest",
            LossReason::Rejected => "rejected",
            LossReason::Corrupt => "corrupt",
            LossReason::Reassigned => "reassigned",
            LossReason::Limit => "limit",
            LossReason::Source => "source",
            LossReason::Fenced => "fenced",
        }
    }

    pub fn from_number(number: u8) -> Option<LossReason> {
        LossReason::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// Records that were accepted and are given up: sequences `[start, end)` of
/// one stream and incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub start: u64,
    pub end: u64,
    /// Samples or lines in the hole.
    pub items: u64,
    /// Queue bytes in the hole.
    pub bytes: u64,
    pub reason: LossReason,
}
