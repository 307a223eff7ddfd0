//! Block devices and file systems.

pub mod diskstats;
pub mod filesystem;
