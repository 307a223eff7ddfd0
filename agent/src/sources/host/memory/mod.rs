//! Memory and paging.

pub mod meminfo;
pub mod vmstat;
