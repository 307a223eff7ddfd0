//! Block devices and file systems.

pub mod bcache;
pub mod bcachefs;
pub mod btrfs;
pub mod disk_info;
pub mod diskstats;
pub mod dm_multipath;
pub mod drbd;
pub mod filesystem;
mod human_number;
pub mod md_raid;
pub mod mountstats;
pub mod nfs;
pub mod nfsd;
pub mod nvme;
pub mod rpc_stats;
pub mod sizes;
pub mod tape;
pub mod xfs;
pub mod zfs;
