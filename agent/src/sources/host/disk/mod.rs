//! Block devices and file systems.

pub mod disk_info;
mod human_number;

pub mod bcache;
pub mod bcachefs;
pub mod btrfs;
pub mod diskstats;
pub mod dm_multipath;
pub mod drbd;
pub mod filesystem;
pub mod md_raid;
pub mod nfs;
pub mod nfsd;
pub mod nvme;
pub mod rpc_stats;
pub mod sizes;
pub mod tape;
pub mod xfs;
pub mod zfs;
