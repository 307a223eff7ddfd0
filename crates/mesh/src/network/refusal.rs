//! Why reading a stream ended.

/// What reading found instead of a message.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The peer broke a bound or the protocol: plain words for the peer and
    /// our log, with nothing of the peer's in them but numbers.
    Violation(String),
    /// The stream is gone.
    Lost(capnp::Error),
}

/// A bound that was passed. `limit: 1025 calls not finished (at most 1024)`.
pub(crate) fn limit(found: usize, what: &str, max: usize) -> Refused {
    Refused::Violation(format!("limit: {found} {what} (at most {max})"))
}

/// Bytes that are no message, or one that we never accept.
pub(crate) fn invalid(what: impl std::fmt::Display) -> Refused {
    Refused::Violation(format!("invalid: {what}"))
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Refused::Lost(error.into())
    }
}
