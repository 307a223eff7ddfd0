//! What udev and sysfs know of a block device: maker, serial number, contents.
//!
//! udev keeps a file for each device, `b<major>:<minor>`, of which the lines
//! `E:NAME=value` are the device's properties.

use std::collections::HashMap;

use crate::sources::SeriesIndex;
use crate::sources::host::collector::Cycle;
use crate::sources::host::read::decimal;
use crate::sources::host::tree::Tree;
use crate::sources::host::{Error, HostOptions};

/// More devices are forgotten and learned again.
const DEVICE_COUNT_MAX: usize = 1 << 14;

pub struct DiskInfo {
    udev: Tree,
    sysfs: Tree,
    /// By device.
    known: HashMap<Box<[u8]>, Known>,
    file: Vec<u8>,
    properties: Vec<u8>,
    rotational: Vec<u8>,
}

/// The series of a device, and what they were made of.
struct Known {
    properties: Vec<u8>,
    rotational: Vec<u8>,
    series: Vec<(SeriesIndex, f64)>,
}

/// A device as `/proc/diskstats` names it.
pub struct Device<'a> {
    pub major: &'a [u8],
    pub minor: &'a [u8],
    pub name: &'a [u8],
}

impl DiskInfo {
    pub fn new(options: &HostOptions) -> Self {
        DiskInfo {
            udev: Tree::new(&options.udev),
            sysfs: Tree::new(&options.sysfs),
            known: HashMap::new(),
            file: Vec::new(),
            properties: Vec::new(),
            rotational: Vec::new(),
        }
    }

    /// What cannot be read is not known: `/proc/diskstats` alone decides
    /// whether there is such a device.
    pub fn push(&mut self, cycle: &mut Cycle<'_>, device: &Device<'_>) -> Result<(), Error> {
        self.file.clear();
        for part in [b"b", device.major, b":", device.minor] {
            self.file.extend_from_slice(part);
        }
        if self.udev.read(&[&self.file], &mut self.properties).is_err() {
            self.properties.clear();
        }
        let queue = [&b"block"[..], device.name, b"queue/rotational"];
        if self.sysfs.read(&queue, &mut self.rotational).is_err() {
            self.rotational.clear();
        }
        let is_same =
            |known: &&Known| known.properties == self.properties && known.rotational == self.rotational;
        if let Some(known) = self.known.get(device.name).filter(is_same) {
            known.series.iter().for_each(|(series, value)| cycle.push(*series, *value));
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.properties);
        let is_rotational = self.rotational.trim_ascii() == b"1";
        let series = info_series(cycle, device, &Properties::parse(&text), is_rotational)?;
        series.iter().for_each(|(series, value)| cycle.push(*series, *value));
        if self.known.len() >= DEVICE_COUNT_MAX {
            self.known.clear();
        }
        let known =
            Known { properties: self.properties.clone(), rotational: self.rotational.clone(), series };
        self.known.insert(device.name.into(), known);
        Ok(())
    }
}

struct Properties<'a>(HashMap<&'a str, &'a str>);

impl<'a> Properties<'a> {
    fn parse(text: &'a str) -> Self {
        let properties = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        Properties(properties.collect())
    }

    /// Empty when udev does not say, which leaves a label out.
    fn text(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }
}

fn info_series(
    cycle: &mut Cycle<'_>,
    device: &Device<'_>,
    properties: &Properties<'_>,
    is_rotational: bool,
) -> Result<Vec<(SeriesIndex, f64)>, Error> {
    let [name, major, minor] = [device.name, device.major, device.minor].map(String::from_utf8_lossy);
    let serials = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(|name| properties.text(name));
    let info = [
        ("device", &*name),
        ("major", &*major),
        ("minor", &*minor),
        ("path", properties.text("ID_PATH")),
        ("wwn", properties.text("ID_WWN")),
        ("model", properties.text("ID_MODEL")),
        ("serial", serials.into_iter().find(|serial| !serial.is_empty()).unwrap_or_default()),
        ("revision", properties.text("ID_REVISION")),
        ("rotational", if is_rotational { "1" } else { "0" }),
    ];
    let mut series = vec![(cycle.series("node_disk_info", &info)?, 1.0)];
    if !properties.text("ID_FS_TYPE").is_empty() {
        let labels = [
            ("device", &*name),
            ("type", properties.text("ID_FS_TYPE")),
            ("usage", properties.text("ID_FS_USAGE")),
            ("uuid", properties.text("ID_FS_UUID")),
            ("version", properties.text("ID_FS_VERSION")),
        ];
        series.push((cycle.series("node_disk_filesystem_info", &labels)?, 1.0));
    }
    if !properties.text("DM_NAME").is_empty() {
        let labels = [
            ("device", &*name),
            ("name", properties.text("DM_NAME")),
            ("uuid", properties.text("DM_UUID")),
            ("vg_name", properties.text("DM_VG_NAME")),
            ("lv_name", properties.text("DM_LV_NAME")),
            ("lv_layer", properties.text("DM_LV_LAYER")),
        ];
        series.push((cycle.series("node_disk_device_mapper_info", &labels)?, 1.0));
    }
    if !properties.text("ID_ATA").is_empty() {
        let facts = [
            ("node_disk_ata_write_cache", "ID_ATA_WRITE_CACHE"),
            ("node_disk_ata_write_cache_enabled", "ID_ATA_WRITE_CACHE_ENABLED"),
            ("node_disk_ata_rotation_rate_rpm", "ID_ATA_ROTATION_RATE_RPM"),
        ];
        for (metric, property) in facts {
            if let Some(value) = decimal(properties.text(property).as_bytes()) {
                series.push((cycle.series(metric, &[("device", &*name)])?, value));
            }
        }
    }
    Ok(series)
}
