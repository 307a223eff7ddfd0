//! What the processes say to each other.
//!
//! The `.capnp` files beside this crate are the source; `generated` is what
//! capnpc makes of them (committed, refreshed by `scripts/regen-schema.sh`).
//! The other modules convert between wire and model types and check what a
//! peer or a disk claims. Read [`batch`] first.
//!
//! This crate knows no runtime and opens no connection.

pub mod batch;
mod columns;
mod error;
pub mod histogram;
pub mod interfaces;
pub mod labels;
mod limits;
pub mod operator;

pub use error::{Error, Invalid};
pub use limits::DecodeLimits;

#[allow(clippy::all, clippy::unimplemented, rust_2018_idioms, unused_qualifications)]
#[rustfmt::skip]
pub mod generated {
    //! Made by capnpc from `schema/*.capnp`. Do not edit.
    pub mod batch_capnp;
    pub mod interfaces;
    pub mod mesh_capnp;
    pub mod operator_capnp;
    pub mod query_capnp;
    pub mod queue_capnp;
    pub mod spool_capnp;
}

pub use generated::{batch_capnp, mesh_capnp, operator_capnp, query_capnp, queue_capnp, spool_capnp};

use capnp::message::ReaderOptions;

/// The batch format that this version writes, and the newest it reads.
pub const BATCH_VERSION: u16 = 1;

/// Bounds for reading one message that we wrote to our own disk.
///
/// Four times the largest batch: a record is a batch and a little more.
pub fn stored_message_options() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(8 * 1024 * 1024)).nesting_limit(16);
    options
}

/// A message as bytes: what goes into a journal record.
pub fn to_bytes<A: capnp::message::Allocator>(message: &capnp::message::Builder<A>) -> Vec<u8> {
    capnp::serialize::write_message_to_words(message)
}

/// Reads one message from `bytes`, which need not be aligned.
///
/// # Errors
///
/// [`Error::Malformed`] when the bytes are not one message within the bounds
/// of [`stored_message_options`].
pub fn from_bytes(
    mut bytes: &[u8],
) -> Result<capnp::message::Reader<capnp::serialize::OwnedSegments>, Error> {
    Ok(capnp::serialize::read_message(&mut bytes, stored_message_options())?)
}
