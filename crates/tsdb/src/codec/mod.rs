//! Columns as bytes: sample values, timestamps and native histograms.
//!
//! Pure functions from slices to bytes and back. Decoders take bytes of any content: lengths are checked before
//! memory is taken, and what makes no sense is [`Malformed`].

/// Bytes that no encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);
