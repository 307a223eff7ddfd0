//! What runs on the host: units, containers, programs.

mod ask;
pub mod containers;
mod docker;
pub mod programs;
pub mod systemd;
