//! What can go wrong with a block, named by where it went wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lm_model::{TimeRange, Timestamp};

/// A block could not be written, read or merged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused; the block is as it was. The same call may succeed later.
    #[error("{action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Written by another version of this program. The file is left as it is.
    #[error("block {path}: format version {version} is not readable by this program, which reads version {supported}", path = path.display())]
    Version { path: PathBuf, version: u16, supported: u16 },
    /// Bytes of the block are not what was written.
    #[error("block {path}: {damage}", path = path.display())]
    Damaged { path: PathBuf, damage: Box<Damage> },
    /// A matcher's expression is not valid or too large.
    #[error("regular expression {pattern:?}: {reason}")]
    Regex { pattern: Box<str>, reason: String },
    /// What the caller hands over breaks a promise of [`BlockWriter::add`](super::BlockWriter::add).
    #[error("series {labels}: {reason}")]
    Misuse { labels: String, reason: &'static str },
    /// More than a block can hold: cut it.
    #[error("a block holds at most {max} {what}")]
    Full { what: &'static str, max: u64 },
    /// The progress callback said so.
    #[error("cancelled")]
    Cancelled,
}

/// Which part of a block is damaged, and what is lost with it. Everything else stays readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub part: Part,
    /// Position of the part in the file.
    pub offset: u64,
    pub reason: &'static str,
    /// Series from the first to before the last, by their place in the block, among which the lost ones are.
    pub series: std::ops::Range<u32>,
    /// Where lost samples are.
    pub times: TimeRange,
}

/// A part of a block that has a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The header: nothing is readable.
    Header,
    /// The footer or the directory that it names: nothing is readable.
    Footer,
    /// Sample values of some series.
    Values,
    /// Native histograms of some series.
    Histograms,
    /// Timestamps of some series.
    Times,
    /// Labels and places of some series.
    Series,
    /// Some values of a label: they can no longer be searched for, nor be shown.
    LabelValues,
    /// Which series have some label values.
    Postings,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Header => "header",
            Part::Footer => "footer",
            Part::Values => "page of values",
            Part::Histograms => "page of histograms",
            Part::Times => "page of timestamps",
            Part::Series => "page of series",
            Part::LabelValues => "page of label values",
            Part::Postings => "page of postings",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { part, offset, reason, series, times } = self;
        write!(f, "the {part} at byte {offset} is damaged ({reason}); ")?;
        write!(f, "it concerns series {} to {}", series.start, series.end)?;
        write!(f, ", times {} to {}", times.start, times.end)
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_path_buf(), source }
    }

    /// A part without which nothing of the file can be read.
    pub(crate) fn whole(path: &Path, part: Part, offset: u64, reason: &'static str) -> Error {
        let times = TimeRange { start: Timestamp::MIN, end: Timestamp::MAX };
        let damage = Damage { part, offset, reason, series: 0..u32::MAX, times };
        Error::Damaged { path: path.to_path_buf(), damage: Box::new(damage) }
    }

    /// Whether the device or quota is out of space.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
