//! The fixed parts of a block file and its directory, as bytes.
//!
//! ```text
//! header    32 bytes: magic, version, id, checksum
//! pages     one after the other, without gaps
//! directory meta, counts, and where everything is
//! trailer   32 bytes: where the directory is, checksums
//! ```
//!
//! `docs/formats/block.md` draws every byte.

use std::path::Path;

use lm_model::{TimeRange, Timestamp};

use super::error::{Error, Part};
use super::meta::{BlockMeta, BlockStats, Kind};
use crate::codec::Malformed;
use crate::codec::bytes::{Cursor, put_bytes, put_i64, put_u64};

pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 32;
pub(super) const TRAILER_BYTES: usize = 32;
const HEADER_MAGIC: [u8; 8] = *b"LMBLOCK\0";
const TRAILER_MAGIC: [u8; 4] = *b"LMBK";

/// Bytes that a page may have before compression.
pub(super) const PAGE_BYTES_MAX: usize = 16 << 20;
/// Series that a block may have: what fits the largest page of postings.
pub(super) const SERIES_MAX: u32 = 1 << 24;
/// Labels of one series, and bytes of one label: with these and the next, a page of the series table and one of label
/// values stay far below [`PAGE_BYTES_MAX`].
pub(super) const SERIES_PAIRS_MAX: usize = 1024;
pub(super) const PAIR_BYTES_MAX: usize = 64 << 10;
/// Runs of one series.
pub(super) const SERIES_CHUNKS_MAX: usize = 1024;
/// Series of one page of the series table.
pub(super) const PAGE_SERIES: usize = 128;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum PageKind {
    /// Runs of values one after the other.
    Values = 1,
    /// A group of runs (`codec::group`).
    Group = 2,
    Histograms = 3,
    Times = 4,
    Series = 5,
    LabelValues = 6,
    Postings = 7,
}

impl PageKind {
    const ALL: [PageKind; 7] = [
        PageKind::Values,
        PageKind::Group,
        PageKind::Histograms,
        PageKind::Times,
        PageKind::Series,
        PageKind::LabelValues,
        PageKind::Postings,
    ];

    pub fn part(self) -> Part {
        match self {
            PageKind::Values | PageKind::Group => Part::Values,
            PageKind::Histograms => Part::Histograms,
            PageKind::Times => Part::Times,
            PageKind::Series => Part::Series,
            PageKind::LabelValues => Part::LabelValues,
            PageKind::Postings => Part::Postings,
        }
    }
}

/// Which series and times are in a page: what is lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hull {
    pub series_first: u32,
    pub series_last: u32,
    pub time_first: i64,
    pub time_last: i64,
}

impl Hull {
    pub const EMPTY: Hull =
        Hull { series_first: u32::MAX, series_last: 0, time_first: i64::MAX, time_last: i64::MIN };

    pub fn add(&mut self, series: u32, time_first: i64, time_last: i64) {
        self.series_first = self.series_first.min(series);
        self.series_last = self.series_last.max(series);
        self.time_first = self.time_first.min(time_first);
        self.time_last = self.time_last.max(time_last);
    }

    pub fn series(&self) -> std::ops::Range<u32> {
        self.series_first..self.series_last.saturating_add(1)
    }

    pub fn times(&self) -> TimeRange {
        TimeRange {
            start: Timestamp::from_millis(self.time_first),
            end: Timestamp::from_millis(self.time_last.saturating_add(1)),
        }
    }
}

/// A page as the directory knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageEntry {
    pub kind: PageKind,
    pub offset: u64,
    pub stored_bytes: u32,
    /// Before compression; 0 for a page that is stored as it is.
    pub raw_bytes: u32,
    pub crc: u32,
    pub hull: Hull,
}

/// A timestamp column as the directory knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ColumnEntry {
    pub page: u32,
    /// In its page, before compression.
    pub offset: u32,
    pub len: u32,
    pub first: i64,
    pub last: i64,
}

/// A label name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameEntry {
    pub name: Box<str>,
    /// Its pairs are `pair_first..pair_end`, ascending by value.
    pub pair_first: u32,
    pub pair_end: u32,
    pub series: u32,
}

/// A page of label values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValuesEntry {
    pub page: u32,
    pub pair_first: u32,
    pub value_first: Box<str>,
}

/// Everything that an open block keeps in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub meta: BlockMeta,
    pub stats: BlockStats,
    pub pages: Vec<PageEntry>,
    pub columns: Vec<ColumnEntry>,
    /// Pages of [`PAGE_SERIES`] series each.
    pub series_pages: Vec<u32>,
    pub names: Vec<NameEntry>,
    pub values_pages: Vec<ValuesEntry>,
}

pub(super) fn header(id: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&HEADER_MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&id.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn trailer(directory_offset: u64, directory: &[u8]) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    bytes[..8].copy_from_slice(&directory_offset.to_le_bytes());
    bytes[8..16].copy_from_slice(&(directory.len() as u64).to_le_bytes());
    bytes[16..20].copy_from_slice(&crc32c::crc32c(directory).to_le_bytes());
    bytes[20..24].copy_from_slice(&TRAILER_MAGIC);
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

/// The block's id.
pub(super) fn read_header(path: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<u64, Error> {
    if bytes[..8] != HEADER_MAGIC {
        return Err(Error::whole(path, Part::Header, 0, "it is no block"));
    }
    if u32_at(bytes, 28) != crc32c::crc32c(&bytes[..28]) {
        return Err(Error::whole(path, Part::Header, 0, "checksum mismatch"));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        return Err(Error::Version { path: path.to_path_buf(), version, supported: VERSION });
    }
    Ok(u64_at(bytes, 16))
}

/// Where the directory is, how long, and its checksum.
pub(super) fn read_trailer(
    path: &Path,
    bytes: &[u8; TRAILER_BYTES],
    file_bytes: u64,
) -> Result<(u64, usize, u32), Error> {
    let at = file_bytes - TRAILER_BYTES as u64;
    let damaged = |reason| Error::whole(path, Part::Footer, at, reason);
    if bytes[20..24] != TRAILER_MAGIC || u32_at(bytes, 28) != crc32c::crc32c(&bytes[..28]) {
        return Err(damaged("the end of the file is missing or damaged"));
    }
    let (offset, len) = (u64_at(bytes, 0), u64_at(bytes, 8));
    if offset.checked_add(len) != Some(at) || offset < HEADER_BYTES as u64 {
        return Err(damaged("the directory is elsewhere"));
    }
    let len = usize::try_from(len).map_err(|_| damaged("the directory is too large"))?;
    Ok((offset, len, u32_at(bytes, 16)))
}

impl Directory {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_meta(&mut out);
        put_u64(&mut out, self.pages.len() as u64);
        for page in &self.pages {
            out.push(page.kind as u8);
            put_u64(&mut out, page.offset);
            put_u64(&mut out, u64::from(page.stored_bytes));
            put_u64(&mut out, u64::from(page.raw_bytes));
            out.extend_from_slice(&page.crc.to_le_bytes());
            put_u64(&mut out, u64::from(page.hull.series_first));
            put_u64(&mut out, u64::from(page.hull.series_last));
            put_i64(&mut out, page.hull.time_first);
            put_i64(&mut out, page.hull.time_last);
        }
        put_u64(&mut out, self.columns.len() as u64);
        for column in &self.columns {
            put_u64(&mut out, u64::from(column.page));
            put_u64(&mut out, u64::from(column.offset));
            put_u64(&mut out, u64::from(column.len));
            put_i64(&mut out, column.first);
            put_u64(&mut out, column.last.wrapping_sub(column.first) as u64);
        }
        put_u64(&mut out, self.series_pages.len() as u64);
        self.series_pages.iter().for_each(|page| put_u64(&mut out, u64::from(*page)));
        put_u64(&mut out, self.names.len() as u64);
        for name in &self.names {
            put_bytes(&mut out, name.name.as_bytes());
            put_u64(&mut out, u64::from(name.pair_end - name.pair_first));
            put_u64(&mut out, u64::from(name.series));
        }
        put_u64(&mut out, self.values_pages.len() as u64);
        for values in &self.values_pages {
            put_u64(&mut out, u64::from(values.page));
            put_u64(&mut out, u64::from(values.pair_first));
            put_bytes(&mut out, values.value_first.as_bytes());
        }
        out
    }

    fn encode_meta(&self, out: &mut Vec<u8>) {
        put_u64(out, self.meta.id);
        out.push(self.meta.kind as u8);
        out.push(self.meta.level);
        put_u64(out, *self.meta.generations.start());
        put_u64(out, *self.meta.generations.end());
        put_bytes(out, &self.meta.covered);
        let stats = &self.stats;
        for count in [stats.series, stats.samples, stats.histograms, stats.columns, stats.pairs] {
            put_u64(out, count);
        }
        put_i64(out, stats.time_first.as_millis());
        put_i64(out, stats.time_last.as_millis());
        for bytes in [stats.value_bytes, stats.time_bytes, stats.index_bytes] {
            put_u64(out, bytes);
        }
    }

    /// Of bytes whose checksum is right. Everything that readers index by is checked here; `pages_end` is where the
    /// pages end in the file.
    pub fn decode(bytes: &[u8], pages_end: u64) -> Result<Directory, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let (meta, mut stats) = decode_meta(&mut cursor)?;
        stats.file_bytes = pages_end + bytes.len() as u64 + TRAILER_BYTES as u64;
        let pages = list(&mut cursor, |cursor| decode_page(cursor, pages_end))?;
        let is_page = |page: u32, kind| pages.get(page as usize).is_some_and(|page| page.kind == kind);
        let columns = list(&mut cursor, |cursor| {
            let (page, offset, len) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
            let (first, span) = (cursor.i64()?, cursor.u64()?);
            let last = first.wrapping_add(span as i64);
            if !is_page(page, PageKind::Times) || last < first || len == 0 {
                return Err(Malformed("a column that cannot be"));
            }
            Ok(ColumnEntry { page, offset, len, first, last })
        })?;
        let series_pages = list(&mut cursor, |cursor| cursor.u32())?;
        if stats.series > u64::from(SERIES_MAX)
            || series_pages.len() != (stats.series as usize).div_ceil(PAGE_SERIES)
            || series_pages.iter().any(|page| !is_page(*page, PageKind::Series))
        {
            return Err(Malformed("a series table that cannot be"));
        }
        let mut pair_end = 0u32;
        let names = list(&mut cursor, |cursor| {
            let name = cursor.text()?.into();
            let pair_first = pair_end;
            pair_end = pair_end.checked_add(cursor.u32()?).ok_or(Malformed("too many label pairs"))?;
            Ok(NameEntry { name, pair_first, pair_end, series: cursor.u32()? })
        })?;
        let values_pages = list(&mut cursor, |cursor| {
            let (page, pair_first) = (cursor.u32()?, cursor.u32()?);
            Ok(ValuesEntry { page, pair_first, value_first: cursor.text()?.into() })
        })?;
        let pairs_agree = u64::from(pair_end) == stats.pairs
            && values_pages.first().map_or(pair_end, |values| values.pair_first) == 0
            && values_pages.last().is_none_or(|values| values.pair_first < pair_end)
            && values_pages.is_sorted_by(|a, b| a.pair_first < b.pair_first)
            && values_pages.iter().all(|values| is_page(values.page, PageKind::LabelValues))
            && names.is_sorted_by(|a, b| a.name < b.name);
        if !pairs_agree || !cursor.is_empty() {
            return Err(Malformed("a label index that cannot be"));
        }
        Ok(Directory { meta, stats, pages, columns, series_pages, names, values_pages })
    }
}

fn decode_meta(cursor: &mut Cursor<'_>) -> Result<(BlockMeta, BlockStats), Malformed> {
    let id = cursor.u64()?;
    let kind = Kind::from_number(cursor.u8()?).ok_or(Malformed("an unknown kind of block"))?;
    let level = cursor.u8()?;
    let generations = cursor.u64()?..=cursor.u64()?;
    let covered = cursor.bytes()?.to_vec();
    let (series, samples, histograms) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (columns, pairs) = (cursor.u64()?, cursor.u64()?);
    let time_first = Timestamp::from_millis(cursor.i64()?);
    let time_last = Timestamp::from_millis(cursor.i64()?);
    let (value_bytes, time_bytes, index_bytes) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let stats = BlockStats {
        series,
        samples,
        histograms,
        time_first,
        time_last,
        columns,
        pairs,
        file_bytes: 0,
        value_bytes,
        time_bytes,
        index_bytes,
    };
    Ok((BlockMeta { id, kind, level, generations, covered }, stats))
}

fn decode_page(cursor: &mut Cursor<'_>, pages_end: u64) -> Result<PageEntry, Malformed> {
    let kind = cursor.u8()?;
    let kind = PageKind::ALL
        .into_iter()
        .find(|known| *known as u8 == kind)
        .ok_or(Malformed("an unknown kind of page"))?;
    let offset = cursor.u64()?;
    let (stored_bytes, raw_bytes) = (cursor.u32()?, cursor.u32()?);
    let crc = u32::from_le_bytes(cursor.take(4)?.try_into().expect("four bytes were taken"));
    let hull = Hull {
        series_first: cursor.u32()?,
        series_last: cursor.u32()?,
        time_first: cursor.i64()?,
        time_last: cursor.i64()?,
    };
    let is_inside = offset >= HEADER_BYTES as u64
        && offset.checked_add(u64::from(stored_bytes)).is_some_and(|end| end <= pages_end);
    if !is_inside || stored_bytes.max(raw_bytes) as usize > PAGE_BYTES_MAX {
        return Err(Malformed("a page that cannot be"));
    }
    Ok(PageEntry { kind, offset, stored_bytes, raw_bytes, crc, hull })
}

/// A counted list; each entry has at least one byte.
fn list<T>(
    cursor: &mut Cursor<'_>,
    mut entry: impl FnMut(&mut Cursor<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..cursor.count()?).map(|_| entry(cursor)).collect()
}
