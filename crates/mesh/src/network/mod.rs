//! The two-party network under capnp-rpc, with admission.
//!
//! capnp-rpc accepts any number of outstanding calls, references and bytes,
//! and allocates what a peer claims. Here every message passes a gate in both
//! directions: its size is checked before it is read ([`message`]), batches take
//! their memory from a budget of the process ([`Budget`]) and lose it when they
//! hardly go on while others wait ([`pace`]), and what the peer
//! then holds is counted and bounded ([`tables`]). What a bound costs stands
//! in [`MeshLimits`]; what is held, in [`Meter`]. Breaking a bound ends the
//! stream with a reason, and the server closes the connection with it.
//!
//! Knows byte streams and messages; nothing of QUIC, login or sessions. Read
//! [`connection`] first.

mod budget;
mod connection;
mod limits;
mod message;
mod meter;
mod pace;
mod refusal;
mod shares;
mod tables;
mod terms;
mod writer;

pub use budget::{Budget, Lease};
pub(crate) use connection::{Gate, Network};
pub use limits::{CANCELLED_CALLS_MAX, MeshLimits, StreamKind, StreamLimits};
pub use meter::{Meter, MeterFacts};
pub(crate) use tables::Trust;
pub(crate) use terms::Terms;
