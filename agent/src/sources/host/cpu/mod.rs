//! Processors and what they do.

pub mod stat;
pub mod time;

pub use time::USER_HZ;
