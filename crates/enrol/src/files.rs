//! Files of a set-up: each written aside and renamed, with its rights from
//! its first byte on.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::Error;

/// Who may read a file besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Owner,
    /// The owner and this group; without one, the owner.
    Group(Option<u32>),
    Everyone,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Access::Owner | Access::Group(None) => 0o600,
            Access::Group(Some(_)) => 0o640,
            Access::Everyone => 0o644,
        }
    }
}

/// Writes files and remembers which.
#[derive(Debug, Default)]
pub struct Files {
    pub written: Vec<PathBuf>,
}

impl Files {
    /// Makes a directory and those above it. Its names are no secrets.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn dir(path: &Path) -> Result<(), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| Error::Write { path: path.to_owned(), error })
    }

    /// Writes a file, whether it was there or not.
    ///
    /// # Errors
    ///
    /// When that fails; then what was there before is as it was.
    pub fn write(&mut self, path: &Path, text: &str, access: Access) -> Result<(), Error> {
        let owner = match access {
            Access::Group(Some(group)) => Some((None, Some(group))),
            _ => None,
        };
        self.replace(path, text, access.mode(), owner)
    }

    /// Writes a file unless it is there. Whether it was written.
    ///
    /// # Errors
    ///
    /// As [`Files::write`].
    pub fn write_missing(&mut self, path: &Path, text: &str, access: Access) -> Result<bool, Error> {
        let is_missing = !path.exists();
        if is_missing {
            self.write(path, text, access)?;
        }
        Ok(is_missing)
    }

    /// Writes a file that is there, and leaves it its owner and rights.
    ///
    /// # Errors
    ///
    /// As [`Files::write`], and when it is not there.
    pub fn rewrite(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let old = fs::metadata(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
        let owner = (Some(old.uid()), Some(old.gid()));
        self.replace(path, text, old.permissions().mode() & 0o777, Some(owner))
    }

    fn replace(
        &mut self,
        path: &Path,
        text: &str,
        mode: u32,
        owner: Option<(Option<u32>, Option<u32>)>,
    ) -> Result<(), Error> {
        let write = || {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(".new");
            let aside = path.with_file_name(name);
            // Left over from a call that was killed, perhaps with other rights.
            let _ = fs::remove_file(&aside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            if let Some((user, group)) = owner {
                fchown(&file, user, group)?;
            }
            // Whatever the umask left of it.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        write().map_err(|error: io::Error| Error::Write { path: path.to_owned(), error })?;
        self.written.push(path.to_owned());
        Ok(())
    }
}

/// The id of a group of this host, as `/etc/group` has it.
pub fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let own = fs::metadata(dir.path()).unwrap().gid();
        let mut files = Files::default();
        for (name, access, expected) in [
            ("secret", Access::Owner, 0o600),
            ("alone", Access::Group(None), 0o600),
            ("shared", Access::Group(Some(own)), 0o640),
            ("public", Access::Everyone, 0o644),
        ] {
            let path = dir.path().join(name);
            assert!(files.write_missing(&path, "1", access).unwrap());
            assert!(!files.write_missing(&path, "2", access).unwrap());
            assert_eq!((mode(&path), fs::read_to_string(&path).unwrap()), (expected, "1".to_owned()));
            files.rewrite(&path, "3").unwrap();
            assert_eq!((mode(&path), fs::read_to_string(&path).unwrap()), (expected, "3".to_owned()));
        }
        assert_eq!(files.written.len(), 8);
        assert!(fs::read_dir(dir.path()).unwrap().count() == 4, "nothing is left aside");
        let error = files.write(Path::new("/dev/null/x"), "", Access::Owner).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /dev/null/x: "), "{error}");
    }

    #[test]
    fn groups_are_found() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("no such group"), None);
    }
}
