//! The threads that move samples from memory to disk and keep order there.
//!
//! `storage` writes what ingest set apart, `merge` merges blocks and lets old
//! ones go: a merge of a day takes minutes, and ingest must not wait for it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lm_model::Timestamp;
use lm_telemetry::{Figure, Histogram};
use lm_tsdb::db::{DbError, Maintained};

use crate::ingest::COLLECTOR;
use crate::store::Store;
use crate::tail::{Notice, TailEvent};

/// How often is looked whether there is something to do, and how long after
/// an error it is tried again.
const LOOK: Duration = Duration::from_secs(5);
/// sysexits: an error inside the program.
const EXIT_SOFTWARE: i32 = 70;

/// What the storage threads did, and what wakes them.
#[derive(Default)]
pub struct StorageState {
    /// Counts what was set apart: who has seen less has something to do.
    round: Mutex<u64>,
    changed: Condvar,
    is_stopping: AtomicBool,
    /// What retention goes by, kept by ingest; 0: not yet.
    now_unix_ms: AtomicI64,
    flushed_unix_ms: AtomicI64,
    flushes: Histogram,
    merges: Histogram,
    failures: AtomicU64,
    flushed_samples: AtomicU64,
    flushed_bytes: AtomicU64,
    merged_blocks: AtomicU64,
    merge_conflicts: AtomicU64,
    expired_samples: AtomicU64,
}

impl StorageState {
    /// Tells retention the time.
    pub fn set_now(&self, now: Timestamp) {
        self.now_unix_ms.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Something was set apart: it is written soon.
    pub fn wake(&self) {
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until there may be something to do. `false`: the end.
    fn wait(&self, seen: &mut u64) -> bool {
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |round: &mut u64| *round == *seen && !self.is_stopping();
        let waited = self.changed.wait_timeout_while(round, LOOK, waits);
        *seen = *waited.unwrap_or_else(PoisonError::into_inner).0;
        !self.is_stopping()
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    fn now(&self) -> Option<Timestamp> {
        let now = self.now_unix_ms.load(Ordering::Relaxed);
        (now != 0).then(|| Timestamp::from_millis(now))
    }

    /// Writes what is set apart, if anything is.
    pub fn flush(&self, store: &Store) {
        let began = Instant::now();
        match store.db.flush() {
            Ok(None) => {}
            Ok(Some(flushed)) => {
                self.flushes.observe(began.elapsed());
                self.flushed_samples.fetch_add(flushed.samples, Ordering::Relaxed);
                self.flushed_bytes.fetch_add(flushed.bytes, Ordering::Relaxed);
                self.expired_samples.fetch_add(flushed.expired, Ordering::Relaxed);
                if let Some(now) = self.now() {
                    self.flushed_unix_ms.store(now.as_millis(), Ordering::Relaxed);
                }
                tracing::debug!(
                    blocks = flushed.blocks,
                    samples = flushed.samples,
                    "memory was written as blocks"
                );
            }
            Err(error) => self.fail(&error, "cannot write samples as a block: they stay in memory"),
        }
    }

    /// Merges and expires until nothing is to be done or something fails.
    fn maintain(&self, store: &Store) {
        let Some(now) = self.now() else { return };
        let mut progress =
            |_| if self.is_stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        loop {
            let began = Instant::now();
            match store.db.maintain(now, &mut progress) {
                Ok(done) if done.is_idle() => return,
                Ok(done) => self.note(&done, began.elapsed(), store, now),
                Err(error) => return self.fail(&error, "cannot merge or remove blocks"),
            }
            if self.is_stopping() {
                return;
            }
        }
    }

    fn note(&self, done: &Maintained, took: Duration, store: &Store, now: Timestamp) {
        if done.merged_blocks > 0 {
            self.merges.observe(took);
        }
        self.merged_blocks.fetch_add(done.merged_blocks as u64, Ordering::Relaxed);
        self.merge_conflicts.fetch_add(done.conflicts, Ordering::Relaxed);
        self.expired_samples.fetch_add(done.expired_samples, Ordering::Relaxed);
        if done.lost_samples > 0 {
            let message = format!("a damaged block lost {} samples; it was kept aside", done.lost_samples);
            tracing::error!("{message}");
            tell(store, now, message, done.lost_samples);
        }
    }

    fn fail(&self, error: &DbError, what: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "{what}; tried again in {} s", LOOK.as_secs());
    }

    /// Adds what is on disk and what moves there.
    pub fn figures(&self, store: &Store, to: &mut Vec<Figure>) {
        let stats = store.db.stats();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let seconds = |millis: i64| millis as f64 / 1000.0;
        let start = stats.start.map_or(0, Timestamp::as_millis);
        to.extend([
            Figure::new("lmcollector_head_series", "Active series.", stats.head.series as f64),
            Figure::new("lmcollector_head_samples", "Samples in no block yet.", stats.head.samples as f64),
            Figure::new(
                "lmcollector_head_bytes",
                "Memory of active series and of samples in no block yet.",
                (stats.head.series_bytes + stats.head.samples_bytes) as f64,
            ),
            Figure::new("lmcollector_blocks", "Blocks of samples on disk.", stats.blocks as f64),
            Figure::new("lmcollector_blocks_bytes", "Size of blocks on disk.", stats.blocks_bytes as f64),
            Figure::new("lmcollector_blocks_samples", "Samples in blocks.", stats.blocks_samples as f64),
            Figure::new(
                "lmcollector_blocks_oldest_timestamp_seconds",
                "Time of the oldest sample in a block; 0: there is none.",
                seconds(start),
            ),
            Figure::new(
                "lmcollector_block_cache_bytes",
                "Pages of blocks in memory.",
                stats.cache.bytes as f64,
            ),
            Figure::new("lmcollector_block_cache_hits_total", "Pages found there.", stats.cache.hits as f64),
            Figure::new(
                "lmcollector_block_cache_misses_total",
                "Pages read from disk.",
                stats.cache.misses as f64,
            ),
            Figure::new(
                "lmcollector_flush_timestamp_seconds",
                "When memory was last written as blocks; 0: not yet.",
                seconds(self.flushed_unix_ms.load(Ordering::Relaxed)),
            ),
            Figure::new(
                "lmcollector_covered_segment",
                "Segment of the spool before which all samples are in blocks.",
                stats.covered.segment as f64,
            ),
            Figure::histogram(
                "lmcollector_flush_seconds",
                "Time to write memory as blocks.",
                self.flushes.snapshot(),
            ),
            Figure::histogram("lmcollector_merge_seconds", "Time to merge blocks.", self.merges.snapshot()),
            Figure::new(
                "lmcollector_storage_failures_total",
                "Flushes and merges that failed and are tried again.",
                count(&self.failures),
            ),
            Figure::new(
                "lmcollector_flushed_samples_total",
                "Samples written as blocks.",
                count(&self.flushed_samples),
            ),
            Figure::new(
                "lmcollector_flushed_bytes_total",
                "Size of the blocks written from memory.",
                count(&self.flushed_bytes),
            ),
            Figure::new("lmcollector_merged_blocks_total", "Blocks merged.", count(&self.merged_blocks)),
            Figure::new(
                "lmcollector_merge_conflicts_total",
                "Samples of two blocks with another value at one time: the older block's stayed.",
                count(&self.merge_conflicts),
            ),
            Figure::new(
                "lmcollector_expired_samples_total",
                "Samples that retention took.",
                count(&self.expired_samples),
            ),
            Figure::new(
                "lmcollector_lost_samples_total",
                "Samples in damaged blocks.",
                stats.lost_samples as f64,
            ),
        ]);
    }
}

/// Tells those who watch that samples are lost.
pub fn tell(store: &Store, now: Timestamp, message: String, items: u64) {
    store.tail.publish([TailEvent::Notice(Notice {
        time_unix_nano: now.as_nanos(),
        code: "block_damaged".to_owned(),
        agent: COLLECTOR.to_owned(),
        message,
        items,
    })]);
}

/// The running threads.
pub struct StorageThreads {
    state: Arc<StorageState>,
    threads: Vec<JoinHandle<()>>,
}

impl StorageThreads {
    pub fn start(store: &Arc<Store>, state: Arc<StorageState>) -> std::io::Result<StorageThreads> {
        let mut started = StorageThreads { state, threads: Vec::new() };
        started.spawn("storage", store, |state, store| state.flush(store))?;
        started.spawn("merge", store, |state, store| state.maintain(store))?;
        Ok(started)
    }

    fn spawn(
        &mut self,
        name: &str,
        store: &Arc<Store>,
        work: fn(&StorageState, &Store),
    ) -> std::io::Result<()> {
        let (state, store) = (self.state.clone(), store.clone());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let run = || {
                let mut seen = 0;
                while state.wait(&mut seen) {
                    work(&state, &store);
                }
            };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                tracing::error!("storage panicked: the process ends, a restart begins from the spool");
                std::process::exit(EXIT_SOFTWARE);
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends both threads; a merge under way is given up.
    pub fn stop(self) {
        self.state.is_stopping.store(true, Ordering::Relaxed);
        self.state.wake();
        for thread in self.threads {
            // A panic has ended the process.
            drop(thread.join());
        }
    }
}
