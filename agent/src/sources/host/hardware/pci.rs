//! PCI devices, their links and virtual functions: `/sys/bus/pci/devices`.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, attribute, push, push_attributes, push_info, read_texts, text_as,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const ATTRIBUTES: [Attribute; 7] = [
    attribute("max_link_width", "node_pcidevice_max_link_width"),
    attribute("current_link_width", "node_pcidevice_current_link_width"),
    attribute("d3cold_allowed", "node_pcidevice_d3cold_allowed"),
    attribute("sriov_drivers_autoprobe", "node_pcidevice_sriov_drivers_autoprobe"),
    attribute("sriov_numvfs", "node_pcidevice_sriov_numvfs"),
    attribute("sriov_totalvfs", "node_pcidevice_sriov_totalvfs"),
    attribute("sriov_vf_total_msix", "node_pcidevice_sriov_vf_total_msix"),
];

/// Transfers in a second, as `8.0 GT/s PCIe`.
const SPEEDS: [(&str, &str); 2] = [
    ("max_link_speed", "node_pcidevice_max_link_transfers_per_second"),
    ("current_link_speed", "node_pcidevice_current_link_transfers_per_second"),
];

const TEXTS: [Text; 6] = [
    text_as("class", "class_id"),
    text_as("vendor", "vendor_id"),
    text_as("device", "device_id"),
    text_as("subsystem_vendor", "subsystem_vendor_id"),
    text_as("subsystem_device", "subsystem_device_id"),
    text_as("revision", "revision"),
];

const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];

/// The names of the labels of [`Location`].
const LOCATION: [&str; 4] = ["segment", "bus", "device", "function"];
const PARENT: [&str; 4] = ["parent_segment", "parent_bus", "parent_device", "parent_function"];

pub struct PciDevices {
    path: PathBuf,
}

impl PciDevices {
    pub fn new(options: &HostOptions) -> Self {
        PciDevices { path: options.sysfs.join("bus/pci/devices") }
    }
}

impl Collect for PciDevices {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let devices = Directory::open(&self.path)?;
        for name in devices.names() {
            let Some(location) = parse_location(&name) else { continue };
            let Some(device) = devices.inside(&name) else { continue };
            let link = devices.link(&name).unwrap_or_default();
            let parent = link.rsplit('/').nth(1).and_then(parse_location).unwrap_or(["*"; 4]);
            push_device(cycle, buffer, &device, labels(LOCATION, location), labels(PARENT, parent))?;
        }
        Ok(())
    }
}

type Location<'a> = [&'a str; 4];
type Labels<'a> = [(&'static str, &'a str); 4];

fn labels<'a>(names: [&'static str; 4], values: Location<'a>) -> Labels<'a> {
    std::array::from_fn(|at| (names[at], values[at]))
}

fn push_device(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    device: &Directory,
    own: Labels<'_>,
    parent: Labels<'_>,
) -> Result<(), Error> {
    let texts = read_texts(buffer, device, &TEXTS);
    push_info(cycle, "node_pcidevice_info", &[own, parent].concat(), &texts)?;
    push_attributes(cycle, buffer, device, &ATTRIBUTES, &own)?;
    for (file, name) in SPEEDS {
        let speed = device.text(file, buffer);
        let giga: Option<f64> = speed.and_then(|speed| speed.split(' ').next()?.parse().ok());
        if let Some(giga) = giga {
            push(cycle, name, &own, giga * 1e9)?;
        }
    }
    if let Some(node) = device.number("numa_node", buffer).filter(|node| *node >= 0.0) {
        push(cycle, "node_pcidevice_numa_node", &own, node)?;
    }
    let Some(current) = device.text("power_state", buffer).map(String::from) else { return Ok(()) };
    for state in POWER_STATES {
        let [segment, bus, slot, function] = own;
        let labels = [segment, bus, slot, function, ("state", state)];
        push(cycle, "node_pcidevice_power_state", &labels, f64::from(u8::from(state == current)))?;
    }
    Ok(())
}

/// `0000:01:00.0`: segment, bus, device and function.
fn parse_location(name: &str) -> Option<Location<'_>> {
    let (segment, rest) = name.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let location = [segment, bus, device, function];
    let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    location.iter().all(|part| is_hex(part)).then_some(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        assert_eq!(parse_location("0000:45:1f.7"), Some(["0000", "45", "1f", "7"]));
        for name in ["pci0000:00", "0000:45:1f", "0000:00:02.1:pcie001", ""] {
            assert_eq!(parse_location(name), None, "{name}");
        }
    }
}
