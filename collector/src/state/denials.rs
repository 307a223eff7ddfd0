//! Identities that an operator keeps out.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::params;

use super::{State, StateError};

pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS denials (
    identity TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    denied_by TEXT NOT NULL,
    unix_ms INTEGER NOT NULL
) STRICT";

/// One identity that may not log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub reason: String,
    /// The operator who said so.
    pub by: String,
    pub unix_ms: i64,
}

/// All denials: asked in memory, changed on disk first. Cheap to clone.
#[derive(Clone)]
pub struct Denials {
    state: State,
    known: Arc<RwLock<BTreeMap<String, Denial>>>,
}

impl Denials {
    /// Reads them all.
    pub fn load(state: State) -> Result<Denials, StateError> {
        let read = || {
            let database = state.locked();
            let mut statement =
                database.prepare("SELECT identity, reason, denied_by, unix_ms FROM denials")?;
            let rows = statement.query_map([], |row| {
                let denial = Denial { reason: row.get(1)?, by: row.get(2)?, unix_ms: row.get(3)? };
                Ok((row.get::<_, String>(0)?, denial))
            })?;
            rows.collect::<Result<BTreeMap<_, _>, _>>()
        };
        let known = read().map_err(|error| state.failed(error))?;
        Ok(Denials { state, known: Arc::new(RwLock::new(known)) })
    }

    /// Why `identity` may not log in, if so.
    pub fn of(&self, identity: &str) -> Option<Denial> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(identity).cloned()
    }

    /// By identity.
    pub fn all(&self) -> Vec<(String, Denial)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(identity, denial)| (identity.clone(), denial.clone())).collect()
    }

    /// Keeps `identity` out from now on. It is on disk when this returns.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call may still have been carried out.
    pub async fn deny(&self, identity: String, denial: Denial) -> Result<(), StateError> {
        let denials = self.clone();
        on_disk(move || {
            denials
                .state
                .locked()
                .execute(
                    "INSERT OR REPLACE INTO denials VALUES (?1, ?2, ?3, ?4)",
                    params![identity, denial.reason, denial.by, denial.unix_ms],
                )
                .map_err(|error| denials.state.failed(error))?;
            denials.known.write().unwrap_or_else(PoisonError::into_inner).insert(identity, denial);
            Ok(())
        })
        .await
    }

    /// Lets `identity` in again; whether it was denied.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call may still have been carried out.
    pub async fn allow(&self, identity: String) -> Result<bool, StateError> {
        let denials = self.clone();
        on_disk(move || {
            denials
                .state
                .locked()
                .execute("DELETE FROM denials WHERE identity = ?1", params![identity])
                .map_err(|error| denials.state.failed(error))?;
            let mut known = denials.known.write().unwrap_or_else(PoisonError::into_inner);
            Ok(known.remove(&identity).is_some())
        })
        .await
    }
}

/// Off the worker's thread: a sync may take as long as the disk likes.
async fn on_disk<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    tokio::task::spawn_blocking(change).await.map_err(|_| StateError::Gone)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(reason: &str) -> Denial {
        Denial { reason: reason.to_owned(), by: "root".to_owned(), unix_ms: 7 }
    }

    #[tokio::test]
    async fn denials_outlive_the_process_and_end_with_allow() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Denials::load(State::open(dir.path()).unwrap()).unwrap();
        let denials = open();
        denials.deny("web-1".to_owned(), denial("first")).await.unwrap();
        denials.deny("web-1".to_owned(), denial("stolen")).await.unwrap();
        drop(denials);
        let denials = open();
        assert_eq!(denials.of("web-1"), Some(denial("stolen")));
        assert_eq!(denials.of("web-2"), None);
        assert!(denials.allow("web-1".to_owned()).await.unwrap());
        assert!(!denials.allow("web-1".to_owned()).await.unwrap());
        drop(denials);
        assert_eq!(open().all(), []);
    }

    #[test]
    fn a_file_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.locked().pragma_update(None, "user_version", super::super::LAYOUT + 1).unwrap();
        drop(state);
        let error = State::open(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("newer version"), "{error}");
    }

    #[test]
    fn a_damaged_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state.sqlite"), [b'x'; 4096]).unwrap();
        let error = State::open(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
    }
}
