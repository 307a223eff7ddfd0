//! [`Head`]: the series table, the index and the samples of all series.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use lm_model::{AHEAD, Ahead, Labels, Matcher, Sample, TimeRange, Timestamp};

use crate::index::Index;
use crate::matcher::Compiled;
use crate::series::Series;

/// Estimated memory of a series besides its chunks: both table entries, the
/// series itself, the header of its labels.
const SERIES_BYTES: usize = 160 + size_of::<Series>();

/// Estimated memory of one label besides its text: two boxes and the headers
/// of their allocations.
const LABEL_BYTES: usize = 32 + 2 * 16;

/// Dropping for memory goes on to this fraction (sixteenths) of the bound, so
/// that a full head does not sort its chunks at every call.
const MEMORY_TARGET_SIXTEENTHS: usize = 15;

/// A series of one head. Never used again after its series is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(u32);

#[derive(Clone, Debug)]
pub struct HeadOptions {
    /// Estimated memory that [`Head::expire`] brings the head under.
    pub bytes_max: usize,
    /// Samples older than this are dropped by [`Head::expire`].
    pub retention: Duration,
    /// At this many series, new ones are refused.
    pub series_max: usize,
}

/// A new series was refused because there are `series_max` already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head has {series_max} series, its limit")]
pub struct SeriesLimit {
    pub series_max: usize,
}

/// The series of this id has vanished: ask for its id again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("series {0:?} is not in the head")]
pub struct UnknownSeries(pub SeriesId);

/// A query could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("regular expression {pattern:?}: {reason}")]
    Regex { pattern: Box<str>, reason: String },
    #[error("more than {series_max} series match")]
    TooManySeries { series_max: usize },
    #[error("more than {samples_max} samples match")]
    TooManySamples { samples_max: usize },
}

/// What became of appended samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub stored: usize,
    /// The same value was there already.
    pub duplicates: usize,
    /// Another value was there already, and stays.
    pub conflicts: usize,
}

impl Appended {
    pub(crate) fn refuse(&mut self, is_same_value: bool) {
        if is_same_value {
            self.duplicates += 1;
        } else {
            self.conflicts += 1;
        }
    }
}

/// What [`Head::expire`] removed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Older than the retention time. Series that never had a sample count
    /// here too.
    pub age: Removed,
    /// Oldest when memory was short.
    pub memory: Removed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub samples: usize,
    pub series: usize,
}

/// Bounds on what one query may copy out of the head.
#[derive(Clone, Copy, Debug)]
pub struct SelectLimits {
    pub series_max: usize,
    pub samples_max: usize,
}

impl SelectLimits {
    pub const NONE: SelectLimits = SelectLimits { series_max: usize::MAX, samples_max: usize::MAX };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    pub series: usize,
    pub samples: usize,
    pub chunks: usize,
    /// Estimated memory: labels, index, chunks.
    pub bytes: usize,
}

/// Recent samples in memory. One owner appends; queries take `&self`.
///
/// Memory grows with [`series`](Head::series) and [`append`](Head::append) and
/// shrinks in [`expire`](Head::expire), which the owner calls regularly and
/// whenever [`is_over_memory`](Head::is_over_memory) says so.
#[derive(Debug)]
pub struct Head {
    options: HeadOptions,
    /// Ordered by id, which is the order of creation.
    series: BTreeMap<SeriesId, Series>,
    ids: HashMap<Labels, SeriesId>,
    next_id: u32,
    index: Index,
    /// Series with samples in the future.
    ahead: Ahead<SeriesId>,
    samples: usize,
    /// Estimated memory of series and chunks; the index counts its own.
    bytes: usize,
}

impl Head {
    pub fn new(options: HeadOptions) -> Self {
        Head {
            options,
            series: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            index: Index::default(),
            ahead: Ahead::default(),
            samples: 0,
            bytes: 0,
        }
    }

    /// The id of the series with these labels, created if it is new. A series
    /// that has no sample at the next [`expire`](Head::expire) vanishes.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesId, SeriesLimit> {
        if let Some(id) = self.ids.get(labels) {
            return Ok(*id);
        }
        // Ids are not reused, so a head that lives through 2^32 series is full.
        if self.series.len() >= self.options.series_max || self.next_id == u32::MAX {
            return Err(SeriesLimit { series_max: self.options.series_max });
        }
        let id = SeriesId(self.next_id);
        self.next_id += 1;
        self.index.insert(id, labels);
        self.ids.insert(labels.clone(), id);
        self.series.insert(id, Series::new(labels.clone()));
        self.bytes += table_bytes(labels);
        Ok(id)
    }

    pub fn labels(&self, id: SeriesId) -> Option<&Labels> {
        self.series.get(&id).map(|series| &series.labels)
    }

    /// Stores samples of any time, in any order. Of two values at one time the
    /// first stays.
    pub fn append(&mut self, id: SeriesId, samples: &[Sample]) -> Result<Appended, UnknownSeries> {
        let series = self.series.get_mut(&id).ok_or(UnknownSeries(id))?;
        let mut counts = Appended::default();
        self.bytes -= series.bytes();
        for sample in samples {
            series.append(*sample, &mut counts);
        }
        self.bytes += series.bytes();
        self.samples += counts.stored;
        Ok(counts)
    }

    /// Whether the estimated memory exceeds its bound.
    pub fn is_over_memory(&self) -> bool {
        self.bytes() > self.options.bytes_max
    }

    /// Drops samples older than the retention time, then, if memory is over
    /// its bound, the oldest chunks of all series, and then series without
    /// samples. Samples in the future count as old as their arrival: those of
    /// a series go when for the retention time none has come.
    pub fn expire(&mut self, now: Timestamp) -> Expired {
        let age = self.expire_age(now);
        let memory = if self.is_over_memory() { self.expire_memory(now) } else { Removed::default() };
        Expired { age, memory }
    }

    fn expire_age(&mut self, now: Timestamp) -> Removed {
        let oldest = now.saturating_sub(self.options.retention);
        let mut samples = 0;
        for (id, series) in &mut self.series {
            let [first, ..] = series.chunks() else { continue };
            let [.., last] = series.chunks() else { continue };
            let is_old = first.start < oldest;
            let is_old_ahead = self.ahead.look(id, last.last, now).is_some_and(|came| came < oldest);
            if is_old || is_old_ahead {
                self.bytes -= series.bytes();
                samples += series.remove_before(oldest);
                if is_old_ahead {
                    samples += series.remove_after(now.saturating_add(AHEAD));
                }
                self.bytes += series.bytes();
            }
        }
        self.samples -= samples;
        Removed { samples, series: self.remove_empty_series() }
    }

    fn expire_memory(&mut self, now: Timestamp) -> Removed {
        let target = self.options.bytes_max / 16 * MEMORY_TARGET_SIXTEENTHS;
        let mut oldest_first: Vec<(Timestamp, SeriesId)> = self
            .series
            .iter()
            .flat_map(|(id, series)| {
                series.chunks().iter().map(|chunk| (self.ahead.came(id, chunk.last, now), *id))
            })
            .collect();
        oldest_first.sort_unstable();
        let mut removed = Removed::default();
        // A series' table entry goes with its last chunk: count it as we go,
        // and ask the index only after the fact.
        let mut bytes = self.bytes();
        for (_, id) in oldest_first {
            if bytes <= target {
                break;
            }
            let series = self.series.get_mut(&id).expect("the list was made from this table");
            let before = series.bytes();
            removed.samples += series.remove_first_chunks(1);
            let freed = before - series.bytes();
            self.bytes -= freed;
            bytes -= freed;
            if series.chunks().is_empty() {
                bytes = bytes.saturating_sub(table_bytes(&series.labels));
            }
        }
        self.samples -= removed.samples;
        removed.series = self.remove_empty_series();
        removed
    }

    fn remove_empty_series(&mut self) -> usize {
        let empty: Vec<(SeriesId, Labels)> = self
            .series
            .iter()
            .filter(|(_, series)| series.chunks().is_empty())
            .map(|(id, series)| (*id, series.labels.clone()))
            .collect();
        for (id, labels) in &empty {
            let series = self.series.remove(id).expect("the list was made from this table");
            self.bytes -= table_bytes(labels) + series.bytes();
            self.ids.remove(labels);
            self.ahead.forget(id);
        }
        self.index.remove(&empty);
        if self.ids.capacity() > 4 * self.ids.len() {
            self.ids.shrink_to_fit();
        }
        empty.len()
    }

    /// The series that all matchers accept and that have samples in `range`,
    /// ordered by id.
    ///
    /// # Errors
    ///
    /// An invalid or oversized regular expression; more than `limits` allow.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limits: SelectLimits,
    ) -> Result<Vec<(Labels, Vec<Sample>)>, Error> {
        let mut selected = Vec::new();
        let mut samples_left = limits.samples_max;
        for series in self.matching(matchers)? {
            let room = samples_left.saturating_add(1);
            let samples: Vec<Sample> = series.samples(range).take(room).collect();
            if samples.is_empty() {
                continue;
            }
            samples_left = samples_left
                .checked_sub(samples.len())
                .ok_or(Error::TooManySamples { samples_max: limits.samples_max })?;
            if selected.len() == limits.series_max {
                return Err(Error::TooManySeries { series_max: limits.series_max });
            }
            selected.push((series.labels.clone(), samples));
        }
        Ok(selected)
    }

    /// Labels of the series that all matchers accept and that have samples in
    /// `range`, ordered by id.
    pub fn series_labels(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        Ok(self.present(matchers, range)?.map(|series| series.labels.clone()).collect())
    }

    /// Names of the labels of those series, ascending.
    pub fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        if matchers.is_empty() && range == TimeRange::ALL {
            return Ok(self.index.names().map(str::to_owned).collect());
        }
        let series = self.present(matchers, range)?;
        let names: BTreeSet<&str> = series.flat_map(|s| s.labels.iter().map(|(name, _)| name)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// Values that the label `name` has in those series, ascending.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        if matchers.is_empty() && range == TimeRange::ALL {
            return Ok(self.index.values(name).map(str::to_owned).collect());
        }
        let series = self.present(matchers, range)?;
        let values: BTreeSet<&str> = series.filter_map(|series| series.labels.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// The times of the first and the last sample; looks at every series.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let chunks = || self.series.values().flat_map(|series| series.chunks());
        Some((chunks().map(|chunk| chunk.start).min()?, chunks().map(|chunk| chunk.last).max()?))
    }

    pub fn stats(&self) -> HeadStats {
        HeadStats {
            series: self.series.len(),
            samples: self.samples,
            chunks: self.series.values().map(|series| series.chunks().len()).sum(),
            bytes: self.bytes(),
        }
    }

    fn bytes(&self) -> usize {
        self.bytes + self.index.bytes()
    }

    fn matching(&self, matchers: &[Matcher]) -> Result<impl Iterator<Item = &Series>, Error> {
        let compiled = matchers.iter().map(Compiled::new).collect::<Result<Vec<_>, _>>()?;
        let ids = self.index.select(&compiled, || self.series.keys().copied().collect());
        Ok(ids.into_iter().map(|id| self.series.get(&id).expect("the index and the table agree")))
    }

    fn present(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<impl Iterator<Item = &Series>, Error> {
        Ok(self.matching(matchers)?.filter(move |series| series.has_samples(range)))
    }
}

fn table_bytes(labels: &Labels) -> usize {
    let text: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    SERIES_BYTES + labels.len() * LABEL_BYTES + text
}

#[cfg(test)]
mod tests;
