//! [`Head`]: all active series and their newest samples.

use std::ops::AddAssign;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use lm_model::{Histogram, Labels, Sample, Timestamp};

use super::set::SampleSet;
use super::table::Table;

/// A series without samples for this long leaves the table.
const IDLE: Duration = Duration::from_secs(3600);

/// A series of one head. Never means another one: when slots are numbered
/// anew or the series has left, it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    numbering: u32,
    slot: u32,
}

#[derive(Clone, Debug)]
pub struct HeadOptions {
    /// At this many series, new ones are refused.
    pub series_max: usize,
}

/// A new series was refused because there are `series_max` already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {series_max} active series, the limit")]
pub struct HeadFull {
    pub series_max: usize,
}

/// The series of this id is not in the table any more: ask for its id again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("series {0:?} is not in the head")]
pub struct UnknownSeries(pub SeriesId);

/// What became of appended samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub stored: usize,
    /// The same value was there already.
    pub duplicates: usize,
    /// Another value was there already, and stays.
    pub conflicts: usize,
    /// Of series that are unknown: nothing was done.
    pub unknown: usize,
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

impl AddAssign for Appended {
    fn add_assign(&mut self, more: Appended) {
        self.stored += more.stored;
        self.duplicates += more.duplicates;
        self.conflicts += more.conflicts;
        self.unknown += more.unknown;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Active series.
    pub series: usize,
    /// Samples that are in no block yet.
    pub samples: usize,
    /// Estimated memory of series and their index.
    pub series_bytes: usize,
    /// Estimated memory of samples.
    pub samples_bytes: usize,
}

/// Time and bits of the newest sample of a series; of a histogram
/// [`HISTOGRAM_BITS`].
#[derive(Clone, Copy, Debug)]
struct Last {
    time: i64,
    bits: u64,
}

/// A NaN that nobody computes.
const HISTOGRAM_BITS: u64 = 0x7ff4_6869_7374_6f67;

const NEVER: Last = Last { time: i64::MIN, bits: 0 };

/// The series table and the samples since the last rotation. One owner
/// appends; readers hold sets of samples for as long as they want.
#[derive(Debug, Default)]
pub struct Head {
    pub(crate) table: Table,
    numbering: u32,
    lasts: Vec<Last>,
    /// Minute in which the series was last seen to have samples.
    seen: Vec<u32>,
    minute: u32,
    active: Arc<RwLock<SampleSet>>,
    /// Being written as a block.
    frozen: Option<Arc<RwLock<SampleSet>>>,
    series_max: usize,
    /// Of one scrape, kept for the next.
    row_slots: Vec<u32>,
    row_values: Vec<f64>,
}

impl Head {
    pub fn new(options: HeadOptions) -> Self {
        Head { series_max: options.series_max, ..Head::default() }
    }

    /// The id of the series with these labels, created if it is new.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesId, HeadFull> {
        if let Some(slot) = self.table.slot(labels) {
            return Ok(self.id(slot));
        }
        if self.table.len() >= self.series_max {
            return Err(HeadFull { series_max: self.series_max });
        }
        let slot = self.table.insert(labels);
        self.lasts.push(NEVER);
        self.seen.push(self.minute);
        Ok(self.id(slot))
    }

    fn id(&self, slot: u32) -> SeriesId {
        SeriesId { numbering: self.numbering, slot }
    }

    /// Whether the series is still in the table.
    pub fn knows(&self, id: SeriesId) -> bool {
        self.slot(id).is_some()
    }

    fn slot(&self, id: SeriesId) -> Option<u32> {
        let is_known = id.numbering == self.numbering && self.table.labels(id.slot).is_some();
        is_known.then_some(id.slot)
    }

    /// Stores the samples that many series have at one time. Any time will do;
    /// of two values of a series at one time the first stays, as far as
    /// memory knows it: what blocks hold is compared when it is read.
    pub fn append(
        &mut self,
        time: Timestamp,
        samples: impl IntoIterator<Item = (SeriesId, f64)>,
    ) -> Appended {
        let mut counts = Appended::default();
        let active = self.active.clone();
        let mut set = write(&active);
        self.row_slots.clear();
        self.row_values.clear();
        for (id, value) in samples {
            let Some(slot) = self.slot(id) else {
                counts.unknown += 1;
                continue;
            };
            let last = &mut self.lasts[slot as usize];
            if time.as_millis() > last.time {
                *last = Last { time: time.as_millis(), bits: value.to_bits() };
                self.row_slots.push(slot);
                self.row_values.push(value);
            } else if time.as_millis() == last.time && last.time != NEVER.time {
                counts.refuse(last.bits == value.to_bits());
            } else {
                self.append_late(&mut set, slot, Sample { time, value }, &mut counts);
            }
        }
        counts.stored += self.row_slots.len();
        set.push_row(&self.row_slots, time, &self.row_values);
        counts
    }

    fn append_late(&self, set: &mut SampleSet, slot: u32, sample: Sample, counts: &mut Appended) {
        let frozen = self.frozen.as_ref().map(read);
        let find = |set: &SampleSet| set.value_at(slot, sample.time);
        if let Some(value) = find(set).or_else(|| frozen.as_deref().and_then(find)) {
            return counts.refuse(value.to_bits() == sample.value.to_bits());
        }
        let has_histogram = |set: &SampleSet| set.histogram_at(slot, sample.time).is_some();
        if has_histogram(set) || frozen.as_deref().is_some_and(has_histogram) {
            return counts.refuse(false);
        }
        counts.stored += 1;
        set.insert_late(slot, sample);
    }

    /// Stores a native histogram. Of a histogram and a number at one time, and
    /// of two histograms, the first stays.
    pub fn append_histogram(&mut self, id: SeriesId, time: Timestamp, histogram: Arc<Histogram>) -> Appended {
        let mut counts = Appended::default();
        let Some(slot) = self.slot(id) else {
            counts.unknown += 1;
            return counts;
        };
        let mut set = write(&self.active);
        let frozen = self.frozen.as_ref().map(read);
        let last = &mut self.lasts[slot as usize];
        if time.as_millis() > last.time {
            *last = Last { time: time.as_millis(), bits: HISTOGRAM_BITS };
        } else {
            let sets = || std::iter::once(&*set).chain(frozen.as_deref());
            if let Some(known) = sets().find_map(|set| set.histogram_at(slot, time)) {
                counts.refuse(is_same(known, &histogram));
                return counts;
            }
            if time.as_millis() == last.time || sets().any(|set| set.value_at(slot, time).is_some()) {
                counts.refuse(false);
                return counts;
            }
        }
        counts.stored += 1;
        set.insert_histogram(slot, time, histogram);
        counts
    }

    /// Sets the samples so far apart, to be written as a block, and begins
    /// anew. `None`: there are none, or those before are still being written.
    pub(crate) fn freeze(&mut self, now: Timestamp) -> Option<Arc<RwLock<SampleSet>>> {
        self.set_time(now);
        if self.frozen.is_some() || read(&self.active).is_empty() {
            return None;
        }
        let frozen = std::mem::take(&mut self.active);
        for slot in read(&frozen).slots() {
            self.seen[slot as usize] = self.minute;
        }
        self.frozen = Some(frozen.clone());
        Some(frozen)
    }

    /// What was set apart is in a block now.
    pub(crate) fn drop_frozen(&mut self) {
        self.frozen = None;
    }

    /// The samples that are in no block, older sets first.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &Arc<RwLock<SampleSet>>> {
        self.frozen.iter().chain([&self.active])
    }

    /// Changes when slots get other numbers.
    pub(crate) fn numbering(&self) -> u32 {
        self.numbering
    }

    /// Lets series go that have had no samples for an hour. Returns how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        self.set_time(now);
        if self.frozen.is_some() {
            // Their slots are in use.
            return 0;
        }
        let idle_minutes = (IDLE.as_secs() / 60) as u32;
        let idle: Vec<u32> = {
            let active = read(&self.active);
            let is_idle = |slot: &u32| self.minute.saturating_sub(self.seen[*slot as usize]) > idle_minutes;
            self.table.all().filter(|slot| is_idle(slot) && !active.is_home_of(*slot)).collect()
        };
        if !idle.is_empty() {
            self.table.remove(&idle);
        }
        if self.table.is_sparse() {
            self.renumber();
        }
        idle.len()
    }

    /// Our own clock may have gone back: then series stay a little longer.
    fn set_time(&mut self, now: Timestamp) {
        self.minute = u32::try_from(now.as_millis() / 60_000).unwrap_or(0);
    }

    fn renumber(&mut self) {
        let is_live: Vec<bool> =
            (0..self.table.slots_len() as u32).map(|slot| self.table.labels(slot).is_some()).collect();
        let mut live = is_live.iter();
        self.lasts.retain(|_| *live.next().expect("each slot has its last sample"));
        let mut live = is_live.iter();
        self.seen.retain(|_| *live.next().expect("each slot has been seen"));
        self.lasts.shrink_to_fit();
        self.seen.shrink_to_fit();
        let new = self.table.renumber();
        // Readers keep the set that they have, with the slots that they know.
        let mut set = match Arc::try_unwrap(std::mem::take(&mut self.active)) {
            Ok(set) => set.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(shared) => read(&shared).clone(),
        };
        set.renumber(&new);
        self.active = Arc::new(RwLock::new(set));
        self.numbering = self.numbering.wrapping_add(1);
    }

    /// Estimated memory of samples that can be written as a block next.
    pub fn active_bytes(&self) -> usize {
        read(&self.active).bytes()
    }

    /// Estimated memory of all samples.
    pub fn samples_bytes(&self) -> usize {
        self.sets().map(|set| read(set).bytes()).sum()
    }

    pub fn stats(&self) -> HeadStats {
        let mut stats = HeadStats {
            series: self.table.len(),
            series_bytes: self.table.bytes()
                + self.lasts.capacity() * size_of::<Last>()
                + self.seen.capacity() * size_of::<u32>(),
            ..HeadStats::default()
        };
        for set in self.sets() {
            let set = read(set);
            stats.samples += set.samples();
            stats.samples_bytes += set.bytes();
        }
        stats
    }
}

/// Bit by bit where it matters: the sum of a marker of staleness is NaN.
fn is_same(known: &Histogram, other: &Histogram) -> bool {
    known.sum.to_bits() == other.sum.to_bits()
        && Histogram { sum: 0.0, ..known.clone() } == Histogram { sum: 0.0, ..other.clone() }
}

// A panic while a set is written poisons its lock. What is there is then at
// worst a part of a batch, and the process ends anyway.

pub(crate) fn read(set: &Arc<RwLock<SampleSet>>) -> RwLockReadGuard<'_, SampleSet> {
    set.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(set: &Arc<RwLock<SampleSet>>) -> RwLockWriteGuard<'_, SampleSet> {
    set.write().unwrap_or_else(PoisonError::into_inner)
}
