//! What the machine is made of, and how warm it is.
//!
//! A device comes and goes while it is looked at, and a driver may refuse any
//! one file (`EAGAIN`, `ENODATA`, no permission). So here, and wherever a
//! collector reads through [`Directory`](super::directory::Directory), a file
//! that cannot be read is a series that is not there, and never the end of its
//! collector.

pub mod dmi;
pub mod drm;
pub mod edac;
pub mod hwmon;
pub mod pci;
pub mod power_supply;
pub mod rapl;
pub mod thermal;
pub mod watchdog;
