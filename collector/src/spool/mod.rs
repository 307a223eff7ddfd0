//! The spool: what the collector has acknowledged, and the only truth about it.
//!
//! A journal of `schema/spool.capnp` records. Every segment is complete in
//! itself: it begins with all watermarks, and each dictionary stands in it
//! before its first use there. So the oldest segment can go at any time, which
//! is how retention works, and damage in one segment does not spread.

mod record;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lm_fs::Fs;
use lm_journal::{Log, LogOptions, RecordHeader, SegmentId};
use lm_model::Timestamp;

pub use record::{OwnedRecord, Record, Stored, encode};

/// Kind of all our journal records: what they are stands in their payload.
const KIND: u8 = 1;
/// A snapshot of all watermarks is the largest record.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Records of one group that may wait for the sync.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;
/// A segment is closed after this part of the retention, so that age can
/// remove it.
const SEGMENTS_PER_RETENTION: u32 = 12;

/// The spool could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("spool: {0}")]
pub struct SpoolError(#[from] lm_journal::Error);

/// What makes a new segment complete in itself: all watermarks, and every
/// dictionary that moved records may use. Called only if it is needed.
pub type Preamble<'a> = &'a mut dyn FnMut() -> Vec<Vec<u8>>;

/// What [`Spool::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub segments: usize,
    /// The next one would go, and is not covered.
    pub is_held: bool,
}

/// Bounds of the spool.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    pub bytes_max: u64,
    pub segment_bytes: u64,
    pub retention: Duration,
}

pub struct Spool<F: Fs = lm_fs::RealFs> {
    log: Log<F>,
    options: SpoolOptions,
    /// When the active segment was begun.
    active_since: Timestamp,
}

impl<F: Fs> Spool<F> {
    /// Opens the spool in `dir`, which is made if needed and locked.
    ///
    /// # Errors
    ///
    /// When the directory is in use by another process, written by another
    /// version, or cannot be read. Damage is reported in the log, no error.
    pub fn open(fs: F, dir: PathBuf, options: SpoolOptions) -> Result<Spool<F>, SpoolError> {
        let log_options = LogOptions {
            segment_bytes: options.segment_bytes,
            record_bytes_max: RECORD_BYTES_MAX,
            unsynced_bytes_max: UNSYNCED_BYTES_MAX,
            ..LogOptions::default()
        };
        let (log, recovered) = Log::open(fs, Path::new(&dir), log_options)?;
        for damage in &recovered.quarantined {
            tracing::error!(segment = damage.segment, range = ?damage.range, "the spool is damaged here");
        }
        for file in &recovered.quarantined_files {
            tracing::error!(file = %file.display(), "a spool segment cannot be read as a whole and was kept aside");
        }
        if let Some(torn) = &recovered.truncated {
            tracing::info!(segment = torn.segment, range = ?torn.range, "cut off what was never acknowledged");
        }
        Ok(Spool { log, options, active_since: Timestamp::MIN })
    }

    /// Hands every record and its segment to `handle`, oldest first.
    ///
    /// # Errors
    ///
    /// When a file cannot be read at all. Records that make no sense are
    /// handed over as errors.
    pub fn replay(
        &mut self,
        mut handle: impl FnMut(SegmentId, Result<Stored, lm_schema::Error>),
    ) -> Result<(), SpoolError> {
        let mut cursor = self.log.cursor_from_start();
        while let Some((position, record)) = cursor.next(&self.log)? {
            handle(position.segment, record::decode(&record.payload));
        }
        Ok(())
    }

    /// Whether records of `lens` bytes need a new segment.
    pub fn needs_roll(&self, now: Timestamp, lens: u64) -> bool {
        let age_max = self.options.retention / SEGMENTS_PER_RETENTION;
        let is_old = self.active_since.saturating_add(age_max) < now;
        // It would be old too late, after a clock that was wrong.
        let is_ahead = now.saturating_add(age_max) < self.active_since;
        self.log.needs_roll(lens) || is_old || is_ahead
    }

    /// Begins a new segment with `first`. Everything appended must be synced.
    pub fn roll(&mut self, now: Timestamp, first: Vec<u8>) -> Result<(), SpoolError> {
        self.log.set_tag(tag(now));
        self.log.roll(&mut || vec![record(first.clone())])?;
        self.active_since = now;
        Ok(())
    }

    /// Appends a record in memory. [`Spool::needs_roll`] was asked before.
    pub fn append(
        &mut self,
        now: Timestamp,
        payload: &[u8],
        preamble: Preamble<'_>,
    ) -> Result<(), SpoolError> {
        match self.log.append(&header(), payload) {
            Ok(_) => return Ok(()),
            Err(lm_journal::Error::NeedsSync) => self.sync(now, preamble)?,
            Err(lm_journal::Error::NeedsRoll) => {
                self.log.set_tag(tag(now));
                self.log.roll(&mut || records(preamble()))?;
                self.active_since = now;
            }
            Err(error) => return Err(error.into()),
        }
        self.log.append(&header(), payload)?;
        Ok(())
    }

    /// Makes everything appended durable. When the segment fails, its
    /// unsynced records move to a new one, behind `preamble`.
    ///
    /// # Errors
    ///
    /// Nothing of what was appended is durable; all of it is kept for the
    /// next call.
    pub fn sync(&mut self, now: Timestamp, preamble: Preamble<'_>) -> Result<(), SpoolError> {
        self.log.set_tag(tag(now));
        let synced = self.log.sync(&mut || records(preamble()))?;
        if synced.moved {
            tracing::warn!("a spool segment failed; its unsynced records were written to a new one");
            self.active_since = now;
        }
        Ok(())
    }

    /// Removes segments that are too old or too much, of those before
    /// `covered`: the others hold samples that are nowhere else.
    pub fn expire(&mut self, now: Timestamp, covered: SegmentId) -> Result<Expired, SpoolError> {
        let cutoff = now.saturating_sub(self.options.retention);
        let mut expired = Expired::default();
        while let Some(oldest) = self.expired(cutoff) {
            if oldest >= covered {
                expired.is_held = true;
                break;
            }
            self.log.remove_segment(oldest)?;
            expired.segments += 1;
        }
        Ok(expired)
    }

    /// The segment that is written to; 0 before the first.
    pub fn active(&self) -> SegmentId {
        self.log.active().unwrap_or_default()
    }

    /// What the spool occupies.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub fn retention(&self) -> Duration {
        self.options.retention
    }

    /// The newest segment that can be read.
    pub fn newest(&self) -> Option<SegmentId> {
        self.log.segments().next_back().map(|segment| segment.id)
    }

    /// When the newest segment was begun.
    pub fn begun(&self) -> Option<Timestamp> {
        self.log.segments().rev().find_map(|segment| segment.tag.map(begun))
    }

    /// The oldest segment, if it may go. All of its records are older than
    /// the beginning of every one after it; the earliest counts, since a clock
    /// may have been ahead.
    fn expired(&self, cutoff: Timestamp) -> Option<SegmentId> {
        let mut segments = self.log.segments();
        let oldest = segments.next()?;
        if self.log.active() == Some(oldest.id) {
            return None;
        }
        let next_began = segments.filter_map(|next| next.tag.map(begun)).min()?;
        (next_began < cutoff || self.log.bytes() > self.options.bytes_max).then_some(oldest.id)
    }
}

fn header() -> RecordHeader {
    RecordHeader { kind: KIND, ..RecordHeader::default() }
}

fn record(payload: Vec<u8>) -> lm_journal::Record {
    lm_journal::Record { header: header(), payload }
}

fn records(payloads: Vec<Vec<u8>>) -> Vec<lm_journal::Record> {
    payloads.into_iter().map(record).collect()
}

/// A segment's tag: when it was begun, in ms.
fn tag(now: Timestamp) -> [u8; 16] {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&now.as_millis().to_le_bytes());
    tag
}

fn begun(tag: [u8; 16]) -> Timestamp {
    let mut millis = [0; 8];
    millis.copy_from_slice(&tag[..8]);
    Timestamp::from_millis(i64::from_le_bytes(millis))
}

#[cfg(test)]
mod tests;
