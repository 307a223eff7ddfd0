//! Network devices and protocols.

pub mod netdev;
