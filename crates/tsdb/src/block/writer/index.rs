//! The index of a block: postings, label values, and the series table, whose pairs get their final numbers here.

use lm_fs::Fs;
use roaring::RoaringBitmap;

use super::SeriesTable;
use super::pages::{Open, Pages};
use super::symbols::{PairEntry, Symbols};
use crate::block::error::Error;
use crate::block::format::{Hull, NameEntry, PAGE_SERIES, PageKind, ValuesEntry};
use crate::block::labels::{Postings, put_value};
use crate::block::series::put_series;

/// A page of label values is closed at this many bytes: finding one value decodes its page.
const VALUES_PAGE_BYTES: usize = 16 << 10;
/// As [`VALUES_PAGE_BYTES`], after what values have in common was repeated.
const VALUES_PAGE_TEXT: usize = 256 << 10;

/// What the directory says of the index.
pub(super) struct Index {
    pub pairs: u64,
    pub names: Vec<NameEntry>,
    pub values_pages: Vec<ValuesEntry>,
    pub series_pages: Vec<u32>,
}

pub(super) fn write<F: Fs>(
    pages: &mut Pages<F>,
    symbols: Symbols,
    table: SeriesTable,
) -> Result<Index, Error> {
    let pairs = symbols.pairs;
    let mut order: Vec<u32> = (0..pairs.len() as u32).filter(|pair| has_series(&pairs, *pair)).collect();
    order.sort_unstable_by(|a, b| {
        let (a, b) = (&pairs[*a as usize], &pairs[*b as usize]);
        (&a.name, &a.value).cmp(&(&b.name, &b.value))
    });
    let (names, values_pages) = write_labels(pages, &pairs, &order)?;
    let mut number_of = vec![0; pairs.len()];
    for (number, pair) in order.iter().enumerate() {
        number_of[*pair as usize] = number as u32;
    }
    drop(pairs);
    let series_pages = write_series(pages, &table, &number_of)?;
    Ok(Index { pairs: order.len() as u64, names, values_pages, series_pages })
}

fn has_series(pairs: &[PairEntry], pair: u32) -> bool {
    !pairs[pair as usize].series.is_empty()
}

fn write_labels<F: Fs>(
    pages: &mut Pages<F>,
    pairs: &[PairEntry],
    order: &[u32],
) -> Result<(Vec<NameEntry>, Vec<ValuesEntry>), Error> {
    let mut names: Vec<NameEntry> = Vec::new();
    let mut values_pages: Vec<ValuesEntry> = Vec::new();
    let (mut postings, mut values) = (Open::default(), Open::default());
    let (mut before, mut text_bytes) = ("", 0);
    for (number, pair) in order.iter().enumerate() {
        let PairEntry { name, value, series, .. } = &pairs[*pair as usize];
        let number = number as u32;
        match names.last_mut() {
            Some(last) if *last.name == **name => {
                last.pair_end = number + 1;
                last.series += series.len() as u32;
            }
            _ => names.push(NameEntry {
                name: (&**name).into(),
                pair_first: number,
                pair_end: number + 1,
                series: series.len() as u32,
            }),
        }
        let place = put_postings(pages, &mut postings, series)?;
        let is_new_page = values.raw.is_empty();
        let (page, _) = values.place(pages);
        if is_new_page {
            values_pages.push(ValuesEntry { page, pair_first: number, value_first: (&**value).into() });
            (before, text_bytes) = ("", 0);
        }
        put_value(&mut values.raw, before, value, place);
        before = value;
        text_bytes += value.len();
        values.added(series[0], i64::MAX, i64::MIN);
        values.added(series[series.len() - 1], i64::MAX, i64::MIN);
        if values.raw.len() >= VALUES_PAGE_BYTES || text_bytes >= VALUES_PAGE_TEXT {
            values.close(pages, PageKind::LabelValues)?;
        }
    }
    values.close(pages, PageKind::LabelValues)?;
    postings.close(pages, PageKind::Postings)?;
    Ok((names, values_pages))
}

fn put_postings<F: Fs>(pages: &mut Pages<F>, open: &mut Open, series: &[u32]) -> Result<Postings, Error> {
    if let [one] = series {
        return Ok(Postings::One(*one));
    }
    let mut bitmap = RoaringBitmap::from_sorted_iter(series.iter().copied())
        .expect("series are numbered in the order in which they are added");
    bitmap.optimize();
    let (page, offset) = open.place(pages);
    bitmap.serialize_into(&mut open.raw).expect("writing to memory works");
    let len = open.raw.len() as u32 - offset;
    open.added(series[0], i64::MAX, i64::MIN);
    open.added(series[series.len() - 1], i64::MAX, i64::MIN);
    open.close_if_full(pages, PageKind::Postings)?;
    Ok(Postings::Many { count: series.len() as u32, page, offset, len })
}

fn write_series<F: Fs>(
    pages: &mut Pages<F>,
    table: &SeriesTable,
    number_of: &[u32],
) -> Result<Vec<u32>, Error> {
    let mut series_pages = Vec::new();
    let (mut pairs, mut chunks) = (&table.pairs[..], &table.chunks[..]);
    let (mut numbers, mut raw, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    for (at, lens) in table.lens.chunks(PAGE_SERIES).enumerate() {
        let mut hull = Hull::EMPTY;
        raw.clear();
        for (pairs_len, chunks_len) in lens {
            let (own_pairs, rest) = pairs.split_at(usize::from(*pairs_len));
            pairs = rest;
            let (own_chunks, rest) = chunks.split_at(*chunks_len as usize);
            chunks = rest;
            numbers.clear();
            numbers.extend(own_pairs.iter().map(|pair| number_of[*pair as usize]));
            put_series(&mut raw, &numbers, own_chunks, &mut scratch);
        }
        let first = (at * PAGE_SERIES) as u32;
        hull.add(first, i64::MAX, i64::MIN);
        hull.add(first + lens.len() as u32 - 1, i64::MAX, i64::MIN);
        let page = pages.begin();
        pages.write(page, PageKind::Series, &raw, hull)?;
        series_pages.push(page);
    }
    Ok(series_pages)
}
