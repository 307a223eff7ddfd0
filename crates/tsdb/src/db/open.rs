//! Opening a store, whatever state a crash or a bad disk left it in.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, RwLock};

use lm_fs::Fs;
use lm_model::Timestamp;

use super::manifest::{self, Manifest};
use super::{
    BlockEntry, Db, DbError, DbOptions, LiveBlock, LogPosition, QUARANTINE_SUFFIX, State, block_id,
    block_name, flush, is_damage, lock_dir,
};
use crate::block::{self, Block, BlockMeta, PageCache};
use crate::memory::Head;

/// What was found.
#[derive(Debug, Default)]
pub struct Opened {
    /// The log is read from here on.
    pub covered: LogPosition,
    pub blocks: usize,
    /// Blocks that cannot be read, or are not there.
    pub quarantined: Vec<Quarantined>,
    /// Manifests that cannot be read, newest first, and why.
    pub damaged_manifests: Vec<(PathBuf, &'static str)>,
}

/// A block that is lost.
#[derive(Debug)]
pub struct Quarantined {
    pub path: PathBuf,
    pub reason: String,
    /// Samples that were in it; 0: nobody knows.
    pub samples: u64,
}

impl<F: Fs> Db<F> {
    /// Opens the store in `dir`, which is made if needed and locked. A damaged
    /// manifest or block is reported, not an error.
    ///
    /// # Errors
    ///
    /// When the directory is in use by another process, or the file system
    /// refuses.
    pub fn open(fs: F, dir: &Path, options: DbOptions) -> Result<(Db<F>, Opened), DbError> {
        fs.create_dir(dir).map_err(DbError::io("create", dir))?;
        let lock = lock_dir(&fs, dir)?;
        let names = fs.list(dir).map_err(DbError::io("list", dir))?;
        let mut opened = Opened::default();
        let mut manifest = newest(&fs, dir, &names, &mut opened)?;
        let on_disk: BTreeSet<u64> = names.iter().filter_map(|name| block_id(name)).collect();
        let is_certain = opened.damaged_manifests.is_empty();
        if !is_certain {
            // What the newest one named is not known: every block may have
            // been. Samples that are in two of them collapse.
            let known: BTreeSet<u64> = manifest.blocks.iter().map(|block| block.id).collect();
            manifest.blocks.retain(|block| on_disk.contains(&block.id));
            manifest.blocks.extend(on_disk.difference(&known).map(|id| unknown(*id)));
        }
        let cache = Arc::new(PageCache::new(options.cache_bytes));
        let mut blocks = Vec::new();
        for entry in std::mem::take(&mut manifest.blocks) {
            let path = dir.join(block_name(entry.id));
            match Block::open(&fs, &path, cache.clone()) {
                Ok(block) => {
                    let entry = if entry.samples == 0 { described(&block) } else { entry };
                    manifest.blocks.push(entry);
                    blocks.push(Arc::new(LiveBlock::new(entry, block)));
                }
                Err(error) if is_lost(&error) => {
                    // If that fails, the next start tries again.
                    drop(keep_aside(&fs, &path));
                    manifest.lost_samples += entry.samples;
                    manifest.lost_blocks += 1;
                    let reason = error.to_string();
                    opened.quarantined.push(Quarantined { path, reason, samples: entry.samples });
                }
                Err(error) => return Err(error.into()),
            }
        }
        manifest.blocks.sort_by_key(|block| (block.first_generation, block.id));
        blocks.sort_by_key(|live| (live.entry.first_generation, live.entry.id));
        let after = |ids: &mut dyn Iterator<Item = u64>| ids.max().map_or(0, |id| id + 1);
        manifest.next_block = manifest.next_block.max(after(&mut on_disk.iter().copied()));
        let generations = &mut manifest.blocks.iter().map(|block| block.last_generation);
        manifest.next_generation = manifest.next_generation.max(after(generations));
        if !is_certain || !opened.quarantined.is_empty() {
            manifest.number += 1;
            manifest::write(&fs, dir, &manifest)
                .map_err(DbError::io("write", &dir.join(manifest::name(manifest.number))))?;
        }
        remove_unnamed(&fs, dir, &names, &manifest)?;
        opened.covered = manifest.covered;
        opened.blocks = blocks.len();
        let state = State {
            head: Head::new(options.head.clone()),
            blocks: Arc::new(blocks),
            tombstones: Arc::new(manifest.tombstones.clone()),
            covered: manifest.covered,
            lost_samples: manifest.lost_samples,
        };
        let db = Db {
            fs,
            dir: dir.to_path_buf(),
            options,
            cache,
            state: RwLock::new(state),
            manifest: Mutex::new(manifest),
            pending: Mutex::new(None),
            flushing: Mutex::new(flush::Order::default()),
            maintaining: Mutex::new(()),
            retain_from_ms: AtomicI64::new(i64::MIN),
            _lock: lock,
        };
        Ok((db, opened))
    }
}

/// The newest manifest that can be read. Numbers only grow, so a new one
/// never takes the name of one that is damaged.
fn newest<F: Fs>(fs: &F, dir: &Path, names: &[String], opened: &mut Opened) -> Result<Manifest, DbError> {
    let numbers = manifest::numbers(names);
    let mut found = Manifest::default();
    for number in &numbers {
        let path = dir.join(manifest::name(*number));
        match manifest::read(fs, dir, *number).map_err(DbError::io("open", &path))? {
            Ok(manifest) => {
                found = manifest;
                break;
            }
            Err(reason) => opened.damaged_manifests.push((path, reason)),
        }
    }
    found.number = numbers.first().copied().unwrap_or(0);
    Ok(found)
}

/// Removes what a crash left: files that the manifest does not name.
fn remove_unnamed<F: Fs>(fs: &F, dir: &Path, names: &[String], manifest: &Manifest) -> Result<(), DbError> {
    let newest = manifest::numbers(names).first().copied().unwrap_or(0).min(manifest.number);
    let is_outdated = |name: &String| {
        let is_unnamed = block_id(name).is_some_and(|id| manifest.blocks.iter().all(|block| block.id != id));
        // The one before the newest stays, should that become unreadable.
        let is_old = manifest::numbers(std::slice::from_ref(name)).iter().any(|number| number + 1 < newest);
        is_unnamed || is_old || name.ends_with(".tmp")
    };
    for name in names.iter().filter(|name| is_outdated(name)) {
        match fs.remove(&dir.join(name)) {
            // It was kept aside just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(DbError::io("remove", &dir.join(name)))?,
        }
    }
    Ok(())
}

/// Whether the block will not be readable however often it is tried.
fn is_lost(error: &block::Error) -> bool {
    let is_gone = |source: &io::Error| source.kind() == io::ErrorKind::NotFound;
    is_damage(error) || matches!(error, block::Error::Io { source, .. } if is_gone(source))
}

/// Keeps a damaged file for whoever wants to look at it.
pub(super) fn keep_aside<F: Fs>(fs: &F, path: &Path) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(QUARANTINE_SUFFIX);
    fs.rename(path, Path::new(&aside))
}

/// A block that no readable manifest describes: see [`described`].
fn unknown(id: u64) -> BlockEntry {
    let zero = Timestamp::from_millis(0);
    BlockEntry {
        id,
        first_generation: id,
        last_generation: id,
        level: 0,
        start: zero,
        last: zero,
        came: zero,
        samples: 0,
        series: 0,
        bytes: 0,
    }
}

/// What a block says about itself.
fn described<F: Fs>(block: &Block<F>) -> BlockEntry {
    let (meta, stats) = (block.meta(), block.stats());
    BlockEntry {
        id: meta.id,
        first_generation: *meta.generations.start(),
        last_generation: *meta.generations.end(),
        level: meta.level,
        start: stats.time_first,
        last: stats.time_last,
        came: came(meta),
        samples: stats.samples,
        series: stats.series,
        bytes: stats.file_bytes,
    }
}

/// A block carries the time when it was written from memory.
pub(super) fn came(meta: &BlockMeta) -> Timestamp {
    let millis = meta.covered.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    Timestamp::from_millis(millis)
}
