//! ZFS: `/proc/spl/kstat/zfs`.
//!
//! Its files are tables: a line about the file, a header, and rows. Most have
//! a name, a type and a value in each row; a pool's `io` has one row of values
//! under a header of names.

use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

/// Files of the whole of ZFS, and what their metrics begin with.
const TABLES: [(&str, &str); 11] = [
    ("abdstats", "node_zfs_abd"),
    ("arcstats", "node_zfs_arc"),
    ("dbufstats", "node_zfs_dbuf"),
    ("dmu_tx", "node_zfs_dmu_tx"),
    ("dnodestats", "node_zfs_dnode"),
    ("fm", "node_zfs_fm"),
    ("vdev_cache_stats", "node_zfs_vdev_cache"),
    ("vdev_mirror_stats", "node_zfs_vdev_mirror"),
    ("xuio_stats", "node_zfs_xuio"),
    ("zfetchstats", "node_zfs_zfetch"),
    ("zil", "node_zfs_zil"),
];

const POOL_STATES: [&str; 7] =
    ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

/// Unsigned and signed numbers of 64 bits, in the second column.
const NUMBER_TYPES: [&str; 2] = ["4", "3"];

pub struct Zfs {
    path: PathBuf,
    tables: Vec<(KernelFile, &'static str)>,
}

impl Zfs {
    pub fn new(options: &HostOptions) -> Self {
        let path = options.procfs.join("spl/kstat/zfs");
        let tables = TABLES.map(|(file, prefix)| (KernelFile::new(&path, file), prefix)).into();
        Zfs { path, tables }
    }
}

impl Collect for Zfs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let directory = Directory::open(&self.path)?;
        for (table, prefix) in &self.tables {
            // Which tables there are depends on the version.
            if !table.read_if_there(buffer)? {
                continue;
            }
            for (name, value) in rows(&String::from_utf8_lossy(buffer)) {
                push(cycle, &format!("{prefix}_{}", clean(name)), &[], value)?;
            }
        }
        for name in directory.names() {
            let Some(pool) = directory.inside(&name) else { continue };
            push_pool(cycle, buffer, &pool, &name)?;
        }
        Ok(())
    }
}

fn push_pool(cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>, pool: &Directory, name: &str) -> Result<(), Error> {
    let own = ("zpool", name);
    if let Some(current) = pool.text("state", buffer).map(|state| state.to_lowercase()) {
        for state in POOL_STATES {
            let value = f64::from(u8::from(state == current));
            push(cycle, "node_zfs_zpool_state", &[own, ("state", state)], value)?;
        }
    }
    // Absent since OpenZFS 2.
    if let Some(text) = pool.text("io", buffer) {
        let mut lines = text.lines().skip(1).map(str::split_ascii_whitespace);
        if let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            for (name, value) in names.zip(values) {
                let Ok(value) = value.parse::<u64>() else { continue };
                push(cycle, &format!("node_zfs_zpool_{}", clean(name)), &[own], value as f64)?;
            }
        }
    }
    for file in pool.names() {
        if !file.starts_with("objset-") {
            continue;
        }
        let Some(text) = pool.text(&file, buffer) else { continue };
        let Some(dataset) = text.lines().find_map(dataset_name) else { continue };
        for (name, value) in rows(&text) {
            let name = format!("node_zfs_zpool_dataset_{}", clean(name));
            push(cycle, &name, &[own, ("dataset", dataset)], value)?;
        }
    }
    Ok(())
}

/// Rows of numbers: `hits   4   8772612`.
fn rows(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (name, kind, value) = (words.next()?, words.next()?, words.next()?);
        if !NUMBER_TYPES.contains(&kind) || words.next().is_some() {
            return None;
        }
        Some((name, value.parse().ok().filter(|value: &f64| value.is_finite())?))
    })
}

/// `dataset_name   7   pool3/dataset with  space`: the name may hold spaces.
fn dataset_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("dataset_name")?.trim_start();
    let (_, name) = rest.split_once(' ')?;
    Some(name.trim_start())
}

fn clean(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_names() {
        let text = "23 1 0x01 7 2160 1 2\nname type data\ndataset_name 7 a b  c\nwrites 4 12\nlow 3 -1\nx 4 y\n4 4\n";
        assert_eq!(rows(text).collect::<Vec<_>>(), [("writes", 12.0), ("low", -1.0)]);
        assert_eq!(text.lines().find_map(dataset_name), Some("a b  c"));
    }
}
