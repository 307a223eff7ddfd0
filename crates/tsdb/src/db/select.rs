//! [`Selection`]: series that were found, to be read from any thread.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};

use hashbrown::HashTable;
use lm_fs::Fs;
use lm_model::{Labels, Matcher, Samples, TimeRange, Timestamp};

use super::{Db, DbError, LiveBlock, Tombstone};
use crate::Selector;
use crate::block;
use crate::memory::{SampleSet, merge_newer, read};

/// Series that matchers accept, and everything that is needed to read them:
/// while this is held, nothing of it goes, whatever is rotated, merged or
/// removed meanwhile.
#[derive(Debug)]
pub struct Selection<F: Fs> {
    range: TimeRange,
    series: Vec<Found>,
    /// Of all series, by series and then oldest generation first.
    places: Vec<Place>,
    blocks: Vec<Arc<LiveBlock<F>>>,
    /// Older first.
    sets: Vec<Arc<RwLock<SampleSet>>>,
    tombstones: Vec<(Selector, Tombstone)>,
}

#[derive(Debug)]
struct Found {
    labels: Labels,
    slot: Option<u32>,
    places: Range<u32>,
}

/// A series of a block.
#[derive(Clone, Copy, Debug)]
struct Place {
    block: u32,
    series: u32,
}

/// Finds series by their labels while sources are gone through.
struct Union {
    hasher: RandomState,
    known: HashTable<u32>,
    labels: Vec<(Labels, Option<u32>)>,
    /// (series, place), in order of the sources.
    places: Vec<(u32, Place)>,
    series_max: usize,
}

impl Union {
    fn add(&mut self, pairs: &[(&str, &str)]) -> Result<u32, DbError> {
        let Union { hasher, known, labels, series_max, .. } = self;
        let hash = hash_pairs(hasher, pairs.iter().copied());
        let is_equal = |at: &u32| labels[*at as usize].0.iter().eq(pairs.iter().copied());
        if let Some(at) = known.find(hash, is_equal) {
            return Ok(*at);
        }
        if labels.len() >= *series_max {
            return Err(DbError::TooManySeries { series_max: *series_max });
        }
        let at = labels.len() as u32;
        labels.push((Labels::from_sorted(pairs.iter().copied()), None));
        known.insert_unique(hash, at, |at| hash_pairs(hasher, labels[*at as usize].0.iter()));
        Ok(at)
    }

    fn add_slot(&mut self, found: &Labels, slot: u32) -> Result<(), DbError> {
        if self.labels.len() >= self.series_max {
            return Err(DbError::TooManySeries { series_max: self.series_max });
        }
        let Union { hasher, known, labels, .. } = self;
        let at = labels.len() as u32;
        labels.push((found.clone(), Some(slot)));
        let hash = hash_pairs(hasher, found.iter());
        known.insert_unique(hash, at, |at| hash_pairs(hasher, labels[*at as usize].0.iter()));
        Ok(())
    }
}

fn hash_pairs<'a>(hasher: &RandomState, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut state = hasher.build_hasher();
    pairs.for_each(|pair| pair.hash(&mut state));
    state.finish()
}

impl<F: Fs> Db<F> {
    /// The series that all matchers accept and that may have samples in
    /// `range`, in no order.
    ///
    /// # Errors
    ///
    /// An invalid or oversized regular expression; more than `series_max`
    /// series; a disk that cannot be read. Damage is not an error: what can be
    /// read is found.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: usize,
    ) -> Result<Selection<F>, DbError> {
        let selector = Selector::new(matchers)?;
        let retain_from = Timestamp::from_millis(self.retain_from_ms.load(Ordering::Relaxed));
        let range = TimeRange { start: range.start.max(retain_from), ..range };
        let mut union = Union {
            hasher: RandomState::new(),
            known: HashTable::new(),
            labels: Vec::new(),
            places: Vec::new(),
            series_max,
        };
        let (sets, blocks, tombstones) = {
            let state = self.state();
            let sets: Vec<_> = state.head.sets().cloned().collect();
            let slots = state.head.table.select(&selector);
            let held: Vec<_> = sets.iter().map(read).collect();
            for slot in slots.into_iter().filter(|slot| held.iter().any(|set| set.has_samples(*slot, range)))
            {
                let labels = state.head.table.labels(slot).expect("the index and the table agree");
                union.add_slot(labels, slot)?;
            }
            drop(held);
            (sets, state.blocks.clone(), state.tombstones.clone())
        };
        let blocks: Vec<_> = blocks.iter().filter(|live| live.overlaps(range)).cloned().collect();
        for (at, live) in (0..).zip(&blocks) {
            live.find(&selector, range, |series, pairs| {
                let found = union.add(pairs)?;
                union.places.push((found, Place { block: at, series }));
                Ok(())
            })?;
        }
        let tombstones = tombstones
            .iter()
            .filter(|tombstone| tombstone.range.start < range.end && range.start < tombstone.range.end)
            .map(|tombstone| Ok((Selector::new(&tombstone.matchers)?, tombstone.clone())))
            .collect::<Result<Vec<_>, DbError>>()?;
        Ok(Selection::new(range, union, blocks, sets, tombstones))
    }
}

impl<F: Fs> LiveBlock<F> {
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        self.entry.start < range.end && range.start <= self.entry.last
    }

    /// Shows the series of the block that the selector accepts. What is
    /// damaged is noted and left out.
    pub(super) fn find(
        &self,
        selector: &Selector,
        range: TimeRange,
        mut show: impl FnMut(u32, &[(&str, &str)]) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let series = match self.block.select(selector, range) {
            Ok(series) => series,
            Err(error) => return self.forgive(error),
        };
        let mut shown = Ok(());
        let visited = self.block.visit_labels(&series, |series, pairs| {
            if shown.is_ok() {
                shown = show(series, pairs);
            }
        });
        shown?;
        visited.or_else(|error| self.forgive(error))
    }

    /// Damage costs what it covers, not the answer.
    pub(super) fn forgive(&self, error: block::Error) -> Result<(), DbError> {
        if self.note_damage(&error) { Ok(()) } else { Err(error.into()) }
    }
}

impl<F: Fs> Selection<F> {
    fn new(
        range: TimeRange,
        union: Union,
        blocks: Vec<Arc<LiveBlock<F>>>,
        sets: Vec<Arc<RwLock<SampleSet>>>,
        tombstones: Vec<(Selector, Tombstone)>,
    ) -> Self {
        let Union { labels, mut places, .. } = union;
        // Stable: the places of a series stay in the order of the blocks.
        places.sort_by_key(|(series, _)| *series);
        let mut from = 0;
        let series = (0..).zip(labels).map(|(at, (labels, slot))| {
            let until = from + places[from as usize..].partition_point(|(series, _)| *series <= at) as u32;
            let places = std::mem::replace(&mut from, until)..until;
            Found { labels, slot, places }
        });
        let series = series.collect();
        let places = places.into_iter().map(|(_, place)| place).collect();
        Selection { range, series, places, blocks, sets, tombstones }
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub fn labels(&self, index: usize) -> &Labels {
        &self.series[index].labels
    }

    /// Whether it takes a look at the samples to know that there are any.
    pub(super) fn may_be_empty(&self, index: usize) -> bool {
        // Of series in memory it has been looked at, and blocks know it
        // closely enough where nothing was deleted.
        self.series[index].slot.is_none() && !self.tombstones.is_empty()
    }

    /// Reads the samples of a series into `into`, whatever that held before.
    ///
    /// # Errors
    ///
    /// A disk that cannot be read. What is damaged is left out.
    pub fn read(&self, index: usize, into: &mut Samples) -> Result<(), DbError> {
        into.clear();
        let found = &self.series[index];
        let mut one = Samples::default();
        for place in &self.places[found.places.start as usize..found.places.end as usize] {
            let live = &self.blocks[place.block as usize];
            one.clear();
            if let Err(error) = live.block.read(place.series, self.range, &mut one) {
                live.forgive(error)?;
            }
            for (selector, tombstone) in &self.tombstones {
                let label = |name: &str| found.labels.get(name).unwrap_or_default();
                if tombstone.is_about(&live.entry) && selector.accepts(label) {
                    remove(&mut one, tombstone.range);
                }
            }
            merge_newer(into, &one);
        }
        if let Some(slot) = found.slot {
            self.sets.iter().for_each(|set| read(set).read(slot, self.range, into));
        }
        Ok(())
    }
}

/// Takes out the samples in `range`.
fn remove(samples: &mut Samples, range: TimeRange) {
    let from = samples.times.partition_point(|time| *time < range.start.as_millis());
    let until = samples.times.partition_point(|time| *time < range.end.as_millis());
    if from < until {
        samples.times.drain(from..until);
        samples.values.drain(from..until);
    }
    samples.histograms.retain(|(time, _): &(Timestamp, _)| !range.contains(*time));
}
