//! Memory and paging.

pub mod buddyinfo;
pub mod ksmd;
pub mod meminfo;
pub mod numa;
pub mod slabinfo;
pub mod swap;
pub mod vmstat;
pub mod zoneinfo;
