//! What people decided and what must outlive a restart: who is denied, and
//! which hosts were seen.
//!
//! A SQLite file in the data directory. It is never asked on the way of a
//! login, a push or a heartbeat: what those need is in memory. A decision is
//! durable before it is in memory; what is merely remembered is written behind.

mod denials;
mod hosts;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

pub use denials::{Denial, Denials};

/// The newest layout of the file that this version knows.
const LAYOUT: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {error}; restore it from a backup, or move it away to begin without denials")]
    Database { path: PathBuf, error: rusqlite::Error },
    #[error("{path} was written by a newer version (layout {found}, this one knows {LAYOUT})")]
    Newer { path: PathBuf, found: i64 },
    #[error("the state's thread is gone")]
    Gone,
}

/// The file. Cheap to clone; one writer at a time.
#[derive(Clone)]
pub struct State {
    path: Arc<Path>,
    database: Arc<Mutex<Connection>>,
}

impl State {
    /// Opens `state.sqlite` in `dir`, or makes it.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or is of a newer version.
    pub fn open(dir: &Path) -> Result<State, StateError> {
        let path = dir.join("state.sqlite");
        let failed = |error| StateError::Database { path: path.clone(), error };
        let database = Connection::open(&path).map_err(failed)?;
        // Every commit is on disk before it returns.
        database.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        database.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let found: i64 =
            database.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if found > LAYOUT {
            return Err(StateError::Newer { path, found });
        }
        for table in [denials::TABLE, hosts::TABLE] {
            database.execute_batch(table).map_err(failed)?;
        }
        database.pragma_update(None, "user_version", LAYOUT).map_err(failed)?;
        Ok(State { path: path.into(), database: Arc::new(Mutex::new(database)) })
    }

    fn locked(&self) -> MutexGuard<'_, Connection> {
        // SQLite rolls back what a panic left unfinished.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: rusqlite::Error) -> StateError {
        StateError::Database { path: self.path.to_path_buf(), error }
    }
}
