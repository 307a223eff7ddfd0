//! A bounded HTTP/1 and HTTP/2 accept loop.
//!
//! What a framework's own `serve` leaves open is bounded here: how many
//! connections there are and how many from one address, how long a client may
//! take over a header or a body, how large both may be, how long an answer may
//! wait for a client that does not read, and how a process stops.
//!
//! Start with [`serve`], which runs any [`hyper::service::Service`] (a tower
//! service such as warp's fits through
//! `hyper_util::service::TowerToHyperService`), and [`Limits`]. [`Health`]
//! answers `/livez`, `/readyz`, `/startupz` and `/healthz`, and an [`Endpoint`]
//! is a listener for these and `/metrics`.
//!
//! This crate routes nothing, authenticates nobody and reads no certificates:
//! a [`Listener`] gets its TLS configuration made.

mod admission;
mod body;
mod endpoint;
mod health;
mod limits;
mod protocol;
mod refusal;
mod serve;
mod stream;
mod transport;

pub use body::{BodyError, RequestBody};
pub use endpoint::{Endpoint, MetricsText};
pub use health::{Check, Health};
pub use limits::Limits;
pub use refusal::refusal;
pub use serve::{Drained, PeerAddr, serve};
pub use transport::Listener;
