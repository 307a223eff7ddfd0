//! What runs on the host: units, containers, programs.

mod ask;
pub mod containers;
pub mod programs;
pub mod systemd;
