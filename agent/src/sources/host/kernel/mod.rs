//! The kernel as a whole, and this process.

pub mod filefd;
pub mod loadavg;
pub mod own_process;
pub mod pressure;
pub mod time;
pub mod uname;
