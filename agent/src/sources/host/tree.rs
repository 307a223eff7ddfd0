//! Directories of small files, one value a file: sysfs, `/proc/<pid>`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::Error;
use super::directory::{for_each_name, open_directory};
use super::read::{Malformed, read_file};

/// Directories with more entries are refused; `/proc` of a machine at its
/// usual `pid_max` has 32,768 processes.
const ENTRY_COUNT_MAX: usize = 1 << 17;

/// A root directory and paths below it, built in one kept buffer.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    path: PathBuf,
}

impl Tree {
    pub fn new(root: &Path) -> Self {
        Tree { root: root.to_owned(), path: PathBuf::new() }
    }

    /// The path of `parts` below the root, such as `["class/net", b"eth0"]`.
    pub fn path(&mut self, parts: &[&[u8]]) -> &Path {
        self.path.clear();
        self.path.push(&self.root);
        for part in parts {
            self.path.push(OsStr::from_bytes(part));
        }
        &self.path
    }

    /// The value in a file, without the white space around it; may be empty.
    pub fn read<'b>(&mut self, parts: &[&[u8]], buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        read_file(self.path(parts), buffer)?;
        Ok(buffer.trim_ascii())
    }

    /// The whole of a file of lines, for [`lines`](super::read::lines).
    pub fn read_lines(&mut self, parts: &[&[u8]], buffer: &mut Vec<u8>) -> Result<(), Error> {
        read_file(self.path(parts), buffer)
    }

    /// The error that a file says nonsense.
    pub fn malformed(&mut self, parts: &[&[u8]], Malformed { line, reason }: Malformed) -> Error {
        Error::Malformed { path: self.path(parts).to_owned(), line, reason }
    }

    /// As [`read`](Self::read); `None` when there is no such file.
    pub fn read_if_there<'b>(
        &mut self,
        parts: &[&[u8]],
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, Error> {
        match self.read(parts, buffer) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `names` with those in a directory, hidden ones left out, in
    /// no order.
    pub fn list(&mut self, parts: &[&[u8]], names: &mut Names) -> Result<(), Error> {
        names.clear();
        let path = self.path(parts);
        let unreadable =
            |errno: rustix::io::Errno| Error::Read { path: path.to_owned(), source: errno.into() };
        let directory = open_directory(CWD, path).map_err(unreadable)?;
        let mut is_whole = true;
        for_each_name(&directory, |name, _| {
            is_whole = names.len() < ENTRY_COUNT_MAX;
            if is_whole {
                names.push(name);
            }
            is_whole
        })
        .map_err(unreadable)?;
        match is_whole {
            true => Ok(()),
            false => Err(Error::Malformed {
                path: path.to_owned(),
                line: 0,
                reason: "has more than 131,072 entries",
            }),
        }
    }
}

/// Names one after the other in one buffer.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Names {
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
    }
}
