//! Support for whole-system tests: real binaries, real sockets on loopback,
//! real files in a temporary directory.
//!
//! Read [`System`] first: it lays out a collector, a gateway and agents, and
//! starts, stops and kills each of them. [`api`] asks the gateway, [`mesh`]
//! speaks to the collector as an agent of our own making, [`accounting`]
//! proves that nothing is lost or doubled, and [`hostile`] attacks.
//!
//! Nothing here sleeps for luck: [`eventually`] looks until a deadline.

pub mod accounting;
pub mod api;
pub mod config;
pub mod exposition;
pub mod fleet;
pub mod hostile;
pub mod http;
pub mod mesh;
pub mod namespace;
pub mod node;
pub mod operator;
pub mod ports;
pub mod process;
pub mod random;
pub mod remote_write;
pub mod shape;
pub mod side_by_side;
pub mod sse;
mod system;
pub mod target;
pub mod tools;
mod wait;

pub use system::{Agent, System, SystemOptions, system_options};
pub use wait::{eventually, try_eventually};
