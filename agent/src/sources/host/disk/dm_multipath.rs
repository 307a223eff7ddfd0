//! Disks with several paths to them: `/sys/block/dm-*` whose UUID begins with
//! `mpath-`.

use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const SECTOR_BYTES: f64 = 512.0;

pub struct DmMultipath {
    path: PathBuf,
}

impl DmMultipath {
    pub fn new(options: &HostOptions) -> Self {
        DmMultipath { path: options.sysfs.join("block") }
    }
}

impl Collect for DmMultipath {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let blocks = Directory::open(&self.path)?;
        for sysfs_name in blocks.names() {
            if !sysfs_name.starts_with("dm-") {
                continue;
            }
            let Some(device) = blocks.inside(&sysfs_name) else { continue };
            let uuid = device.text("dm/uuid", buffer).map(String::from);
            let Some(uuid) = uuid.filter(|uuid| uuid.starts_with("mpath-")) else { continue };
            let name = device.text("dm/name", buffer).unwrap_or_default().into_owned();
            push_device(cycle, buffer, &blocks, &device, [&name, &sysfs_name, &uuid])?;
        }
        Ok(())
    }
}

fn push_device(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    blocks: &Directory,
    device: &Directory,
    [name, sysfs_name, uuid]: [&str; 3],
) -> Result<(), Error> {
    let labels = [("device", name), ("sysfs_name", sysfs_name)];
    push(cycle, "node_dmmultipath_device_info", &[labels[0], labels[1], ("uuid", uuid)], 1.0)?;
    if let Some(suspended) = device.number("dm/suspended", buffer) {
        let is_active = f64::from(u8::from(suspended == 0.0));
        push(cycle, "node_dmmultipath_device_active", &labels, is_active)?;
    }
    if let Some(sectors) = device.number("size", buffer) {
        push(cycle, "node_dmmultipath_device_size_bytes", &labels, sectors * SECTOR_BYTES)?;
    }
    let paths = device.inside("slaves").map(|slaves| slaves.names()).unwrap_or_default();
    let mut active = 0;
    for path in &paths {
        let state = blocks.text(&format!("{path}/device/state"), buffer);
        let state = state.map_or_else(|| "unknown".to_owned(), String::from);
        // SCSI and NVMe have different words for it.
        active += usize::from(state == "running" || state == "live");
        push(cycle, "node_dmmultipath_path_state", &[labels[0], ("path", path), ("state", &state)], 1.0)?;
    }
    push(cycle, "node_dmmultipath_device_paths", &labels, paths.len() as f64)?;
    push(cycle, "node_dmmultipath_device_paths_active", &labels, active as f64)?;
    push(cycle, "node_dmmultipath_device_paths_failed", &labels, (paths.len() - active) as f64)
}
