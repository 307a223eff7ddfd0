//! SELinux: whether it is enforced, and its cache of decisions.

use std::path::PathBuf;

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, numbers, read_file, words};
use crate::sources::host::{Error, HostOptions};

/// What the kernel counts for each CPU, in the order of `avc/cache_stats`.
const CACHE: [&str; 6] = [
    "node_selinux_avc_lookups_total",
    "node_selinux_avc_hits_total",
    "node_selinux_avc_misses_total",
    "node_selinux_avc_allocations_total",
    "node_selinux_avc_reclaims_total",
    "node_selinux_avc_frees_total",
];
const CACHE_HEADER: &[u8] = b"lookups hits misses allocations reclaims frees";

const HASH: [&str; 4] = [
    "node_selinux_avc_hash_entries",
    "node_selinux_avc_hash_buckets_used",
    "node_selinux_avc_hash_buckets_available",
    "node_selinux_avc_hash_longest_chain",
];

pub struct Selinux {
    enforce: KernelFile,
    cache_stats: KernelFile,
    hash_stats: KernelFile,
    threshold: KernelFile,
    config: PathBuf,
    enabled: FixedSeries<1>,
    modes: FixedSeries<2>,
    cache: FixedSeries<6>,
    hash: FixedSeries<4>,
    threshold_series: FixedSeries<1>,
}

impl Selinux {
    pub fn new(options: &HostOptions) -> Self {
        let file = |name: &str| KernelFile::new(&options.sysfs.join("fs/selinux"), name);
        Selinux {
            enforce: file("enforce"),
            cache_stats: file("avc/cache_stats"),
            hash_stats: file("avc/hash_stats"),
            threshold: file("avc/cache_threshold"),
            config: options.rootfs.join("etc/selinux/config"),
            enabled: FixedSeries::new(["node_selinux_enabled"]),
            modes: FixedSeries::new(["node_selinux_config_mode", "node_selinux_current_mode"]),
            cache: FixedSeries::new(CACHE),
            hash: FixedSeries::new(HASH),
            threshold_series: FixedSeries::new(["node_selinux_avc_threshold"]),
        }
    }
}

impl Collect for Selinux {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // Its file system is there exactly where SELinux is enabled.
        if !self.enforce.read_if_there(buffer)? {
            return self.enabled.push(cycle, [0.0]);
        }
        self.enabled.push(cycle, [1.0])?;
        let current = f64::from(u8::from(buffer.trim_ascii() == b"1"));
        // What it says belongs to the next boot; without it there is none.
        let configured = match read_file(&self.config, buffer) {
            Ok(()) => configured_mode(buffer),
            Err(_) => DISABLED,
        };
        self.modes.push(cycle, [configured, current])?;

        self.cache_stats.read(buffer)?;
        let counts = cache_counts(buffer).map_err(|malformed| self.cache_stats.malformed(malformed))?;
        self.cache.push(cycle, counts.map(|count| count as f64))?;
        self.hash_stats.read(buffer)?;
        let hash = hash_counts(buffer).ok_or_else(|| self.hash_stats.wrong(0, "is not that of the hash"))?;
        self.hash.push(cycle, hash.map(|count| count as f64))?;
        let threshold = self.threshold.read_number(buffer)?;
        self.threshold_series.push(cycle, [threshold as f64])
    }
}

const DISABLED: f64 = -1.0;

/// Of `/etc/selinux/config`, where the last line counts, as the modes are
/// numbered everywhere.
fn configured_mode(text: &[u8]) -> f64 {
    let mut values = text.split(|byte| *byte == b'\n').rev().filter_map(|line| {
        let line = line.trim_ascii();
        line.strip_prefix(b"SELINUX=").map(<[u8]>::trim_ascii)
    });
    match values.next() {
        Some(b"enforcing") => 1.0,
        Some(b"permissive") => 0.0,
        _ => DISABLED,
    }
}

/// The sums over all CPUs, each of which has a line.
fn cache_counts(text: &[u8]) -> Result<[u64; 6], Malformed> {
    let mut sums = [0u64; 6];
    for (line, text) in lines(text)? {
        if line == 1 {
            if text != CACHE_HEADER {
                return Err(Malformed { line, reason: "is not the header of the cache" });
            }
            continue;
        }
        let mut counts = [0; 6];
        if numbers(words(text), &mut counts) != Some(6) {
            return Err(Malformed { line, reason: "is not six numbers" });
        }
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum = sum.wrapping_add(count);
        }
    }
    Ok(sums)
}

/// `entries: 503`, `buckets used: 283/512`, `longest chain: 7`.
fn hash_counts(text: &[u8]) -> Option<[u64; 4]> {
    let value = |key: &[u8]| lines(text).ok()?.find_map(|(_, line)| line.strip_prefix(key));
    let buckets = value(b"buckets used: ")?;
    let slash = buckets.iter().position(|byte| *byte == b'/')?;
    Some([
        number(value(b"entries: ")?)?,
        number(&buckets[..slash])?,
        number(&buckets[slash + 1..])?,
        number(value(b"longest chain: ")?)?,
    ])
}
