//! What XFS file systems did: `/sys/fs/xfs/<device>/stats/stats`.

use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

/// A line begins with its first word; the counters after it, in the kernel's
/// order (`fs/xfs/xfs_stats.c`).
const LINES: [(&str, &[&str]); 8] = [
    (
        "extent_alloc",
        &[
            "node_xfs_extent_allocation_extents_allocated_total",
            "node_xfs_extent_allocation_blocks_allocated_total",
            "node_xfs_extent_allocation_extents_freed_total",
            "node_xfs_extent_allocation_blocks_freed_total",
        ],
    ),
    (
        "abt",
        &[
            "node_xfs_allocation_btree_lookups_total",
            "node_xfs_allocation_btree_compares_total",
            "node_xfs_allocation_btree_records_inserted_total",
            "node_xfs_allocation_btree_records_deleted_total",
        ],
    ),
    (
        "blk_map",
        &[
            "node_xfs_block_mapping_reads_total",
            "node_xfs_block_mapping_writes_total",
            "node_xfs_block_mapping_unmaps_total",
            "node_xfs_block_mapping_extent_list_insertions_total",
            "node_xfs_block_mapping_extent_list_deletions_total",
            "node_xfs_block_mapping_extent_list_lookups_total",
            "node_xfs_block_mapping_extent_list_compares_total",
        ],
    ),
    (
        "bmbt",
        &[
            "node_xfs_block_map_btree_lookups_total",
            "node_xfs_block_map_btree_compares_total",
            "node_xfs_block_map_btree_records_inserted_total",
            "node_xfs_block_map_btree_records_deleted_total",
        ],
    ),
    (
        "dir",
        &[
            "node_xfs_directory_operation_lookup_total",
            "node_xfs_directory_operation_create_total",
            "node_xfs_directory_operation_remove_total",
            "node_xfs_directory_operation_getdents_total",
        ],
    ),
    (
        "ig",
        &[
            "node_xfs_inode_operation_attempts_total",
            "node_xfs_inode_operation_found_total",
            "node_xfs_inode_operation_recycled_total",
            "node_xfs_inode_operation_missed_total",
            "node_xfs_inode_operation_duplicates_total",
            "node_xfs_inode_operation_reclaims_total",
            "node_xfs_inode_operation_attribute_changes_total",
        ],
    ),
    ("rw", &["node_xfs_write_calls_total", "node_xfs_read_calls_total"]),
    (
        "vnodes",
        &[
            "node_xfs_vnode_active_total",
            "node_xfs_vnode_allocate_total",
            "node_xfs_vnode_get_total",
            "node_xfs_vnode_hold_total",
            "node_xfs_vnode_release_total",
            "node_xfs_vnode_reclaim_total",
            "node_xfs_vnode_remove_total",
        ],
    ),
];

pub struct Xfs {
    path: PathBuf,
}

impl Xfs {
    pub fn new(options: &HostOptions) -> Self {
        Xfs { path: options.sysfs.join("fs/xfs") }
    }
}

impl Collect for Xfs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // A host without XFS is no failure, as with node_exporter.
        let Ok(file_systems) = Directory::open(&self.path) else { return Ok(()) };
        for device in file_systems.names() {
            // Beside the devices there is stats, the sum of all.
            let Some(stats) = file_systems.text(&format!("{device}/stats/stats"), buffer) else { continue };
            for line in stats.lines() {
                let mut words = line.split_ascii_whitespace();
                let key = words.next();
                let Some((_, names)) = LINES.iter().find(|(known, _)| Some(*known) == key) else { continue };
                for (name, value) in names.iter().zip(words) {
                    if let Ok(value) = value.parse::<u64>() {
                        push(cycle, name, &[("device", &device)], value as f64)?;
                    }
                }
            }
        }
        Ok(())
    }
}
