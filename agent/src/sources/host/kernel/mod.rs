//! The kernel as a whole, and this process.

pub mod cgroups;
pub mod entropy;
pub mod filefd;
pub mod hung;
pub mod loadavg;
pub mod os_release;
pub mod own_process;
pub mod pressure;
pub mod processes;
pub mod selinux;
pub mod sysctl;
pub mod time;
pub mod timex;
pub mod uname;
