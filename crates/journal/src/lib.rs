//! Append-only segment log: the agent's queue and the collector's spool.
//!
//! Two layers on the seam of `lm-fs`, each usable alone:
//!
//! - [`Log`] appends, syncs, reads and recovers records in segments. Its bytes are drawn in [`format`].
//! - [`Queue`] is a bounded durable queue on a [`Log`]: gapless sequences for each stream and incarnation, and a
//!   declared loss for whatever a policy or a damaged disk took away.
//!
//! Payloads are opaque. The crate starts no threads, reads no clock and draws no random numbers. Bytes read from a
//! disk never make it panic.

mod cursor;
mod error;
pub mod format;
mod log;
mod queue;
mod scan;

pub use cursor::Cursor;
pub use error::Error;
pub use log::{Log, LogOptions, Position, Quarantined, Recovered, Segment, Synced};
pub use queue::{
    AppendError, Appended, Context, Depth, Dropped, Mark, Next, OnFull, Pending, Queue, QueueOptions, Reason,
    Report, ResumeAt, Stats,
};

/// Number of a segment; ascending, never reused within a directory.
pub type SegmentId = u64;

/// One life of an agent process. Ordered by `ordinal`, made unique by `nonce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation {
    pub ordinal: u64,
    pub nonce: u64,
}

/// What a record says about itself. The log stores these fields and interprets none but `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordHeader {
    /// 1 to 254; 0 and 255 belong to the log.
    pub kind: u8,
    pub stream: u8,
    pub flags: u16,
    pub items: u32,
    pub sequence: u64,
    pub sequence_end: u64,
    pub incarnation: Incarnation,
    /// Cumulative items of the stream and incarnation before this record, so that holes can be counted.
    pub items_before: u64,
    /// Cumulative payload bytes likewise.
    pub bytes_before: u64,
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub header: RecordHeader,
    pub payload: Vec<u8>,
}
