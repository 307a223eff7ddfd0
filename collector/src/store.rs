//! What queries see: the head, the recent log lines and the live tail. All of
//! it is rebuilt from the spool at start.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lm_logs::{Recent, RecentOptions};
use lm_model::Samples;
use lm_promql::{SelectRequest, Selected, Storage, StorageError};
use lm_tsdb::{Head, HeadOptions, SelectLimits};

use crate::tail::Tail;

/// Shared by the ingest thread, which writes, and the query threads.
pub struct Store {
    head: RwLock<Head>,
    recent: RwLock<Recent>,
    pub tail: Tail,
}

impl Store {
    pub fn new(head: HeadOptions, recent: RecentOptions, tail: Tail) -> Self {
        Store { head: RwLock::new(Head::new(head)), recent: RwLock::new(Recent::new(recent)), tail }
    }

    // A panic while writing poisons a lock. The process then goes on with
    // what is there: at worst a batch is applied in part until the restart.

    pub fn head(&self) -> RwLockReadGuard<'_, Head> {
        self.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn head_mut(&self) -> RwLockWriteGuard<'_, Head> {
        self.head.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recent_mut(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Store {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let limits = SelectLimits { series_max: request.series_max, ..SelectLimits::NONE };
        let found =
            self.head().select(request.matchers, request.range, limits).map_err(|error| match error {
                lm_tsdb::Error::TooManySeries { .. } | lm_tsdb::Error::TooManySamples { .. } => {
                    StorageError::Limit(error.to_string())
                }
                other => StorageError::Invalid(other.to_string()),
            })?;
        let columns = found.into_iter().map(|(labels, samples)| {
            let mut columns = Samples::default();
            samples.iter().for_each(|sample| columns.push(sample.time, sample.value));
            (labels, columns)
        });
        Ok(Box::new(columns.collect::<Vec<_>>()))
    }
}
