//! [`SampleSet`]: the samples that came since the last rotation.
//!
//! Agents send the same series again and again, all with one time. Such a
//! scrape is a row of a *run*, a matrix whose columns are series:
//!
//! ```text
//! run     slots   12 13 14 15        the series of the columns
//!         before   –  –  3  3        the run where each was before
//!         rows    t1 │ 1.0  0.5  7  7
//!                 t2 │ 2.0  0.5  8  7
//! homes   slot -> (run, column)      where each series was last
//! ```
//!
//! A scrape of other series begins another run. From its home a series can be
//! followed back through all runs it was in, each older than the next. What
//! is not newer than all before, and native histograms, are kept by series.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lm_model::{Histogram, Sample, Samples, TimeRange, Timestamp};

use crate::buckets::bucket_of;
use crate::memory::merge_newer;
use crate::series::Series;

/// Where the newest samples of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home {
    run: u32,
    column: u32,
}

const NOWHERE: Home = Home { run: u32::MAX, column: 0 };

#[derive(Clone, Debug)]
struct Run {
    slots: Box<[u32]>,
    /// Empty if none of the series was in another run before.
    before: Box<[Home]>,
    /// A series has gone on to another run: a row here would be newer.
    is_closed: bool,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    time: Timestamp,
    values: Box<[f64]>,
}

/// Estimated headers of a run's four allocations.
const RUN_BYTES: usize = size_of::<Run>() + 4 * 16;
const ROW_BYTES: usize = size_of::<Row>() + 16;
/// Estimated memory of a bucket in its set.
const BUCKET_BYTES: usize = 32;
/// Estimated memory of a series among the late ones, besides its chunks.
const LATE_BYTES: usize = size_of::<Series>() + 32;

#[derive(Clone, Debug, Default)]
pub(crate) struct SampleSet {
    homes: Vec<Home>,
    runs: Vec<Run>,
    late: HashMap<u32, Series>,
    histograms: HashMap<u32, Vec<(Timestamp, Arc<Histogram>)>>,
    samples: usize,
    bytes: usize,
    /// Of all samples, see [`bucket_of`]: what blocks they will be in.
    buckets: BTreeSet<i64>,
    bucket_last: Option<i64>,
}

impl SampleSet {
    /// Adds a scrape whose every sample is newer than all of its series; no
    /// slot comes twice.
    pub fn push_row(&mut self, slots: &[u32], time: Timestamp, values: &[f64]) {
        let Some(first) = slots.first() else { return };
        let home = self.homes.get(*first as usize).copied().unwrap_or(NOWHERE);
        let run = match self.runs.get(home.run as usize) {
            Some(run) if !run.is_closed && *run.slots == *slots => home.run,
            _ => self.begin_run(slots),
        };
        self.runs[run as usize].rows.push(Row { time, values: values.into() });
        self.bytes += ROW_BYTES + size_of_val(values);
        self.samples += values.len();
        self.note_time(time);
    }

    fn begin_run(&mut self, slots: &[u32]) -> u32 {
        let largest = slots.iter().max().map_or(0, |slot| *slot as usize);
        if self.homes.len() <= largest {
            self.bytes += (largest + 1 - self.homes.len()) * size_of::<Home>();
            self.homes.resize(largest + 1, NOWHERE);
        }
        let id = u32::try_from(self.runs.len()).expect("a set is rotated long before 2^32 runs");
        let mut before: Box<[Home]> = slots.iter().map(|slot| self.homes[*slot as usize]).collect();
        if before.iter().all(|home| *home == NOWHERE) {
            before = Box::default();
        }
        for (column, slot) in (0..).zip(slots) {
            if let Some(left) = self.runs.get_mut(self.homes[*slot as usize].run as usize) {
                left.is_closed = true;
            }
            self.homes[*slot as usize] = Home { run: id, column };
        }
        self.bytes += RUN_BYTES + size_of_val(slots) + size_of_val(&*before);
        self.runs.push(Run { slots: slots.into(), before, is_closed: false, rows: Vec::new() });
        id
    }

    /// Adds a sample that is older than others of its series, and whose time
    /// none of them has.
    pub fn insert_late(&mut self, slot: u32, sample: Sample) {
        let series = self.late.entry(slot).or_insert_with(|| {
            self.bytes += LATE_BYTES;
            Series::default()
        });
        self.bytes -= series.bytes();
        series.append(sample, &mut Default::default());
        self.bytes += series.bytes();
        self.samples += 1;
        self.note_time(sample.time);
    }

    /// Adds a histogram at a time that the series has no sample at.
    pub fn insert_histogram(&mut self, slot: u32, time: Timestamp, histogram: Arc<Histogram>) {
        let known = self.histograms.entry(slot).or_default();
        let at = known.partition_point(|(other, _)| *other < time);
        self.bytes += histogram_bytes(&histogram);
        known.insert(at, (time, histogram));
        self.samples += 1;
        self.note_time(time);
    }

    /// Gives every slot its new number; the order stays, and all that are in
    /// use here are live.
    pub fn renumber(&mut self, new: &[u32]) {
        let homes = std::mem::take(&mut self.homes);
        let used = homes.into_iter().zip(new).filter(|(home, _)| *home != NOWHERE);
        for (home, slot) in used {
            self.homes.resize(*slot as usize, NOWHERE);
            self.homes.push(home);
        }
        for slot in self.runs.iter_mut().flat_map(|run| run.slots.iter_mut()) {
            *slot = new[*slot as usize];
        }
        self.late = self.late.drain().map(|(slot, series)| (new[slot as usize], series)).collect();
        self.histograms = self.histograms.drain().map(|(slot, known)| (new[slot as usize], known)).collect();
    }

    fn note_time(&mut self, time: Timestamp) {
        let bucket = bucket_of(time);
        if self.bucket_last != Some(bucket) {
            self.bucket_last = Some(bucket);
            self.bytes += if self.buckets.insert(bucket) { BUCKET_BYTES } else { 0 };
        }
    }

    /// The number that the series has at `time`.
    pub fn value_at(&self, slot: u32, time: Timestamp) -> Option<f64> {
        for home in self.homes(slot) {
            let run = &self.runs[home.run as usize];
            if let Ok(row) = run.rows.binary_search_by_key(&time, |row| row.time) {
                return Some(run.rows[row].values[home.column as usize]);
            }
        }
        let range = TimeRange { start: time, end: time.saturating_add(std::time::Duration::from_millis(1)) };
        self.late.get(&slot)?.samples(range).next().map(|sample| sample.value)
    }

    pub fn histogram_at(&self, slot: u32, time: Timestamp) -> Option<&Arc<Histogram>> {
        let known = self.histograms.get(&slot)?;
        let at = known.binary_search_by_key(&time, |(time, _)| *time).ok()?;
        Some(&known[at].1)
    }

    /// Adds the samples of a series in `range` to `into`, which holds older
    /// sources: those win.
    pub fn read(&self, slot: u32, range: TimeRange, into: &mut Samples) {
        let mut homes: Vec<Home> = self.homes(slot).collect();
        homes.reverse();
        let mut rows = Samples::default();
        for home in homes {
            let run = &self.runs[home.run as usize];
            let first = run.rows.partition_point(|row| row.time < range.start);
            for row in run.rows[first..].iter().take_while(|row| row.time < range.end) {
                rows.push(row.time, row.values[home.column as usize]);
            }
        }
        merge_newer(into, &rows);
        if let Some(series) = self.late.get(&slot) {
            rows.clear();
            series.samples(range).for_each(|sample| rows.push(sample.time, sample.value));
            merge_newer(into, &rows);
        }
        if let Some(known) = self.histograms.get(&slot) {
            rows.clear();
            rows.histograms.extend(known.iter().filter(|(time, _)| range.contains(*time)).cloned());
            merge_newer(into, &rows);
        }
    }

    /// Whether the series has a sample in `range`.
    pub fn has_samples(&self, slot: u32, range: TimeRange) -> bool {
        let is_in = |run: &Run| {
            let first = run.rows.partition_point(|row| row.time < range.start);
            run.rows.get(first).is_some_and(|row| row.time < range.end)
        };
        self.homes(slot).any(|home| is_in(&self.runs[home.run as usize]))
            || self.late.get(&slot).is_some_and(|series| series.has_samples(range))
            || self
                .histograms
                .get(&slot)
                .is_some_and(|known| known.iter().any(|(time, _)| range.contains(*time)))
    }

    /// Whether the series has any sample here.
    pub fn is_home_of(&self, slot: u32) -> bool {
        self.homes.get(slot as usize).is_some_and(|home| *home != NOWHERE)
            || self.late.contains_key(&slot)
            || self.histograms.contains_key(&slot)
    }

    /// Slots with samples.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        let others = self.late.keys().chain(self.histograms.keys()).copied();
        let end = others.max().map_or(0, |slot| slot + 1).max(self.homes.len() as u32);
        (0..end).filter(|slot| self.is_home_of(*slot))
    }

    /// From the newest to the oldest.
    fn homes(&self, slot: u32) -> impl Iterator<Item = Home> {
        let is_some = |home: &Home| *home != NOWHERE;
        let newest = self.homes.get(slot as usize).copied().filter(is_some);
        std::iter::successors(newest, move |home| {
            self.runs[home.run as usize].before.get(home.column as usize).copied().filter(is_some)
        })
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Numbers of the buckets that hold samples, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = i64> {
        self.buckets.iter().copied()
    }

    /// Times of the first and the last sample; looks at every run.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let of_runs =
            self.runs.iter().filter_map(|run| Some((run.rows.first()?.time, run.rows.last()?.time)));
        let of_late = self.late.values().flat_map(Series::chunks).map(|chunk| (chunk.start, chunk.last));
        let known = self.histograms.values();
        let of_histograms = known.filter_map(|known| Some((known.first()?.0, known.last()?.0)));
        of_runs.chain(of_late).chain(of_histograms).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Estimated memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn histogram_bytes(histogram: &Histogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let numbers =
        histogram.positive_counts.len() + histogram.negative_counts.len() + histogram.custom_bounds.len();
    size_of::<(Timestamp, Arc<Histogram>)>() + size_of::<Histogram>() + 8 * (spans + numbers) + 96
}
