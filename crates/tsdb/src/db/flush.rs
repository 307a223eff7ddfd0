//! Writing what was set apart in memory as blocks of level 0.

use std::path::Path;
use std::sync::{Arc, RwLock};

use lm_fs::Fs;
use lm_model::{Samples, TimeRange, Timestamp};

use super::commit::Change;
use super::{BlockEntry, Db, DbError, LiveBlock, lock, plan};
use crate::block::{Block, BlockMeta, BlockWriter, Compression, Kind};
use crate::memory::{SampleSet, read};

/// Series whose labels are read in one look at the table, so that ingest does
/// not wait long.
const LOOK: usize = 4096;

/// What one flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    pub blocks: usize,
    pub samples: u64,
    pub bytes: u64,
    /// Samples that were too old to be written.
    pub expired: u64,
}

/// The slots of all series in the order of their labels, kept from one flush
/// to the next: sorting half a million label sets takes a second.
#[derive(Debug, Default)]
pub(super) struct Order {
    numbering: u32,
    slots: Vec<u32>,
    /// Slots below this are among them.
    end: u32,
}

/// A block to be: its number, and what it says about itself.
pub(super) struct NewBlock {
    pub id: u64,
    pub level: u8,
    pub generations: (u64, u64),
    pub came: Timestamp,
}

impl NewBlock {
    pub fn meta(&self) -> BlockMeta {
        BlockMeta {
            id: self.id,
            kind: Kind::Raw,
            level: self.level,
            generations: self.generations.0..=self.generations.1,
            covered: self.came.as_millis().to_le_bytes().to_vec(),
        }
    }
}

impl<F: Fs> Db<F> {
    /// Writes what [`Db::freeze`] set apart. `None`: there was nothing. Takes
    /// as long as the disk does; one at a time.
    ///
    /// # Errors
    ///
    /// The disk's. What was set apart stays, is still shown, and is tried
    /// again by the next call.
    pub fn flush(&self) -> Result<Option<Flushed>, DbError> {
        let mut order = lock(&self.flushing);
        let Some((now, covered, set)) =
            lock(&self.pending).as_ref().map(|pending| (pending.now, pending.covered, pending.set.clone()))
        else {
            return Ok(None);
        };
        let mut flushed = Flushed::default();
        let mut change = Change::default();
        if let Some(set) = set {
            let (generation, first_id, ranges) = self.places(&set, now);
            let slots = self.ordered(&mut order);
            for (id, range) in (first_id..).zip(ranges) {
                let new = NewBlock { id, level: 0, generations: (generation, generation), came: now };
                if let Some(live) = self.write(&set, &slots, range, &new)? {
                    flushed.blocks += 1;
                    flushed.samples += live.entry.samples;
                    flushed.bytes += live.entry.bytes;
                    change.added.push(Arc::new(live));
                }
                (self.options.sync_point)();
            }
            flushed.expired = (read(&set).samples() as u64).saturating_sub(flushed.samples);
        }
        change.drops_frozen = true;
        self.commit(change, |manifest| manifest.covered = covered)?;
        *lock(&self.pending) = None;
        Ok(Some(flushed))
    }

    /// The generation of a set, the id of its first block, and the ranges of
    /// its blocks. Numbers are given once, also if the flush fails.
    fn places(&self, set: &Arc<RwLock<SampleSet>>, now: Timestamp) -> (u64, u64, Vec<TimeRange>) {
        let cutoff = now.saturating_sub(self.options.retention);
        let mut ranges = plan::cut(read(set).buckets(), now);
        ranges.retain(|range| range.end > cutoff);
        let mut manifest = lock(&self.manifest);
        let (generation, first_id) = (manifest.next_generation, manifest.next_block);
        manifest.next_generation += 1;
        manifest.next_block += ranges.len() as u64;
        (generation, first_id, ranges)
    }

    /// All slots in the order of their labels.
    fn ordered(&self, order: &mut Order) -> Vec<u32> {
        let state = self.state();
        let table = &state.head.table;
        if order.numbering != state.head.numbering() {
            *order = Order { numbering: state.head.numbering(), ..Order::default() };
        }
        let end = table.slots_len() as u32;
        let mut new: Vec<_> =
            (order.end..end).filter_map(|slot| Some((table.labels(slot)?.clone(), slot))).collect();
        let is_live = |slot: &u32| table.labels(*slot).is_some();
        order.slots.retain(is_live);
        let labels: Vec<_> = order.slots.iter().filter_map(|slot| table.labels(*slot).cloned()).collect();
        drop(state);
        new.sort_unstable();
        let mut merged = Vec::with_capacity(order.slots.len() + new.len());
        let mut from = 0;
        for (new_labels, slot) in new {
            let until = from + labels[from..].partition_point(|known| *known < new_labels);
            merged.extend_from_slice(&order.slots[from..until]);
            merged.push(slot);
            from = until;
        }
        merged.extend_from_slice(&order.slots[from..]);
        order.slots.clone_from(&merged);
        order.end = end;
        merged
    }

    /// Writes the samples of a set in `range` as a block; `None`: there are
    /// none.
    fn write(
        &self,
        set: &Arc<RwLock<SampleSet>>,
        slots: &[u32],
        range: TimeRange,
        new: &NewBlock,
    ) -> Result<Option<LiveBlock<F>>, DbError> {
        let path = self.block_path(new.id);
        let mut writer = BlockWriter::create(&self.fs, &path, Compression::Fast)?;
        let (mut samples, mut is_empty) = (Samples::default(), true);
        for look in slots.chunks(LOOK) {
            let labels: Vec<_> = {
                let (state, set) = (self.state(), read(set));
                let used = look.iter().filter(|slot| set.is_home_of(**slot));
                used.filter_map(|slot| Some((state.head.table.labels(*slot)?.clone(), *slot))).collect()
            };
            for (labels, slot) in labels {
                samples.clear();
                read(set).read(slot, range, &mut samples);
                if !samples.is_empty() {
                    is_empty = false;
                    writer.add(&labels, &samples)?;
                }
            }
        }
        if is_empty {
            return Ok(None);
        }
        let stats = writer.finish(&new.meta())?;
        let entry = BlockEntry {
            id: new.id,
            first_generation: new.generations.0,
            last_generation: new.generations.1,
            level: new.level,
            start: stats.time_first,
            last: stats.time_last,
            came: new.came,
            samples: stats.samples,
            series: stats.series,
            bytes: stats.file_bytes,
        };
        self.live(entry, &path).map(Some)
    }

    /// Opens a block that was just written.
    pub(super) fn live(&self, entry: BlockEntry, path: &Path) -> Result<LiveBlock<F>, DbError> {
        let block = Block::open(&self.fs, path, self.cache.clone())?;
        Ok(LiveBlock::new(entry, block))
    }
}
