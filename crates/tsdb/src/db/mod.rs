//! [`Db`]: samples in memory and in blocks, as one store.
//!
//! ```text
//! append ─▶ head ─ freeze ─▶ frozen set ─ flush ─▶ block of level 0 ─ maintain ─▶ larger blocks ─▶ gone
//!           (memory)         (memory)              (dir)               by range                by retention
//! ```
//!
//! The log that feeds the store is its write-ahead log: what is not in blocks
//! is read from it again after a start. The [`manifest`] says up to where
//! blocks cover it. Every step that changes blocks writes and syncs files
//! first, then a manifest that names them, and only then removes what it
//! replaced; so a crash anywhere leaves one of two whole states.
//!
//! A `Db` reads no clock and starts no thread: the owner appends and calls
//! [`Db::freeze`], another thread calls [`Db::flush`] and perhaps a third
//! [`Db::maintain`]. Any thread may ask.

mod commit;
mod flush;
mod labels;
mod maintain;
mod manifest;
mod open;
mod plan;
mod select;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use lm_fs::Fs;
use lm_model::Timestamp;

use crate::block::{self, Block, CacheStats, PageCache};
use crate::memory::{Head, HeadOptions, HeadStats, read};
pub use flush::Flushed;
pub use maintain::Maintained;
pub use manifest::{BlockEntry, LogPosition, Manifest, Tombstone};
pub use open::{Opened, Quarantined};
pub use select::Selection;
pub use verify::{Step, Verified, verify};

#[derive(Clone, Debug)]
pub struct DbOptions {
    pub head: HeadOptions,
    /// Whole blocks go when all of their samples are older.
    pub retention: Duration,
    /// The oldest blocks go when all are together larger.
    pub bytes_max: u64,
    /// Pages of blocks in memory.
    pub cache_bytes: usize,
    /// Called at every point where a crash should leave a whole state.
    pub sync_point: fn(),
}

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error(transparent)]
    Block(#[from] block::Error),
    #[error("{action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{dir}: in use by another process", dir = dir.display())]
    InUse { dir: PathBuf },
    #[error("more than {series_max} series match")]
    TooManySeries { series_max: usize },
}

impl DbError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DbError {
        move |source| DbError::Io { action, path: path.to_path_buf(), source }
    }

    /// Whether the disk is full.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            DbError::Block(error) => error.is_out_of_space(),
            DbError::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// A block that queries see.
#[derive(Debug)]
struct LiveBlock<F: Fs> {
    entry: BlockEntry,
    block: Block<F>,
    /// A reader found damage: the next maintenance saves what can be read.
    is_damaged: AtomicBool,
    /// Maintenance could not read it: it stays as it is until retention takes
    /// it or the process ends.
    is_stuck: AtomicBool,
}

/// What queries see, changed as one.
#[derive(Debug)]
struct State<F: Fs> {
    head: Head,
    /// Oldest generation first.
    blocks: Arc<Vec<Arc<LiveBlock<F>>>>,
    tombstones: Arc<Vec<Tombstone>>,
    covered: LogPosition,
    lost_samples: u64,
}

/// What [`Db::flush`] will write.
#[derive(Debug)]
struct Pending {
    now: Timestamp,
    covered: LogPosition,
    set: Option<Arc<RwLock<crate::memory::SampleSet>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbStats {
    pub head: HeadStats,
    pub blocks: usize,
    /// Of block files.
    pub blocks_bytes: u64,
    pub blocks_samples: u64,
    /// Each block's, added.
    pub blocks_series: u64,
    /// What open blocks hold in memory beside the cache.
    pub resident_bytes: usize,
    pub cache: CacheStats,
    /// The oldest sample in a block.
    pub start: Option<Timestamp>,
    pub covered: LogPosition,
    /// Samples of damaged blocks, since ever.
    pub lost_samples: u64,
    pub tombstones: usize,
}

#[derive(Debug)]
pub struct Db<F: Fs> {
    fs: F,
    dir: PathBuf,
    options: DbOptions,
    cache: Arc<PageCache>,
    state: RwLock<State<F>>,
    /// The newest durable one. Its lock is held while another is written.
    manifest: Mutex<Manifest>,
    pending: Mutex<Option<Pending>>,
    /// Held by the flush that is going on, and by the maintenance.
    flushing: Mutex<flush::Order>,
    maintaining: Mutex<()>,
    /// Earlier samples are too old to be shown.
    retain_from_ms: AtomicI64,
    _lock: F::Lock,
}

impl<F: Fs> Db<F> {
    /// Runs `with` on the head: series and appends.
    pub fn with_head<R>(&self, with: impl FnOnce(&mut Head) -> R) -> R {
        with(&mut self.state_mut().head)
    }

    /// Sets what is in memory apart, to be written by [`Db::flush`]: together
    /// with the blocks it is all of the log before `covered`. Cheap. `false`:
    /// what was set apart before is not written yet.
    pub fn freeze(&self, now: Timestamp, covered: LogPosition) -> bool {
        let mut pending = lock(&self.pending);
        if pending.is_some() {
            return false;
        }
        let set = self.state_mut().head.freeze(now);
        *pending = Some(Pending { now, covered, set });
        true
    }

    /// Lets series go that have had no samples for an hour, and hides what is
    /// older than the retention time.
    pub fn expire(&self, now: Timestamp) {
        let retain_from = now.saturating_sub(self.options.retention);
        self.retain_from_ms.store(retain_from.as_millis(), Ordering::Relaxed);
        self.state_mut().head.expire(now);
    }

    /// Whether [`Db::flush`] has something to do.
    pub fn has_pending(&self) -> bool {
        lock(&self.pending).is_some()
    }

    /// Everything of the log before this is in blocks.
    pub fn covered(&self) -> LogPosition {
        self.state().covered
    }

    /// Forgets what is covered: the log is another one, and all of it is to be
    /// read. What of it is in blocks already collapses.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn uncover(&self) -> Result<(), DbError> {
        self.commit(commit::Change::default(), |manifest| manifest.covered = LogPosition::default())
    }

    /// Samples of damaged blocks, since ever.
    pub fn lost(&self) -> u64 {
        self.state().lost_samples
    }

    /// Estimated memory of samples that [`Db::freeze`] would set apart.
    pub fn active_bytes(&self) -> usize {
        self.state().head.active_bytes()
    }

    /// Estimated memory of all samples that are in no block.
    pub fn samples_bytes(&self) -> usize {
        self.state().head.samples_bytes()
    }

    /// The times of the first and the last sample.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let state = self.state();
        let of_blocks = state.blocks.iter().map(|live| (live.entry.start, live.entry.last));
        let of_sets = state.head.sets().filter_map(|set| read(set).times());
        of_blocks.chain(of_sets).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    pub fn stats(&self) -> DbStats {
        let state = self.state();
        let entries = || state.blocks.iter().map(|live| &live.entry);
        DbStats {
            head: state.head.stats(),
            blocks: state.blocks.len(),
            blocks_bytes: entries().map(|entry| entry.bytes).sum(),
            blocks_series: entries().map(|entry| entry.series).sum(),
            blocks_samples: entries().map(|entry| entry.samples).sum(),
            resident_bytes: state.blocks.iter().map(|live| live.block.resident_bytes()).sum(),
            cache: self.cache.stats(),
            start: entries().map(|entry| entry.start).min(),
            covered: state.covered,
            lost_samples: state.lost_samples,
            tombstones: state.tombstones.len(),
        }
    }

    fn block_path(&self, id: u64) -> PathBuf {
        self.dir.join(block_name(id))
    }

    // A panic while the state is written ends the process; whoever still reads
    // goes on with what is there.

    fn state(&self) -> RwLockReadGuard<'_, State<F>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State<F>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Fs> LiveBlock<F> {
    fn new(entry: BlockEntry, block: Block<F>) -> Self {
        LiveBlock { entry, block, is_damaged: AtomicBool::new(false), is_stuck: AtomicBool::new(false) }
    }

    fn note_damage(&self, error: &block::Error) -> bool {
        let is_damage = is_damage(error);
        if is_damage {
            self.is_damaged.store(true, Ordering::Relaxed);
        }
        is_damage
    }
}

/// What Linux answers for a bad sector.
const EIO: i32 = 5;

/// Whether bytes are not what was written, or can no longer be read.
fn is_damage(error: &block::Error) -> bool {
    match error {
        block::Error::Damaged { .. } => true,
        block::Error::Io { source, .. } => source.raw_os_error() == Some(EIO),
        _ => false,
    }
}

/// Held by the process that has the store open.
const LOCK: &str = "lock";

fn lock_dir<F: Fs>(fs: &F, dir: &Path) -> Result<F::Lock, DbError> {
    fs.lock(&dir.join(LOCK)).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => DbError::InUse { dir: dir.to_path_buf() },
        _ => DbError::io("lock", &dir.join(LOCK))(error),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const BLOCK_SUFFIX: &str = ".block";
const QUARANTINE_SUFFIX: &str = ".quarantine";

fn block_name(id: u64) -> String {
    format!("{id:016x}{BLOCK_SUFFIX}")
}

/// The id in the name of a block.
fn block_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(BLOCK_SUFFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
