//! What a block says about itself.

use std::ops::RangeInclusive;

use lm_model::{TimeRange, Timestamp};

/// What the samples of a block are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Samples as they came.
    #[default]
    Raw = 0,
}

impl Kind {
    pub(crate) fn from_number(number: u8) -> Option<Kind> {
        (number == Kind::Raw as u8).then_some(Kind::Raw)
    }
}

/// What the caller says about a block; kept in its footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// The caller's number of the block; keys of the page cache begin with it, so no two open blocks share one.
    pub id: u64,
    pub kind: Kind,
    /// 0: frozen from the head; more: merged so often.
    pub level: u8,
    /// Which generations of the store went into it. Of two sources with a sample at one time, the one whose first
    /// generation is smaller wins.
    pub generations: RangeInclusive<u64>,
    /// The caller's: what the block covers, at most [`BlockMeta::COVERED_BYTES_MAX`].
    pub covered: Vec<u8>,
}

impl BlockMeta {
    /// Bound of [`BlockMeta::covered`].
    pub const COVERED_BYTES_MAX: usize = 1 << 20;
}

/// What is in a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    pub series: u64,
    /// Numbers and histograms together.
    pub samples: u64,
    pub histograms: u64,
    /// The first and the last sample; both zero when there are none.
    pub time_first: Timestamp,
    pub time_last: Timestamp,
    /// Distinct timestamp columns.
    pub columns: u64,
    /// Distinct label pairs.
    pub pairs: u64,
    pub file_bytes: u64,
    /// Of these, pages of values and histograms.
    pub value_bytes: u64,
    pub time_bytes: u64,
    /// Series table, label values and postings.
    pub index_bytes: u64,
}

impl BlockStats {
    /// Half-open range of the samples; empty when there are none.
    pub fn times(&self) -> TimeRange {
        let end = if self.samples == 0 {
            self.time_first
        } else {
            Timestamp::from_millis(self.time_last.as_millis().saturating_add(1))
        };
        TimeRange { start: self.time_first, end }
    }
}
