//! Timestamp columns on their way into the file: each stored once, however many series share it.

use std::collections::HashMap;
use std::sync::Arc;

use lm_fs::Fs;

use super::pages::{Open, Pages};
use crate::block::error::Error;
use crate::block::format::{ColumnEntry, PageKind};
use crate::codec::ints;

/// Bound on the timestamps that are remembered to find equal columns. When it is reached, all are forgotten, and a
/// column that comes again is stored again.
const REMEMBERED_TIMES: usize = 2 << 20;

/// Of this many timestamps of a column the hash is made.
const HASHED_TIMES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Columns {
    pub entries: Vec<ColumnEntry>,
    open: Open,
    scratch: Vec<i64>,
    remembered: usize,
    by_hash: HashMap<u64, Remembered>,
    /// Series that begin late share the end of their scrape's column, and others its beginning.
    by_first: HashMap<i64, Remembered>,
    by_last: HashMap<i64, Remembered>,
}

#[derive(Debug, Clone)]
struct Remembered {
    column: u32,
    times: Arc<[i64]>,
}

/// Timestamps as a part of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ColumnPart {
    pub column: u32,
    pub start: u32,
    pub is_whole: bool,
}

impl Columns {
    /// Where the timestamps (ascending, not empty) are.
    pub fn place<F: Fs>(
        &mut self,
        pages: &mut Pages<F>,
        series: u32,
        times: &[i64],
    ) -> Result<ColumnPart, Error> {
        let hash = hash(times);
        if let Some(known) = self.by_hash.get(&hash)
            && *known.times == *times
        {
            return Ok(ColumnPart { column: known.column, start: 0, is_whole: true });
        }
        let (first, last) = (times[0], times[times.len() - 1]);
        let candidates = [self.by_first.get(&first), self.by_last.get(&last)];
        for known in candidates.into_iter().flatten() {
            if let Ok(start) = known.times.binary_search(&first)
                && known.times[start..].starts_with(times)
            {
                return Ok(ColumnPart { column: known.column, start: start as u32, is_whole: false });
            }
        }
        let column = self.entries.len() as u32;
        let (page, offset) = self.open.place(pages);
        self.scratch.clear();
        self.scratch.extend_from_slice(times);
        ints::encode(&mut self.scratch, &mut self.open.raw);
        self.open.added(series, first, last);
        self.open.close_if_full(pages, PageKind::Times)?;
        self.entries.push(ColumnEntry { page, offset, len: times.len() as u32, first, last });
        self.remember(hash, Remembered { column, times: times.into() });
        Ok(ColumnPart { column, start: 0, is_whole: true })
    }

    fn remember(&mut self, hash: u64, column: Remembered) {
        self.remembered += column.times.len();
        if self.remembered > REMEMBERED_TIMES {
            self.remembered = column.times.len();
            self.by_hash.clear();
            self.by_first.clear();
            self.by_last.clear();
        }
        let (first, last) = (column.times[0], column.times[column.times.len() - 1]);
        self.by_first.insert(first, column.clone());
        self.by_last.insert(last, column.clone());
        self.by_hash.insert(hash, column);
    }

    pub fn close<F: Fs>(&mut self, pages: &mut Pages<F>) -> Result<(), Error> {
        self.open.close(pages, PageKind::Times)
    }
}

/// Of some timestamps: columns of one hash that differ are stored each, which costs space only.
fn hash(times: &[i64]) -> u64 {
    let stride = times.len().div_ceil(HASHED_TIMES);
    let sampled = times.iter().step_by(stride).chain(times.last());
    sampled.fold(times.len() as u64, |hash, time| {
        (hash.rotate_left(23) ^ *time as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
