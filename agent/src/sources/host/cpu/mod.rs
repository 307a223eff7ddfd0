//! Processors and what they do.

pub mod frequency;
pub mod info;
pub mod interrupts;
pub mod schedstat;
pub mod softirqs;
pub mod stat;
pub mod table;
pub mod time;
mod topology;
pub mod vulnerabilities;

pub use time::USER_HZ;
