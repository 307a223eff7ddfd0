//! Block devices and file systems.

pub mod disk_info;
pub mod diskstats;
pub mod filesystem;
pub mod nfs;
pub mod nfsd;
pub mod rpc_stats;
