//! Memory and paging.

pub mod meminfo;
pub mod numa;
pub mod vmstat;
