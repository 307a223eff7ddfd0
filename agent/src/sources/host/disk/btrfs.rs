//! Space and commits of btrfs file systems: `/sys/fs/btrfs/<uuid>`.
//!
//! Errors and unused bytes of devices are not files; asking for them takes
//! privileges.

use std::path::PathBuf;

use crate::sources::host::attribute::{Attribute, attribute, push, push_attributes};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const RESERVE: Attribute = attribute("global_rsv_size", "node_btrfs_global_rsv_size_bytes");
const RESERVED: Attribute = attribute("bytes_reserved", "node_btrfs_reserved_bytes");
const PROFILE: [Attribute; 2] =
    [attribute("used_bytes", "node_btrfs_used_bytes"), attribute("total_bytes", "node_btrfs_size_bytes")];

/// Kinds of block groups.
const BLOCK_GROUPS: [&str; 3] = ["data", "metadata", "system"];

/// Lines of `commit_stats`, and what the number on them is divided by.
const COMMITS: [(&str, &str, f64); 4] = [
    ("commits", "node_btrfs_commits_total", 1.0),
    ("last_commit_ms", "node_btrfs_last_commit_seconds", 1000.0),
    ("max_commit_ms", "node_btrfs_max_commit_seconds", 1000.0),
    ("total_commit_ms", "node_btrfs_commit_seconds_total", 1000.0),
];

const SECTOR_BYTES: f64 = 512.0;

pub struct Btrfs {
    path: PathBuf,
}

impl Btrfs {
    pub fn new(options: &HostOptions) -> Self {
        Btrfs { path: options.sysfs.join("fs/btrfs") }
    }
}

impl Collect for Btrfs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // A host without btrfs is no failure, as with node_exporter.
        let Ok(file_systems) = Directory::open(&self.path) else { return Ok(()) };
        for uuid in file_systems.names() {
            // Beside file systems there are features and debug.
            let Some(file_system) = file_systems.inside(&uuid).filter(|_| uuid.contains('-')) else {
                continue;
            };
            push_file_system(cycle, buffer, &file_system, &uuid)?;
        }
        Ok(())
    }
}

fn push_file_system(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    file_system: &Directory,
    uuid: &str,
) -> Result<(), Error> {
    let own = ("uuid", uuid);
    let label = file_system.text("label", buffer).unwrap_or_default().into_owned();
    push(cycle, "node_btrfs_info", &[own, ("label", &label)], 1.0)?;

    let devices = file_system.inside("devices").map(|devices| (devices.names(), devices));
    let (names, devices) = devices.unzip();
    let names = names.unwrap_or_default();
    for (name, devices) in names.iter().zip(devices.iter().cycle()) {
        if let Some(sectors) = devices.number(&format!("{name}/size"), buffer) {
            push(cycle, "node_btrfs_device_size_bytes", &[own, ("device", name)], sectors * SECTOR_BYTES)?;
        }
    }

    // Absent before Linux 6.1, where node_exporter says 0.
    let commits = file_system.text("commit_stats", buffer).unwrap_or_default().into_owned();
    for (key, name, divisor) in COMMITS {
        let words = commits.lines().filter_map(|line| line.split_once(' '));
        let value = words.filter(|(found, _)| *found == key).find_map(|(_, value)| value.parse::<f64>().ok());
        push(cycle, name, &[own], value.unwrap_or(0.0) / divisor)?;
    }

    let Some(allocation) = file_system.inside("allocation") else { return Ok(()) };
    push_attributes(cycle, buffer, &allocation, &[RESERVE], &[own])?;
    for kind in BLOCK_GROUPS {
        let Some(group) = allocation.inside(kind) else { continue };
        let labels = [own, ("block_group_type", kind)];
        push_attributes(cycle, buffer, &group, &[RESERVED], &labels)?;
        for mode in group.names() {
            let Some(ratio) = allocation_ratio(&mode, names.len()) else { continue };
            let Some(profile) = group.inside(&mode) else { continue };
            let labels = [labels[0], labels[1], ("mode", &mode)];
            push_attributes(cycle, buffer, &profile, &PROFILE, &labels)?;
            push(cycle, "node_btrfs_allocation_ratio", &labels, ratio)?;
        }
    }
    Ok(())
}

/// How many bytes of disk a byte of data takes; `None` when `mode` is not a
/// profile.
fn allocation_ratio(mode: &str, device_count: usize) -> Option<f64> {
    let devices = device_count as f64;
    match mode {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" if device_count > 1 => Some(devices / (devices - 1.0)),
        "raid6" if device_count > 2 => Some(devices / (devices - 2.0)),
        _ => None,
    }
}
