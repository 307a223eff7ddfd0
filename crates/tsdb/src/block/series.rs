//! Series as bytes: their label pairs, and where their runs of samples are.
//!
//! ```text
//! page of the series table: for each series its length in bytes, then
//!   number of pairs, the first pair, differences to the next ones
//!   for each run: a tag, its column, the part of it, its place
//! ```

use crate::codec::bytes::{Cursor, put_bytes, put_u64};
use crate::codec::{Malformed, RUN_SAMPLES_MAX};

/// Where the samples of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// Here.
    Inline(&'a [u8]),
    Values {
        page: u32,
        offset: u32,
    },
    Group {
        page: u32,
        run: u32,
    },
    Histograms {
        page: u32,
        offset: u32,
    },
}

const INLINE: u8 = 0;
const VALUES: u8 = 1;
const GROUP: u8 = 2;
const HISTOGRAMS: u8 = 3;
const PLACE: u8 = 3;
/// A start and a length follow.
const PART: u8 = 4;

/// A run of samples of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub column: u32,
    /// Start and length in the column; nothing for all of it.
    pub part: Option<(u32, u32)>,
    pub place: Place<'a>,
}

/// Appends a run of `column`.
pub(super) fn put_chunk(out: &mut Vec<u8>, column: u32, part: Option<(u32, u32)>, place: Place<'_>) {
    let (tag, page, at) = match place {
        Place::Inline(_) => (INLINE, 0, 0),
        Place::Values { page, offset } => (VALUES, page, offset),
        Place::Group { page, run } => (GROUP, page, run),
        Place::Histograms { page, offset } => (HISTOGRAMS, page, offset),
    };
    out.push(tag | if part.is_some() { PART } else { 0 });
    put_u64(out, u64::from(column));
    if let Some((start, len)) = part {
        put_u64(out, u64::from(start));
        put_u64(out, u64::from(len));
    }
    if let Place::Inline(bytes) = place {
        put_bytes(out, bytes);
    } else {
        put_u64(out, u64::from(page));
        put_u64(out, u64::from(at));
    }
}

fn take_chunk<'a>(cursor: &mut Cursor<'a>) -> Result<Chunk<'a>, Malformed> {
    let tag = cursor.u8()?;
    let column = cursor.u32()?;
    let part =
        if tag & PART == 0 { None } else { Some((cursor.u32()?, cursor.at_most(RUN_SAMPLES_MAX)? as u32)) };
    let place = match tag & PLACE {
        INLINE => Place::Inline(cursor.bytes()?),
        VALUES => Place::Values { page: cursor.u32()?, offset: cursor.u32()? },
        GROUP => Place::Group { page: cursor.u32()?, run: cursor.u32()? },
        _ => Place::Histograms { page: cursor.u32()?, offset: cursor.u32()? },
    };
    Ok(Chunk { column, part, place })
}

/// Appends a series: `pairs` ascending, `chunks` as [`put_chunk`] wrote them.
pub(super) fn put_series(out: &mut Vec<u8>, pairs: &[u32], chunks: &[u8], scratch: &mut Vec<u8>) {
    scratch.clear();
    put_u64(scratch, pairs.len() as u64);
    let mut before = 0;
    for pair in pairs {
        put_u64(scratch, u64::from(pair - before));
        before = *pair;
    }
    scratch.extend_from_slice(chunks);
    put_bytes(out, scratch);
}

/// A page of the series table, ready to be looked into.
#[derive(Debug)]
pub(super) struct SeriesPage {
    bytes: Vec<u8>,
    /// Where each series begins and ends.
    places: Vec<(u32, u32)>,
}

impl SeriesPage {
    pub fn parse(bytes: Vec<u8>) -> Result<SeriesPage, Malformed> {
        let mut cursor = Cursor::new(&bytes);
        let mut places = Vec::new();
        while !cursor.is_empty() {
            let series = cursor.bytes()?;
            let end = (bytes.len() - cursor.rest().len()) as u32;
            places.push((end - series.len() as u32, end));
        }
        Ok(SeriesPage { bytes, places })
    }

    /// The series at `at` in the page: its pairs into `pairs`, and a reader of its chunks.
    pub fn series(&self, at: usize, pairs: &mut Vec<u32>) -> Result<Chunks<'_>, Malformed> {
        pairs.clear();
        let mut cursor = self.cursor(at)?;
        let mut pair = 0u32;
        for _ in 0..cursor.count()? {
            pair = pair.checked_add(cursor.u32()?).ok_or(Malformed("a pair that cannot be"))?;
            pairs.push(pair);
        }
        Ok(Chunks(cursor))
    }

    /// The chunks of the series at `at` in the page.
    pub fn chunks(&self, at: usize) -> Result<Chunks<'_>, Malformed> {
        let mut cursor = self.cursor(at)?;
        for _ in 0..cursor.count()? {
            cursor.u64()?;
        }
        Ok(Chunks(cursor))
    }

    fn cursor(&self, at: usize) -> Result<Cursor<'_>, Malformed> {
        let (begin, end) = *self.places.get(at).ok_or(Malformed("a series is missing"))?;
        Ok(Cursor::new(&self.bytes[begin as usize..end as usize]))
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len() + 8 * self.places.len()
    }
}

/// The runs of a series, in order of time, numbers before histograms.
#[derive(Clone, Debug)]
pub(super) struct Chunks<'a>(Cursor<'a>);

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| take_chunk(&mut self.0))
    }
}
