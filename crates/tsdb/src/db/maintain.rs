//! Retention, merging, deletion, and saving what is left of damaged blocks.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lm_fs::Fs;
use lm_model::{Matcher, TimeRange, Timestamp};

use super::commit::Change;
use super::flush::NewBlock;
use super::{BlockEntry, Db, DbError, LiveBlock, Tombstone, is_damage, lock, plan};
use crate::Selector;
use crate::block::{self, Compression, Deletion, MergeOptions, Output, Progress};

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Blocks that retention took.
    pub expired_blocks: usize,
    pub expired_samples: u64,
    /// Blocks that became one.
    pub merged_blocks: usize,
    /// Samples of two blocks that had another value at one time: the one that
    /// came first stayed.
    pub conflicts: u64,
    /// Samples that can no longer be read.
    pub lost_samples: u64,
}

impl Maintained {
    /// Whether nothing was to be done.
    pub fn is_idle(&self) -> bool {
        *self == Maintained::default()
    }
}

impl<F: Fs> Db<F> {
    /// Does one thing: lets old blocks go, saves what can be read of a damaged
    /// one, applies a deletion, or merges. Call again until it was idle.
    /// `progress` may end a merge early with `Break`: nothing has changed then.
    ///
    /// # Errors
    ///
    /// The disk's. Nothing has changed; the next call tries again.
    pub fn maintain(
        &self,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Maintained, DbError> {
        let _one = lock(&self.maintaining);
        let blocks = self.state().blocks.clone();
        let entries: Vec<BlockEntry> = blocks.iter().map(|live| live.entry).collect();
        let expired = plan::expired(&entries, now, self.options.retention, self.options.bytes_max);
        if !expired.is_empty() {
            let is_expired = |entry: &&BlockEntry| expired.contains(&entry.id);
            let done = Maintained {
                expired_blocks: expired.len(),
                expired_samples: entries.iter().filter(is_expired).map(|entry| entry.samples).sum(),
                ..Maintained::default()
            };
            self.commit(Change { removed: expired, ..Change::default() }, |_| {})?;
            return Ok(done);
        }
        let usable: Vec<_> = blocks.iter().filter(|live| !live.is_stuck.load(Ordering::Relaxed)).collect();
        let tombstones = self.state().tombstones.clone();
        let is_damaged = |live: &&&Arc<LiveBlock<F>>| live.is_damaged.load(Ordering::Relaxed);
        let is_meant = |live: &&&Arc<LiveBlock<F>>| tombstones.iter().any(|of| of.is_about(&live.entry));
        if let Some(one) = usable.iter().find(is_damaged).or_else(|| usable.iter().find(is_meant)) {
            return self.merge(&[(*one).clone()], one.entry.level, now, progress);
        }
        let entries: Vec<BlockEntry> = usable.iter().map(|live| live.entry).collect();
        let Some(plan) = plan::merge(&entries, now, self.options.retention) else {
            return Ok(Maintained::default());
        };
        let is_source = |live: &&&Arc<LiveBlock<F>>| plan.sources.contains(&live.entry.id);
        let sources: Vec<_> = usable.iter().filter(is_source).map(|live| (*live).clone()).collect();
        self.merge(&sources, plan.level, now, progress)
    }

    /// Deletes samples that are in blocks: answers leave them out at once,
    /// maintenance removes them from the files. What is in memory is not
    /// meant: [`Db::flush`] first.
    pub fn delete(&self, matchers: Vec<Matcher>, range: TimeRange) -> Result<(), DbError> {
        Selector::new(&matchers)?;
        self.commit(Change::default(), |manifest| {
            let generation_through = manifest.next_generation.saturating_sub(1);
            let before = manifest.next_block;
            manifest.tombstones.push(Tombstone { before, generation_through, range, matchers });
        })
    }

    /// Makes one block of `sources`, which are in order of their generations.
    fn merge(
        &self,
        sources: &[Arc<LiveBlock<F>>],
        level: u8,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Maintained, DbError> {
        let entries = || sources.iter().map(|live| &live.entry);
        let times = |of: fn(&BlockEntry) -> Timestamp| entries().map(of);
        let new = {
            let mut manifest = lock(&self.manifest);
            manifest.next_block += 1;
            NewBlock {
                id: manifest.next_block - 1,
                level,
                generations: (
                    entries().map(|entry| entry.first_generation).min().unwrap_or_default(),
                    entries().map(|entry| entry.last_generation).max().unwrap_or_default(),
                ),
                came: times(|entry| entry.came).max().unwrap_or_default(),
            }
        };
        let tombstones = self.state().tombstones.clone();
        let options = MergeOptions {
            deletions: tombstones
                .iter()
                .map(|tombstone| Deletion {
                    matchers: tombstone.matchers.clone(),
                    range: tombstone.range,
                    generation_through: tombstone.generation_through,
                })
                .collect(),
            retain_from: Some(now.saturating_sub(self.options.retention)),
        };
        let output = Output {
            path: self.block_path(new.id),
            meta: new.meta(),
            range: TimeRange::ALL,
            compression: Compression::Small,
        };
        let blocks: Vec<_> = sources.iter().map(|live| &live.block).collect();
        let merged = match block::merge(&self.fs, &blocks, &[output], &options, progress) {
            Err(block::Error::Cancelled) => return Ok(Maintained::default()),
            Err(error) if is_damage(&error) => {
                // It does not say whose sector is bad.
                sources.iter().for_each(|live| live.is_stuck.store(true, Ordering::Relaxed));
                return Err(error.into());
            }
            merged => merged?,
        };
        (self.options.sync_point)();
        let mut change = Change { removed: entries().map(|entry| entry.id).collect(), ..Change::default() };
        let stats = merged.blocks.into_iter().flatten().next();
        if let Some(stats) = &stats {
            let entry = BlockEntry {
                id: new.id,
                first_generation: new.generations.0,
                last_generation: new.generations.1,
                level,
                start: stats.time_first,
                last: stats.time_last,
                came: new.came,
                samples: stats.samples,
                series: stats.series,
                bytes: stats.file_bytes,
            };
            change.added.push(Arc::new(self.live(entry, &self.block_path(new.id))?));
        }
        let before: u64 = entries().map(|entry| entry.samples).sum();
        let after = stats.map_or(0, |stats| stats.samples);
        let explained = after + merged.duplicates + merged.conflicts + merged.deleted + merged.expired;
        let mut done = Maintained {
            merged_blocks: sources.len(),
            conflicts: merged.conflicts,
            expired_samples: merged.expired,
            ..Maintained::default()
        };
        if !merged.damage.is_empty() {
            done.lost_samples = before.saturating_sub(explained);
            change.quarantined =
                merged.damage.iter().filter_map(|(at, _)| Some(sources.get(*at)?.entry.id)).collect();
        }
        let lost_blocks = change.quarantined.len() as u64;
        self.commit(change, |manifest| {
            manifest.lost_samples += done.lost_samples;
            manifest.lost_blocks += lost_blocks;
        })?;
        Ok(done)
    }
}
