//! The file-system seam: what a journal or a block needs from a disk, and nothing more.
//!
//! [`RealFs`](crate::RealFs) is the disk, [`FaultFs`](crate::fault::FaultFs) a disk that misbehaves on request.
//! Paths are plain; every call blocks.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// A directory tree.
pub trait Fs: Clone + Send + Sync + 'static {
    type File: File;
    /// Held while the lock is held; dropping it (or the end of the process) releases the lock.
    type Lock: Debug + Send + 'static;

    /// Creates `dir` and its missing parents, durably. An existing directory is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the regular files in `dir`, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a file for reading and writing; fails with `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on the file `path`, creating it; `WouldBlock` when someone else holds it.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file.
pub trait File: Debug + Send + Sync + 'static {
    /// Reads at most `buffer.len()` bytes; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at most `bytes.len()` bytes; may write fewer.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reserves disk space for the first `len` bytes, reading as zeros. A file system that cannot do so returns `Ok`.
    fn allocate(&self, len: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable. After an error the unsynced contents must be considered lost.
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Writes all of `bytes`, in as many calls as the file system asks for.
pub fn write_all(file: &impl File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads up to `buffer.len()` bytes and says how many there were before the end of the file.
pub fn read_full(file: &impl File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
