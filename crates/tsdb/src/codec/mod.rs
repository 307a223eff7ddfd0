//! Columns as bytes: sample values, timestamps and native histograms.
//!
//! Pure functions from slices to bytes and back. Decoders take bytes of any content: lengths are checked before
//! memory is taken, and what makes no sense is [`Malformed`]. Read [`values`] first: it decides how a run of values
//! is written. The bytes are drawn in `docs/formats/block.md`.

pub(crate) mod bytes;
pub(crate) mod group;
pub(crate) mod histograms;
pub(crate) mod ints;
pub(crate) mod scale;
pub(crate) mod values;

/// Bytes that no encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Most samples that are encoded as one run.
pub(crate) const RUN_SAMPLES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
