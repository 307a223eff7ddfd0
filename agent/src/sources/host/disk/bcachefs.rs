//! bcachefs file systems: `/sys/fs/bcachefs/<uuid>`.

use std::path::PathBuf;

use super::human_number;
use crate::sources::host::attribute::{
    Attribute, Text, attribute, push, push_attributes, push_info, read_texts, text,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const DEVICE: [Attribute; 2] = [
    attribute("nbuckets", "node_bcachefs_device_buckets"),
    attribute("durability", "node_bcachefs_device_durability"),
];
const DEVICE_TEXTS: [Text; 2] = [text("label"), text("state")];

pub struct Bcachefs {
    path: PathBuf,
}

impl Bcachefs {
    pub fn new(options: &HostOptions) -> Self {
        Bcachefs { path: options.sysfs.join("fs/bcachefs") }
    }
}

impl Collect for Bcachefs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let file_systems = Directory::open(&self.path)?;
        for uuid in file_systems.names() {
            let Some(file_system) = file_systems.inside(&uuid) else { continue };
            let own = ("uuid", &uuid[..]);
            push(cycle, "node_bcachefs_info", &[own], 1.0)?;
            push_human(
                cycle,
                buffer,
                &file_system,
                "btree_cache_size",
                "node_bcachefs_btree_cache_size_bytes",
                &[own],
            )?;
            push_compression(cycle, buffer, &file_system, own)?;
            push_btree_writes(cycle, buffer, &file_system, own)?;
            push_errors(cycle, buffer, &file_system, own)?;
            push_counters(cycle, buffer, &file_system, own)?;
            for name in file_system.names() {
                let Some(number) = name.strip_prefix("dev-") else { continue };
                let Some(device) = file_system.inside(&name) else { continue };
                push_device(cycle, buffer, &device, &[own, ("device", number)])?;
            }
        }
        Ok(())
    }
}

type Label<'a> = (&'a str, &'a str);

fn push_human(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    directory: &Directory,
    file: &str,
    name: &str,
    labels: &[Label<'_>],
) -> Result<(), Error> {
    match directory.text(file, buffer).and_then(|text| human_number::parse(&text)) {
        Some(value) => push(cycle, name, labels, value),
        None => Ok(()),
    }
}

/// A header, then `lz4   48.9G   71.2G   62.5k`.
fn push_compression(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    file_system: &Directory,
    own: Label<'_>,
) -> Result<(), Error> {
    let names =
        ["node_bcachefs_compression_compressed_bytes", "node_bcachefs_compression_uncompressed_bytes"];
    let Some(text) = file_system.text("compression_stats", buffer) else { return Ok(()) };
    for line in text.lines().skip(1) {
        push_row(cycle, line, names, own, "algorithm")?;
    }
    Ok(())
}

/// A header, then `initial:   3298401   100k`.
fn push_btree_writes(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    file_system: &Directory,
    own: Label<'_>,
) -> Result<(), Error> {
    let names = ["node_bcachefs_btree_writes_total", "node_bcachefs_btree_write_average_size_bytes"];
    let Some(text) = file_system.text("btree_write_stats", buffer) else { return Ok(()) };
    for line in text.lines().skip(1) {
        push_row(cycle, line, names, own, "type")?;
    }
    Ok(())
}

/// A row of a table: what it is about, and a number for each of `names`.
fn push_row(
    cycle: &mut Cycle<'_>,
    line: &str,
    names: [&str; 2],
    own: Label<'_>,
    label: &str,
) -> Result<(), Error> {
    let mut words = line.split_ascii_whitespace();
    let Some(key) = words.next() else { return Ok(()) };
    for (name, word) in names.into_iter().zip(words) {
        if let Some(value) = human_number::parse(word) {
            push(cycle, name, &[own, (label, key.trim_end_matches(':'))], value)?;
        }
    }
    Ok(())
}

/// `lru_entry_bad   4537   1771753700`: how often, and when last.
fn push_errors(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    file_system: &Directory,
    own: Label<'_>,
) -> Result<(), Error> {
    let Some(text) = file_system.text("errors", buffer) else { return Ok(()) };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(Ok(count))) = (words.next(), words.next().map(str::parse::<u64>)) else {
            continue;
        };
        push(cycle, "node_bcachefs_errors_total", &[own, ("error_type", key)], count as f64)?;
    }
    Ok(())
}

/// A file for each counter, with a line since the mount and one since the file
/// system was made.
fn push_counters(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    file_system: &Directory,
    own: Label<'_>,
) -> Result<(), Error> {
    let Some(counters) = file_system.inside("counters") else { return Ok(()) };
    for file in counters.names() {
        let Some(text) = counters.text(&file, buffer) else { continue };
        let since = text.lines().find_map(|line| line.strip_prefix("since filesystem creation:"));
        let Some(value) = since.and_then(|text| human_number::parse(text.trim())) else { continue };
        let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let counter: String = file.chars().map(keep).collect();
        push(cycle, &format!("node_bcachefs_{counter}_total"), &[own], value)?;
    }
    Ok(())
}

fn push_device(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    device: &Directory,
    labels: &[Label<'_>; 2],
) -> Result<(), Error> {
    let [own, number] = *labels;
    let texts = read_texts(buffer, device, &DEVICE_TEXTS);
    push_info(cycle, "node_bcachefs_device_info", labels, &texts)?;
    push_attributes(cycle, buffer, device, &DEVICE, labels)?;
    push_human(cycle, buffer, device, "bucket_size", "node_bcachefs_device_bucket_size_bytes", labels)?;
    if let Some(text) = device.text("io_done", buffer) {
        // `read:`, lines such as `btree : 5242880`, `write:`, the same again.
        let mut operation = "";
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match value.trim().parse::<u64>() {
                Err(_) => operation = key.trim(),
                Ok(bytes) => {
                    let labels = [own, number, ("operation", operation), ("data_type", key.trim())];
                    push(cycle, "node_bcachefs_device_io_done_bytes_total", &labels, bytes as f64)?;
                }
            }
        }
    }
    if let Some(text) = device.text("io_errors", buffer) {
        // The same lines follow for a shorter time.
        let lines = text.lines().skip(1).take_while(|line| !line.starts_with("IO errors since"));
        for (kind, count) in lines.filter_map(|line| line.split_once(':')) {
            let Ok(count) = count.trim().parse::<u64>() else { continue };
            let labels = [own, number, ("type", kind.trim())];
            push(cycle, "node_bcachefs_device_io_errors_total", &labels, count as f64)?;
        }
    }
    Ok(())
}
