//! What can be wrong with bytes from a peer or a disk.

use std::fmt;

/// Reading a message failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a message of this schema.
    #[error("malformed message: {0}")]
    Malformed(#[from] capnp::Error),
    /// A well-formed message that says something impossible or too large.
    #[error("invalid batch: {0}")]
    Invalid(#[from] Invalid),
    /// A format from the future.
    #[error("batch version {found} is not understood (newest: {newest})")]
    Version { found: u16, newest: u16 },
}

impl From<capnp::NotInSchema> for Error {
    fn from(error: capnp::NotInSchema) -> Self {
        Error::Malformed(error.into())
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(error: std::str::Utf8Error) -> Self {
        Error::Malformed(error.into())
    }
}

/// Why a batch can never be accepted as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    what: String,
}

impl Invalid {
    pub fn new(what: impl Into<String>) -> Self {
        Invalid { what: what.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Invalid {}

/// Returns [`Error::Invalid`] with a formatted message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err($crate::Error::Invalid($crate::Invalid::new(format!($($message)*))));
        }
    };
}
pub(crate) use ensure;
