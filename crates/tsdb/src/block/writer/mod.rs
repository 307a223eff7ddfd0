//! [`BlockWriter`]: writes a block in one pass.

mod columns;
mod index;
mod pages;
mod symbols;

use std::collections::BTreeMap;
use std::path::Path;

use lm_fs::Fs;
use lm_model::{Labels, Samples, Timestamp};

use self::columns::{ColumnPart, Columns};
use self::pages::{Open, Pages};
use self::symbols::Symbols;
use super::format::{Directory, Hull, PageEntry, PageKind, SERIES_CHUNKS_MAX, SERIES_MAX, SERIES_PAIRS_MAX};
use super::series::{Place, put_chunk};
use super::{BlockMeta, BlockStats, Error};
use crate::codec::group::{self, Width};
use crate::codec::values::{self, Encoder, Split};
use crate::codec::{RUN_SAMPLES_MAX, histograms};

/// How much time goes into making a block small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// For blocks that are merged soon: only the cheap codecs.
    Fast,
    /// All codecs.
    Small,
}

impl Compression {
    fn zstd_level(self) -> i32 {
        match self {
            Compression::Fast => 1,
            Compression::Small => 3,
        }
    }
}

/// A label name and value that a [`BlockWriter`] knows. Of no use to another writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair(pub(crate) u32);

/// Runs shorter than this join no group: a page of a group has a few bytes of its own.
const GROUPED_SAMPLES_MIN: usize = 32;

/// A straight run with more exceptions than this is not written into the series table.
const INLINE_EXCEPTIONS_MAX: usize = 4;

/// Runs in which fewer residuals than one in so many are not zero join no group: zstd is better at them.
const GROUPED_NONZERO_SHARE: usize = 16;

/// Numbers that may wait in all open groups together. At the bound the largest group is written.
const WAITING_NUMBERS_MAX: usize = 2 << 20;

/// Writes a block: series in ascending order of labels, then [`finish`](BlockWriter::finish).
///
/// Memory grows with series and label values (about 100 bytes a series plus 4 a label), not with samples: those have
/// bounds that add up to about 50 MiB. The file appears under its name only when it is complete and synced; dropped
/// before, the writer removes what it wrote.
#[derive(Debug)]
pub struct BlockWriter<F: Fs> {
    pages: Pages<F>,
    compression: Compression,
    symbols: Symbols,
    columns: Columns,
    encoder: Encoder,
    values: Open,
    histograms: Open,
    groups: BTreeMap<(Width, u64), OpenGroup>,
    waiting_numbers: usize,
    table: SeriesTable,
    /// Pairs of the series before.
    before: Vec<u32>,
    /// Its labels, if they came as such; else none.
    before_labels: Labels,
    stats: BlockStats,
}

#[derive(Debug)]
struct OpenGroup {
    page: u32,
    hull: Hull,
    builder: group::Builder,
    numbers: usize,
}

/// Series as they will be in their table, but with pairs in order of arrival.
#[derive(Debug, Default)]
struct SeriesTable {
    /// Of all series, one after the other.
    pairs: Vec<u32>,
    chunks: Vec<u8>,
    /// Of each series: its number of pairs, and of bytes of chunks.
    lens: Vec<(u16, u32)>,
}

impl<F: Fs> BlockWriter<F> {
    /// Begins the block `path`, in a file beside it whose name ends in `.tmp` (a left-over one is overwritten).
    pub fn create(fs: &F, path: &Path, compression: Compression) -> Result<Self, Error> {
        Ok(BlockWriter {
            pages: Pages::create(fs, path, compression.zstd_level())?,
            compression,
            symbols: Symbols::default(),
            columns: Columns::default(),
            encoder: Encoder::default(),
            values: Open::default(),
            histograms: Open::default(),
            groups: BTreeMap::new(),
            waiting_numbers: 0,
            table: SeriesTable::default(),
            before: Vec::new(),
            before_labels: Labels::empty(),
            stats: BlockStats::default(),
        })
    }

    /// The pair of a label name and value, for [`add_pairs`](BlockWriter::add_pairs). Who adds many series asks once
    /// for each of its own interned label pairs.
    pub fn pair(&mut self, name: &str, value: &str) -> Result<Pair, Error> {
        self.symbols.pair(name, value).map(Pair)
    }

    /// Adds a series: its labels come after those of the series before, its samples ascend in time and no time is in
    /// both columns. A series without samples is left out.
    pub fn add(&mut self, labels: &Labels, samples: &Samples) -> Result<(), Error> {
        let mut pairs = Vec::with_capacity(labels.len());
        let mut before = self.before_labels.iter();
        for (at, (name, value)) in labels.iter().enumerate() {
            // Neighbours in the order of labels have most of them in common.
            let pair = match before.next() {
                Some(label) if label == (name, value) => self.before[at],
                _ => self.symbols.pair(name, value)?,
            };
            pairs.push(Pair(pair));
        }
        self.add_pairs(&pairs, samples)?;
        if !samples.is_empty() {
            self.before_labels = labels.clone();
        }
        Ok(())
    }

    /// As [`add`](BlockWriter::add), with labels as pairs, ascending by name.
    pub fn add_pairs(&mut self, pairs: &[Pair], samples: &Samples) -> Result<(), Error> {
        if samples.is_empty() {
            return Ok(());
        }
        self.check(pairs, samples)?;
        let series = self.table.lens.len() as u32;
        if series == SERIES_MAX {
            return Err(Error::Full { what: "series", max: u64::from(SERIES_MAX) });
        }
        let chunks_begin = self.table.chunks.len();
        for (times, values) in
            samples.times.chunks(RUN_SAMPLES_MAX).zip(samples.values.chunks(RUN_SAMPLES_MAX))
        {
            self.add_run(series, times, values)?;
        }
        if !samples.histograms.is_empty() {
            self.add_histograms(series, samples)?;
        }
        self.before_labels = Labels::empty();
        self.before.clear();
        self.before.extend(pairs.iter().map(|pair| pair.0));
        for pair in pairs {
            self.symbols.pairs[pair.0 as usize].series.push(series);
        }
        self.table.pairs.extend_from_slice(&self.before);
        self.table.lens.push((pairs.len() as u16, (self.table.chunks.len() - chunks_begin) as u32));
        self.count(samples);
        Ok(())
    }

    /// Whether no series was added.
    pub fn is_empty(&self) -> bool {
        self.table.lens.is_empty()
    }

    fn check(&self, pairs: &[Pair], samples: &Samples) -> Result<(), Error> {
        let misuse = |reason| {
            let labels: Vec<String> = pairs
                .iter()
                .map(|pair| self.symbols.text(pair.0))
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            Err(Error::Misuse { labels: format!("{{{}}}", labels.join(", ")), reason })
        };
        let text = |at: usize| self.symbols.text(pairs[at].0);
        let differs = pairs.iter().zip(&self.before).take_while(|(pair, before)| pair.0 == **before).count();
        if pairs.len() > SERIES_PAIRS_MAX {
            return misuse("it has more than 1024 labels");
        }
        // Neighbours mostly have the same names, which were compared before.
        let name_at = |pair: u32| self.symbols.pairs[pair as usize].name_at;
        let has_names_of_before = pairs.len() == self.before.len()
            && pairs[differs..].iter().zip(&self.before[differs..]).all(|(a, b)| name_at(a.0) == name_at(*b));
        if !has_names_of_before && (differs.max(1)..pairs.len()).any(|at| text(at - 1).0 >= text(at).0) {
            return misuse("its label names do not ascend");
        }
        let is_after = match (pairs.get(differs), self.before.get(differs)) {
            (Some(_), Some(before)) => self.symbols.text(*before) < text(differs),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !is_after && !self.table.lens.is_empty() {
            return misuse("it does not come after the series before it");
        }
        if samples.len().div_ceil(RUN_SAMPLES_MAX) > SERIES_CHUNKS_MAX {
            return Err(Error::Full {
                what: "samples of a series",
                max: (SERIES_CHUNKS_MAX * RUN_SAMPLES_MAX) as u64,
            });
        }
        if samples.times.len() != samples.values.len() {
            return misuse("it has another number of times than of values");
        }
        if !samples.times.is_sorted_by(|a, b| a < b)
            || !samples.histograms.is_sorted_by(|(a, _), (b, _)| a < b)
        {
            return misuse("its times do not ascend");
        }
        Ok(())
    }

    fn add_run(&mut self, series: u32, times: &[i64], values: &[f64]) -> Result<(), Error> {
        let (first, last) = (times[0], times[times.len() - 1]);
        let part = self.columns.place(&mut self.pages, series, times)?;
        let is_grouped_long = self.compression == Compression::Small && values.len() >= GROUPED_SAMPLES_MIN;
        let chunks = &mut self.table.chunks;
        let mut chunk =
            |place: Place<'_>| put_chunk(chunks, part.column, part_range(part, times.len()), place);
        let group = match self.encoder.split(values) {
            Split::Straight if self.encoder.head.exceptions.len() <= INLINE_EXCEPTIONS_MAX => {
                let mut inline = Vec::with_capacity(24);
                self.encoder.head.put(true, &mut inline);
                chunk(Place::Inline(&inline));
                return Ok(());
            }
            Split::Floats if is_grouped_long => (Width::F64, 0),
            Split::Ints(about)
                if is_grouped_long && about.nonzero * GROUPED_NONZERO_SHARE >= values.len() =>
            {
                (Width::of(about.largest), 2 * about.bits / values.len() as u64)
            }
            _ => {
                let (page, offset) = self.values.place(&mut self.pages);
                self.encoder.put(values, &mut self.values.raw);
                self.values.added(series, first, last);
                chunk(Place::Values { page, offset });
                return self.values.close_if_full(&mut self.pages, PageKind::Values);
            }
        };
        let open = self.groups.entry(group).or_insert_with(|| OpenGroup {
            page: self.pages.begin(),
            hull: Hull::EMPTY,
            builder: group::Builder::new(group.0),
            numbers: 0,
        });
        let run = self.encoder.join(values, &mut open.builder, group.0);
        open.hull.add(series, first, last);
        open.numbers += values.len();
        self.waiting_numbers += values.len();
        chunk(Place::Group { page: open.page, run: run as u32 });
        if open.builder.is_full() {
            self.close_group(group)?;
        } else if self.waiting_numbers > WAITING_NUMBERS_MAX {
            let largest = self.groups.iter().max_by_key(|(_, open)| open.numbers).map(|(key, _)| *key);
            self.close_group(largest.expect("numbers wait in groups"))?;
        }
        Ok(())
    }

    fn close_group(&mut self, key: (Width, u64)) -> Result<(), Error> {
        let Some(open) = self.groups.remove(&key) else { return Ok(()) };
        self.waiting_numbers -= open.numbers;
        self.pages.write_dense(open.page, PageKind::Group, &open.builder.finish(), open.hull)
    }

    fn add_histograms(&mut self, series: u32, samples: &Samples) -> Result<(), Error> {
        let mut rest = &samples.histograms[..];
        while !rest.is_empty() {
            let (page, offset) = self.histograms.place(&mut self.pages);
            let (run, after) = rest.split_at(histograms::encode(rest, &mut self.histograms.raw));
            let times: Vec<i64> = run.iter().map(|(time, _)| time.as_millis()).collect();
            let part = self.columns.place(&mut self.pages, series, &times)?;
            self.histograms.added(series, times[0], times[times.len() - 1]);
            let range = part_range(part, times.len());
            put_chunk(&mut self.table.chunks, part.column, range, Place::Histograms { page, offset });
            self.histograms.close_if_full(&mut self.pages, PageKind::Histograms)?;
            rest = after;
        }
        Ok(())
    }

    fn count(&mut self, samples: &Samples) {
        let histograms = &samples.histograms;
        let firsts = [samples.times.first().copied(), histograms.first().map(|(time, _)| time.as_millis())];
        let lasts = [samples.times.last().copied(), histograms.last().map(|(time, _)| time.as_millis())];
        let first = firsts.into_iter().flatten().min().map(Timestamp::from_millis).unwrap_or_default();
        let last = lasts.into_iter().flatten().max().map(Timestamp::from_millis).unwrap_or_default();
        let stats = &mut self.stats;
        stats.time_first = if stats.samples == 0 { first } else { stats.time_first.min(first) };
        stats.time_last = if stats.samples == 0 { last } else { stats.time_last.max(last) };
        stats.series += 1;
        stats.samples += samples.len() as u64;
        stats.histograms += histograms.len() as u64;
    }

    /// Writes index and footer, syncs the file, gives it its name (replacing nothing: the name must be free) and
    /// syncs the directory. After an error the file may be there or not: the caller's manifest decides.
    pub fn finish(mut self, meta: &BlockMeta) -> Result<BlockStats, Error> {
        if meta.covered.len() > BlockMeta::COVERED_BYTES_MAX {
            return Err(Error::Full { what: "covered bytes", max: BlockMeta::COVERED_BYTES_MAX as u64 });
        }
        self.values.close(&mut self.pages, PageKind::Values)?;
        self.histograms.close(&mut self.pages, PageKind::Histograms)?;
        while let Some(key) = self.groups.keys().next().copied() {
            self.close_group(key)?;
        }
        self.columns.close(&mut self.pages)?;
        let BlockWriter { mut pages, symbols, columns, table, mut stats, .. } = self;
        let index = index::write(&mut pages, symbols, table)?;
        stats.columns = columns.entries.len() as u64;
        stats.pairs = index.pairs;
        let mut pages_done = pages.entries();
        // A column is written when its first series comes; any later one may share it.
        let times = pages_done.iter_mut().filter(|page| page.kind == PageKind::Times);
        times.for_each(|page| page.hull.series_last = stats.series as u32 - 1);
        let bytes_of = |is_one: fn(PageKind) -> bool| {
            let pages = pages_done.iter().filter(|page: &&PageEntry| is_one(page.kind));
            pages.map(|page| u64::from(page.stored_bytes)).sum::<u64>()
        };
        stats.value_bytes =
            bytes_of(|kind| matches!(kind, PageKind::Values | PageKind::Group | PageKind::Histograms));
        stats.time_bytes = bytes_of(|kind| kind == PageKind::Times);
        stats.index_bytes = bytes_of(|kind| kind >= PageKind::Series);
        let directory = Directory {
            meta: meta.clone(),
            stats: stats.clone(),
            pages: pages_done,
            columns: columns.entries,
            series_pages: index.series_pages,
            names: index.names,
            values_pages: index.values_pages,
        };
        stats.file_bytes = pages.finish(meta.id, &directory.encode())?;
        Ok(stats)
    }
}

/// The part of its column that a run has; nothing when that is all of it.
fn part_range(part: ColumnPart, len: usize) -> Option<(u32, u32)> {
    (!part.is_whole).then_some((part.start, len as u32))
}

impl Encoder {
    /// Appends the run that was split last, without a group.
    fn put(&self, run: &[f64], out: &mut Vec<u8>) {
        match self.residuals() {
            Some(residuals) => values::put_varints(&self.head, residuals, out),
            None => values::put_floats(run, out),
        }
    }

    /// Adds the run that was split last to a group, and returns its place there.
    fn join(&self, run: &[f64], builder: &mut group::Builder, width: Width) -> usize {
        match self.residuals() {
            Some(residuals) if width != Width::F64 => builder.push_ints(&self.head, residuals),
            _ => builder.push_floats(run),
        }
    }
}
