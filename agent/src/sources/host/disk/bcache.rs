//! Disks that cache other disks: `/sys/fs/bcache/<uuid>`.

use std::path::PathBuf;

use super::human_number::parse_bcache;
use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

/// Of a set of caches, and the file's unit.
const SET: [(&str, &str, f64); 10] = [
    ("average_key_size", "node_bcache_average_key_size_sectors", 1.0),
    ("btree_cache_size", "node_bcache_btree_cache_size_bytes", 1.0),
    ("cache_available_percent", "node_bcache_cache_available_percent", 1.0),
    ("congested", "node_bcache_congested", 1.0),
    ("root_usage_percent", "node_bcache_root_usage_percent", 1.0),
    ("tree_depth", "node_bcache_tree_depth", 1.0),
    ("internal/active_journal_entries", "node_bcache_active_journal_entries", 1.0),
    ("internal/btree_nodes", "node_bcache_btree_nodes", 1.0),
    // Microseconds, which node_exporter takes for nanoseconds; so do we.
    ("internal/btree_read_average_duration_us", "node_bcache_btree_read_average_duration_seconds", 1e9),
    ("internal/cache_read_races", "node_bcache_cache_read_races_total", 1.0),
];

/// Of a disk that is cached.
const BACKING: [(&str, &str, f64); 8] = [
    ("dirty_data", "node_bcache_dirty_data_bytes", 1.0),
    ("stats_total/bypassed", "node_bcache_bypassed_bytes_total", 1.0),
    ("stats_total/cache_bypass_hits", "node_bcache_cache_bypass_hits_total", 1.0),
    ("stats_total/cache_bypass_misses", "node_bcache_cache_bypass_misses_total", 1.0),
    ("stats_total/cache_hits", "node_bcache_cache_hits_total", 1.0),
    ("stats_total/cache_miss_collisions", "node_bcache_cache_miss_collisions_total", 1.0),
    ("stats_total/cache_misses", "node_bcache_cache_misses_total", 1.0),
    ("stats_total/cache_readaheads", "node_bcache_cache_readaheads_total", 1.0),
];

/// Of a disk that is a cache.
const CACHE: [(&str, &str, f64); 3] = [
    ("io_errors", "node_bcache_io_errors", 1.0),
    ("metadata_written", "node_bcache_metadata_written_bytes_total", 1.0),
    ("written", "node_bcache_written_bytes_total", 1.0),
];

/// Lines of `writeback_rate_debug`.
const WRITEBACK: [(&str, &str); 5] = [
    ("rate:", "node_bcache_writeback_rate"),
    ("target:", "node_bcache_dirty_target_bytes"),
    ("proportional:", "node_bcache_writeback_rate_proportional_term"),
    ("integral:", "node_bcache_writeback_rate_integral_term"),
    ("change:", "node_bcache_writeback_change"),
];

/// Lines of `priority_stats`.
const PRIORITY: [(&str, &str); 2] = [
    ("Unused:", "node_bcache_priority_stats_unused_percent"),
    ("Metadata:", "node_bcache_priority_stats_metadata_percent"),
];

pub struct Bcache {
    path: PathBuf,
    has_priority: bool,
}

impl Bcache {
    pub fn new(options: &HostOptions) -> Self {
        Bcache { path: options.sysfs.join("fs/bcache"), has_priority: options.bcache_priority }
    }
}

impl Collect for Bcache {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // A host without bcache is no failure, as with node_exporter.
        let Ok(sets) = Directory::open(&self.path) else { return Ok(()) };
        for uuid in sets.names() {
            // Beside sets there are the files that register a disk.
            let Some(set) = sets.inside(&uuid) else { continue };
            let own = ("uuid", &uuid[..]);
            push_files(cycle, buffer, &set, &SET, &[own])?;
            for name in set.names() {
                if is_numbered(&name, "bdev") {
                    let Some(disk) = set.inside(&name) else { continue };
                    let labels = [own, ("backing_device", &name)];
                    push_files(cycle, buffer, &disk, &BACKING, &labels)?;
                    push_lines(cycle, buffer, &disk, "writeback_rate_debug", &WRITEBACK, &labels)?;
                } else if is_numbered(&name, "cache") {
                    let Some(disk) = set.inside(&name) else { continue };
                    let labels = [own, ("cache_device", &name)];
                    push_files(cycle, buffer, &disk, &CACHE, &labels)?;
                    if self.has_priority {
                        push_lines(cycle, buffer, &disk, "priority_stats", &PRIORITY, &labels)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn push_files(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    directory: &Directory,
    files: &[(&str, &str, f64)],
    labels: &[(&str, &str)],
) -> Result<(), Error> {
    for (file, name, divisor) in files {
        if let Some(value) = directory.text(file, buffer).and_then(|text| parse_bcache(&text)) {
            push(cycle, name, labels, value / divisor)?;
        }
    }
    Ok(())
}

/// The lines of a file with a key and a number each.
fn push_lines(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    directory: &Directory,
    file: &str,
    lines: &[(&str, &str)],
    labels: &[(&str, &str)],
) -> Result<(), Error> {
    let Some(text) = directory.text(file, buffer) else { return Ok(()) };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(number)) = (words.next(), words.next()) else { continue };
        let Some((_, name)) = lines.iter().find(|(known, _)| *known == key) else { continue };
        if let Some(value) = parse_bcache(number.trim_end_matches('%')) {
            push(cycle, name, labels, value)?;
        }
    }
    Ok(())
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    let number = name.strip_prefix(prefix).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
