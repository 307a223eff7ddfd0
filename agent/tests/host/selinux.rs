//! SELinux, in a file system of our own making.

use std::fs;
use std::path::Path;

use lm_agent::sources::host::HostOptions;

use crate::machine::Machine;

const FILES: [(&str, &str); 5] = [
    ("sys/fs/selinux/enforce", "1"),
    (
        "sys/fs/selinux/avc/cache_stats",
        "lookups hits misses allocations reclaims frees\n100 90 10 10 2 1\n11 10 1 1 0 0\n",
    ),
    ("sys/fs/selinux/avc/hash_stats", "entries: 503\nbuckets used: 283/512\nlongest chain: 7\n"),
    ("sys/fs/selinux/avc/cache_threshold", "512"),
    ("etc/selinux/config", "# SELINUX=disabled\nSELINUX=permissive\nSELINUXTYPE=targeted\n"),
];

fn write(root: &Path, path: &str, contents: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// What is measured, without the prefix all have, and what went wrong.
fn cycle(root: &Path) -> (Vec<(String, f64)>, Vec<String>) {
    let mut machine = Machine::new(HostOptions {
        sysfs: root.join("sys"),
        rootfs: root.to_owned(),
        collectors: ["selinux"].into(),
        ..HostOptions::default()
    });
    let (values, failures) = machine.cycle();
    let short = |(series, value): (String, f64)| {
        series.strip_prefix("node_selinux_").map(|name| (name.to_owned(), value))
    };
    let failures = failures.into_iter().map(|(_, why)| why).collect();
    (values.into_iter().filter_map(short).collect(), failures)
}

#[test]
fn modes_and_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    for (path, contents) in FILES {
        write(dir.path(), path, contents);
    }
    let (values, failures) = cycle(dir.path());
    assert_eq!(failures, [""; 0]);
    let expected = [
        ("avc_allocations_total", 11.0),
        ("avc_frees_total", 1.0),
        ("avc_hash_buckets_available", 512.0),
        ("avc_hash_buckets_used", 283.0),
        ("avc_hash_entries", 503.0),
        ("avc_hash_longest_chain", 7.0),
        ("avc_hits_total", 100.0),
        ("avc_lookups_total", 111.0),
        ("avc_misses_total", 11.0),
        ("avc_reclaims_total", 2.0),
        ("avc_threshold", 512.0),
        ("config_mode", 0.0),
        ("current_mode", 1.0),
        ("enabled", 1.0),
    ];
    assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)));

    fs::remove_file(dir.path().join("etc/selinux/config")).unwrap();
    let (values, _) = cycle(dir.path());
    assert!(values.contains(&("config_mode".to_owned(), -1.0)), "{values:?}");
    write(dir.path(), "sys/fs/selinux/avc/cache_stats", "lookups hits\n1 2\n");
    let (values, failures) = cycle(dir.path());
    assert_eq!(values, []);
    assert!(failures[0].ends_with("line 1: is not the header of the cache"), "{failures:?}");
}

#[test]
fn a_host_without_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(cycle(dir.path()), (vec![("enabled".to_owned(), 0.0)], vec![]));
}
