//! The one way in which the set of blocks changes.

use std::sync::Arc;

use lm_fs::Fs;

use super::manifest::{self, Manifest};
use super::open::keep_aside;
use super::{Db, DbError, LiveBlock, State, lock};

/// What a commit does beside changing the manifest.
#[derive(Debug)]
pub(super) struct Change<F: Fs> {
    pub added: Vec<Arc<LiveBlock<F>>>,
    /// Ids.
    pub removed: Vec<u64>,
    /// Of `removed`, those whose files are kept aside: they are damaged.
    pub quarantined: Vec<u64>,
    /// What was set apart in memory is among the added blocks.
    pub drops_frozen: bool,
}

impl<F: Fs> Default for Change<F> {
    fn default() -> Self {
        Change { added: Vec::new(), removed: Vec::new(), quarantined: Vec::new(), drops_frozen: false }
    }
}

impl<F: Fs> Db<F> {
    /// Makes `change` durable, then visible, then removes what it replaced.
    /// `edit` changes the rest of the manifest.
    ///
    /// # Errors
    ///
    /// Nothing has changed here; after the next start it may have.
    pub(super) fn commit(&self, change: Change<F>, edit: impl FnOnce(&mut Manifest)) -> Result<(), DbError> {
        let mut current = lock(&self.manifest);
        let mut next = current.clone();
        next.number += 1;
        next.blocks.retain(|block| !change.removed.contains(&block.id));
        next.blocks.extend(change.added.iter().map(|live| live.entry));
        next.blocks.sort_by_key(|block| (block.first_generation, block.id));
        edit(&mut next);
        // A deletion is done when no block is left that it speaks of.
        let Manifest { tombstones, blocks, .. } = &mut next;
        tombstones.retain(|tombstone| blocks.iter().any(|block| tombstone.is_about(block)));
        let written = manifest::write(&self.fs, &self.dir, &next);
        if let Err(error) = written {
            // Their names are given once: if the manifest is durable after
            // all, they must be there. The next start removes them if not.
            return Err(DbError::io("write", &self.dir.join(manifest::name(next.number)))(error));
        }
        (self.options.sync_point)();
        let outdated = current.number.checked_sub(1);
        *current = next;
        self.show(&change, &current);
        drop(current);
        for id in change.removed {
            self.cache.forget(id);
            let path = self.block_path(id);
            let gone = if change.quarantined.contains(&id) {
                keep_aside(&self.fs, &path)
            } else {
                self.fs.remove(&path)
            };
            // Nobody names the file any more: the next start removes it.
            drop(gone);
        }
        if let Some(number) = outdated {
            drop(self.fs.remove(&self.dir.join(manifest::name(number))));
        }
        Ok(())
    }

    fn show(&self, change: &Change<F>, manifest: &Manifest) {
        let State { head, blocks, tombstones, covered, lost_samples } = &mut *self.state_mut();
        if change.drops_frozen {
            head.drop_frozen();
        }
        let kept = blocks.iter().filter(|live| !change.removed.contains(&live.entry.id));
        let mut live: Vec<_> = kept.chain(&change.added).cloned().collect();
        live.sort_by_key(|live| (live.entry.first_generation, live.entry.id));
        *blocks = Arc::new(live);
        *tombstones = Arc::new(manifest.tombstones.clone());
        *covered = manifest.covered;
        *lost_samples = manifest.lost_samples;
    }
}
