//! Which agents were seen, so that one that is down when we start is missed.
//! Written behind what is in memory: a crash forgets at most when a host was
//! last seen, by a minute.

use std::sync::Arc;

use lm_model::Timestamp;
use rusqlite::params;

use super::{State, StateError};

pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS hosts (
    identity TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    last_seen_unix_ms INTEGER NOT NULL
) STRICT";

impl State {
    /// Every host: identity, job, and when it was last seen.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn hosts(&self) -> Result<Vec<(Arc<str>, String, Timestamp)>, StateError> {
        let read = || {
            let database = self.locked();
            let mut statement = database.prepare("SELECT identity, job, last_seen_unix_ms FROM hosts")?;
            let rows = statement.query_map([], |row| {
                let identity: String = row.get(0)?;
                Ok((Arc::from(identity), row.get(1)?, Timestamp::from_millis(row.get(2)?)))
            })?;
            rows.collect::<Result<_, _>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// Writes or removes rows, all or none. Blocks for a sync.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; nothing has changed then.
    pub fn save_hosts<'a>(
        &self,
        rows: impl IntoIterator<Item = (&'a str, Option<(&'a str, Timestamp)>)>,
    ) -> Result<(), StateError> {
        let write = || {
            let mut database = self.locked();
            let transaction = database.transaction()?;
            let mut insert = transaction.prepare("INSERT OR REPLACE INTO hosts VALUES (?1, ?2, ?3)")?;
            let mut delete = transaction.prepare("DELETE FROM hosts WHERE identity = ?1")?;
            for (identity, row) in rows {
                match row {
                    Some((job, last_seen)) => {
                        insert.execute(params![identity, job, last_seen.as_millis()])?
                    }
                    None => delete.execute(params![identity])?,
                };
            }
            drop((insert, delete));
            transaction.commit()
        };
        write().map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_outlive_the_process_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let open = || State::open(dir.path()).unwrap();
        let at = Timestamp::from_millis;
        open().save_hosts([("a", Some(("node", at(5)))), ("b", Some(("node", at(6))))]).unwrap();
        open().save_hosts([("a", Some(("edge", at(7)))), ("b", None)]).unwrap();
        assert_eq!(open().hosts().unwrap(), [(Arc::from("a"), "edge".to_owned(), at(7))]);
    }
}
