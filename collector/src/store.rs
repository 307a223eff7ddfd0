//! What queries see: samples, the recent log lines and the live tail. What of
//! it is in memory is rebuilt from the spool at start.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lm_fs::RealFs;
use lm_logs::{Recent, RecentOptions};
use lm_model::{Labels, Samples};
use lm_promql::{SelectRequest, Selected, Storage, StorageError};
use lm_tsdb::db::{Db, DbError, Selection};

use crate::tail::Tail;

/// Shared by the ingest thread, which writes, the storage threads, which move
/// samples to disk, and the query threads.
pub struct Store {
    pub db: Db<RealFs>,
    recent: RwLock<Recent>,
    pub tail: Tail,
}

impl Store {
    pub fn new(db: Db<RealFs>, recent: RecentOptions, tail: Tail) -> Self {
        Store { db, recent: RwLock::new(Recent::new(recent)), tail }
    }

    // A panic while writing poisons a lock. The process then goes on with
    // what is there: at worst a batch is applied in part until the restart.

    pub fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recent_mut(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Store {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let found = self.db.select(request.matchers, request.range, request.series_max).map_err(error)?;
        Ok(Box::new(Found(found)))
    }
}

struct Found(Selection<RealFs>);

impl Selected for Found {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        self.0.labels(index)
    }

    fn read(&self, index: usize, _: usize, into: &mut Samples) -> Result<(), StorageError> {
        self.0.read(index, into).map_err(error)
    }
}

fn error(error: DbError) -> StorageError {
    match error {
        DbError::TooManySeries { .. } => StorageError::Limit(error.to_string()),
        DbError::Block(lm_tsdb::block::Error::Regex { .. }) => StorageError::Invalid(error.to_string()),
        _ => StorageError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
pub mod testing {
    use std::path::Path;
    use std::time::Duration;

    use lm_tsdb::db::DbOptions;
    use lm_tsdb::memory::HeadOptions;

    use super::*;

    /// An empty store whose directory goes with the second value.
    pub fn store() -> (Store, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (store_in(dir.path()), dir)
    }

    pub fn store_in(dir: &Path) -> Store {
        let options = DbOptions {
            head: HeadOptions { series_max: 1000 },
            retention: Duration::from_secs(100 * 365 * 86_400),
            bytes_max: u64::MAX,
            cache_bytes: 1 << 20,
            sync_point: || {},
        };
        let (db, _) = Db::open(RealFs, dir, options).unwrap();
        let recent = RecentOptions { bytes_max: 1 << 30, retention: Duration::from_secs(3600) };
        Store::new(db, recent, Tail::new(1))
    }
}
