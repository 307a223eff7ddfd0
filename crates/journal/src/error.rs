//! What can go wrong, named by where it went wrong.

use std::io;
use std::path::PathBuf;

use crate::SegmentId;

/// A journal operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused. Nothing that was synced before is affected; the same call may succeed later.
    #[error("{action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another process, or another handle of this one, has the directory open.
    #[error("journal directory {path} is already open elsewhere (its lock file is held)", path = path.display())]
    Locked { path: PathBuf },
    /// The segment was written by another version of this crate. It is left untouched.
    #[error("segment {path}: format version {version} is not readable by this program, which reads version {supported}", path = path.display())]
    Version { path: PathBuf, version: u16, supported: u16 },
    /// A record that was asked for by position does not verify.
    #[error("segment {segment}: no valid record at byte {offset}")]
    Corrupt { segment: SegmentId, offset: u64 },
    /// The position names a segment that was removed or never existed, or bytes that are not synced yet.
    #[error("segment {segment}: byte {offset} is not readable")]
    NotFound { segment: SegmentId, offset: u64 },
    /// The record exceeds `record_bytes_max`.
    #[error("record of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge { bytes: u64, bytes_max: u64 },
    /// The record does not fit the current segment: call `roll` and append again.
    #[error("the current segment is full or missing: roll first")]
    NeedsRoll,
    /// The bound on unsynced bytes is reached: call `sync` and append again.
    #[error("too many unsynced bytes: sync first")]
    NeedsSync,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// Whether the device or quota is out of space.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
