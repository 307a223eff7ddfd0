//! Why an answer was not understood.

use std::fmt;

/// Where a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of text, from one.
    Line(usize),
    /// Which message of protobuf, from one.
    Family(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Family(family) => write!(f, "family {family}"),
        }
    }
}

/// Reading has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes break a rule of their format.
    #[error("{place}: {what}")]
    Malformed { place: Place, what: String },
    /// The bytes are well-formed as far as they were read, and too much.
    #[error("{place}: more than {limit} {of}")]
    TooLarge { place: Place, of: &'static str, limit: usize },
    #[error("more than {limit} samples")]
    Samples { limit: usize },
    /// OpenMetrics ends with `# EOF`, so that a cut answer is noticed.
    #[error("the answer ends without \"# EOF\"")]
    Unfinished,
}

impl Error {
    pub(crate) fn malformed(place: Place, what: impl Into<String>) -> Self {
        Error::Malformed { place, what: what.into() }
    }
}

/// The beginning of what stands at a mistake, for its message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 32;
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let more = if bytes.len() > shown.len() { "..." } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(shown))
}
