//! Segments with bytes that the disk cannot read.
//!
//! A bad sector must not keep a log from opening, and must not take more with it than it holds. The file is read
//! around what fails: a copy with zeros in its place becomes the segment, and recovery treats those like any other
//! damage. The file itself is kept aside.
//!
//! ```text
//! <id>.salvage written and synced  ▶  <id>.seg renamed to <id>.quarantine, synced  ▶  <id>.salvage renamed to <id>.seg
//! ```
//!
//! A disk that answers nothing any more refuses these writes too: then the open fails, as it should, and nothing
//! has changed.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::{Log, Quarantined, Recovered};
use crate::format::file_name;
use crate::{Error, SegmentId};
use lm_fs::{File, Fs, read_full, write_all};

/// What is given up around a byte that cannot be read: what a kernel reads at least.
const BLOCK_BYTES: u64 = 4096;

pub(super) const SUFFIX: &str = ".salvage";

/// Whether a disk failed to read, and not a file that is missing or another's.
fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl Error {
    /// Whether bytes that are there could not be read.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Error::Io { action: "read", source, .. } if is_unreadable(source))
    }
}

impl<F: Fs> Log<F> {
    /// Makes the file of segment `id` readable, and notes what that has cost: nothing if it can be read now.
    pub(super) fn salvage(&mut self, id: SegmentId, recovered: &mut Recovered) -> Result<(), Error> {
        let path = self.path(id);
        let file = self.fs.open(&path).map_err(Error::io("open", &path))?;
        let len = file.len().map_err(Error::io("measure", &path))?;
        let mut block = vec![0; BLOCK_BYTES as usize];
        let mut suspects = BTreeSet::new();
        for offset in offsets(len) {
            if !read_block(&file, &mut block, offset).map_err(Error::io("read", &path))? {
                suspects.insert(offset);
            }
        }
        let unreadable =
            if suspects.is_empty() { vec![] } else { self.copy_readable(id, &file, len, &suspects)? };
        drop(file);
        if unreadable.is_empty() {
            return Ok(());
        }
        let aside = self.quarantine_path(id);
        // Salvaged before: the first file has the most in it.
        if self.fs.open(&aside).is_err() {
            self.fs.rename(&path, &aside).map_err(Error::io("quarantine", &path))?;
            self.fs.sync_dir(&self.dir).map_err(Error::io("sync directory", &self.dir))?;
        }
        self.finish_salvage(id)?;
        recovered.quarantined_files.push(aside);
        recovered.unreadable.extend(unreadable.into_iter().map(|range| Quarantined { segment: id, range }));
        Ok(())
    }

    /// Puts a complete copy in the place of its segment.
    pub(super) fn finish_salvage(&mut self, id: SegmentId) -> Result<(), Error> {
        let copy = self.salvage_path(id);
        self.fs.rename(&copy, &self.path(id)).map_err(Error::io("rename", &copy))?;
        self.fs.sync_dir(&self.dir).map_err(Error::io("sync directory", &self.dir))
    }

    /// Copies what can be read; returns what cannot. Only a suspect is given up: what was read a moment ago has not
    /// gone bad, the disk has. There is no copy if there is no need for one.
    fn copy_readable(
        &self,
        id: SegmentId,
        file: &F::File,
        len: u64,
        suspects: &BTreeSet<u64>,
    ) -> Result<Vec<Range<u64>>, Error> {
        let path = self.salvage_path(id);
        let copy = self.fs.create_new(&path).map_err(Error::io("create", &path))?;
        let write = || -> io::Result<Vec<Range<u64>>> {
            copy.set_len(len)?;
            let mut unreadable: Vec<Range<u64>> = Vec::new();
            let mut block = vec![0; BLOCK_BYTES as usize];
            for offset in offsets(len) {
                let end = len.min(offset + BLOCK_BYTES);
                let is_readable = read_block(file, &mut block, offset)?;
                if !is_readable && !suspects.contains(&offset) {
                    return Err(rustix::io::Errno::IO.into());
                }
                if is_readable {
                    write_all(&copy, &block[..(end - offset) as usize], offset)?;
                } else if let Some(last) = unreadable.last_mut().filter(|last| last.end == offset) {
                    last.end = end;
                } else {
                    unreadable.push(offset..end);
                }
            }
            copy.sync_data()?;
            Ok(unreadable)
        };
        let copied = write();
        if !copied.as_ref().is_ok_and(|unreadable| !unreadable.is_empty()) {
            let _ = self.fs.remove(&path);
        }
        copied.map_err(Error::io("copy what is readable to", path))
    }

    pub(super) fn salvage_path(&self, id: SegmentId) -> PathBuf {
        self.dir.join(file_name(id)).with_extension(&SUFFIX[1..])
    }
}

fn offsets(len: u64) -> impl Iterator<Item = u64> {
    (0..len.div_ceil(BLOCK_BYTES)).map(|number| number * BLOCK_BYTES)
}

/// Reads one block. Answers whether it could be read.
fn read_block(file: &impl File, block: &mut [u8], offset: u64) -> io::Result<bool> {
    match read_full(file, block, offset) {
        Ok(_) => Ok(true),
        Err(error) if is_unreadable(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
