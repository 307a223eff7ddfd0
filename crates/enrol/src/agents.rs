//! The table of agents' tokens as a text that people edit too: entries are
//! added at its end and taken out, all else stays as it is.

use std::fs::File;
use std::path::{Path, PathBuf};

use lm_mesh::SecretError;
use rustix::fs::{FlockOperation, flock};

use crate::{Access, Error, Files, check_name};

const ENTRY: &str = "[[tokens]]";
const EMPTY: &str = "# Who may send. lmctl agent add NAME adds an entry.\n";

/// An open table. Nobody else of ours edits it until this is dropped.
pub struct AgentsTable {
    path: PathBuf,
    text: String,
    _lock: File,
}

impl AgentsTable {
    /// Reads the table at `path`; one that is not there is made first, with
    /// `access`. Waits for others that edit it, who are done in no time.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no TOML.
    pub fn open(path: &Path, access: Access, files: &mut Files) -> Result<AgentsTable, Error> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let read = |error| Error::Read { path: path.to_owned(), error };
        // The file itself is replaced by each edit: the directory stays.
        let lock = File::open(dir).map_err(read)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| read(error.into()))?;
        files.write_missing(path, EMPTY, access)?;
        let text = lm_mesh::read_secret_file(path).map_err(|error| match error {
            SecretError::Read { path, error } => Error::Read { path, error },
            error => Error::Table { path: path.to_owned(), message: error.to_string() },
        })?;
        let table = AgentsTable { path: path.to_owned(), text, _lock: lock };
        if toml::de::DeTable::parse(&table.text).is_err() {
            let message = "not TOML; lm-collector --check-config server.toml names the line".to_owned();
            return Err(Error::Table { path: table.path, message });
        }
        Ok(table)
    }

    /// The agents' names, in their order.
    pub fn names(&self) -> Vec<String> {
        blocks(&self.text).filter_map(name_of).collect()
    }

    /// Adds an agent. `false`: there is one of that name, and nothing was done.
    ///
    /// # Errors
    ///
    /// When the name cannot be one, or the table cannot be written.
    pub fn add(&mut self, name: &str, token_sha256: &str, files: &mut Files) -> Result<bool, Error> {
        check_name(name)?;
        if self.names().iter().any(|known| known == name) {
            return Ok(false);
        }
        let mut text = self.text.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("\n{ENTRY}\nagent_id = \"{name}\"\ntoken_sha256 = \"{token_sha256}\"\n"));
        self.write(text, files)?;
        Ok(true)
    }

    /// Takes an agent out. `false`: there was none of that name.
    ///
    /// # Errors
    ///
    /// When the table cannot be written.
    pub fn remove(&mut self, name: &str, files: &mut Files) -> Result<bool, Error> {
        let mut text = String::new();
        let mut is_found = false;
        for block in blocks(&self.text) {
            if name_of(block).as_deref() == Some(name) {
                is_found = true;
                // Comments below an entry are about the next one.
                let is_remark = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
                let lines: Vec<_> = block.split_inclusive('\n').collect();
                let remarks = lines.iter().rev().take_while(|line| is_remark(line)).count();
                text.extend(lines[lines.len() - remarks..].iter().copied());
            } else {
                text.push_str(block);
            }
        }
        if is_found {
            self.write(text, files)?;
        }
        Ok(is_found)
    }

    fn write(&mut self, text: String, files: &mut Files) -> Result<(), Error> {
        files.rewrite(&self.path, &text)?;
        self.text = text;
        Ok(())
    }
}

/// What stands before the first entry, then each entry with what follows it.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut at = 0;
        let end = rest.split_inclusive('\n').find_map(|line| {
            let begin = at;
            at += line.len();
            (begin > 0 && line.trim_start().starts_with(ENTRY)).then_some(begin)
        });
        let (block, others) = rest.split_at(end.unwrap_or(rest.len()));
        rest = others;
        Some(block)
    })
}

fn name_of(block: &str) -> Option<String> {
    let parsed = toml::de::DeTable::parse(block).ok()?;
    let entries = parsed.get_ref().get("tokens")?.get_ref().as_array()?;
    Some(entries.first()?.get_ref().as_table()?.get("agent_id")?.get_ref().as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> (AgentsTable, Files) {
        let mut files = Files::default();
        (AgentsTable::open(&dir.join("agents.toml"), Access::Owner, &mut files).unwrap(), files)
    }

    #[test]
    fn agents_come_and_go_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agents.toml");
        let text = "# ours\n[[tokens]]\nagent_id = 'a'\ntoken = 'x'\nlabels = { env = 'prod' }\n# of b\n\
                    [[tokens]] # second\nagent_id = \"b\"\ntoken = 'y'";
        Files::default().write(&path, text, Access::Owner).unwrap();
        let (mut table, mut files) = open(dir.path());
        assert_eq!(table.names(), ["a", "b"]);
        assert!(table.add("c", "00ff", &mut files).unwrap());
        assert!(!table.add("a", "00ff", &mut files).unwrap());
        assert!(table.remove("a", &mut files).unwrap());
        assert!(!table.remove("a", &mut files).unwrap());
        drop(table);
        assert_eq!(open(dir.path()).0.names(), ["b", "c"]);
        let now = std::fs::read_to_string(&path).unwrap();
        let wanted = "# ours\n# of b\n[[tokens]] # second\nagent_id = \"b\"\ntoken = 'y'\n\n\
                      [[tokens]]\nagent_id = \"c\"\ntoken_sha256 = \"00ff\"\n";
        assert_eq!(now, wanted);
    }

    #[test]
    fn a_table_that_is_none_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agents.toml");
        Files::default().write(&path, "[[tokens", Access::Owner).unwrap();
        let error = AgentsTable::open(&path, Access::Owner, &mut Files::default()).err().unwrap();
        assert!(error.to_string().contains("not TOML"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[[tokens");
    }

    #[test]
    fn a_new_table_takes_names_that_can_be_some() {
        let dir = tempfile::tempdir().unwrap();
        let (mut table, mut files) = open(dir.path());
        assert_eq!(table.names(), Vec::<String>::new());
        assert!(matches!(table.add("a\"b", "00", &mut files), Err(Error::Name(_))));
        assert!(table.add("web-1.example", "00", &mut files).unwrap());
        assert_eq!(table.names(), ["web-1.example"]);
    }
}
