//! What a network interface is: `/sys/class/net`.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, attribute, push, push_attributes, push_info, read_texts, text,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::filter::Filter;
use crate::sources::host::{Error, HostOptions};

const ATTRIBUTES: [Attribute; 16] = [
    attribute("addr_assign_type", "node_network_address_assign_type"),
    attribute("carrier", "node_network_carrier"),
    attribute("carrier_changes", "node_network_carrier_changes_total"),
    attribute("carrier_up_count", "node_network_carrier_up_changes_total"),
    attribute("carrier_down_count", "node_network_carrier_down_changes_total"),
    attribute("dev_id", "node_network_device_id"),
    attribute("dormant", "node_network_dormant"),
    attribute("flags", "node_network_flags"),
    attribute("ifindex", "node_network_iface_id"),
    attribute("iflink", "node_network_iface_link"),
    attribute("link_mode", "node_network_iface_link_mode"),
    attribute("mtu", "node_network_mtu_bytes"),
    attribute("name_assign_type", "node_network_name_assign_type"),
    attribute("netdev_group", "node_network_net_dev_group"),
    attribute("tx_queue_len", "node_network_transmit_queue_length"),
    attribute("type", "node_network_protocol_type"),
];

const TEXTS: [Text; 5] =
    [text("address"), text("broadcast"), text("duplex"), text("operstate"), text("ifalias")];
const OPERSTATE: usize = 3;

/// `IFF_UP` of `netdevice(7)`.
const FLAG_UP: u64 = 1;

pub struct NetClass {
    path: PathBuf,
    interfaces: Filter,
}

impl NetClass {
    pub fn new(options: &HostOptions) -> Self {
        NetClass { path: options.sysfs.join("class/net"), interfaces: options.filters.filter("netclass") }
    }
}

impl Collect for NetClass {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            if !self.interfaces.shows(name.as_bytes()) {
                continue;
            }
            // bonding_masters, a file, is among them.
            let Some(interface) = class.inside(&name) else { continue };
            push_interface(cycle, buffer, &interface, &name)?;
        }
        Ok(())
    }
}

fn push_interface(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    interface: &Directory,
    name: &str,
) -> Result<(), Error> {
    let labels = [("device", name)];
    push_attributes(cycle, buffer, interface, &ATTRIBUTES, &labels)?;
    // Mbit/s; -1 when nobody knows, which node_exporter shows as -125,000
    // unless told otherwise.
    let speed = interface.number("speed", buffer).filter(|speed| *speed >= 0.0);
    if let Some(speed) = speed {
        push(cycle, "node_network_speed_bytes", &labels, speed * 1000.0 * 1000.0 / 8.0)?;
    }
    let texts = read_texts(buffer, interface, &TEXTS);
    let is_up = texts[OPERSTATE].1 == "up";
    push(cycle, "node_network_up", &labels, f64::from(u8::from(is_up)))?;
    let admin_state = match interface.number("flags", buffer) {
        None => "unknown",
        Some(flags) if flags as u64 & FLAG_UP == 0 => "down",
        Some(_) => "up",
    };
    push_info(cycle, "node_network_info", &[("device", name), ("adminstate", admin_state)], &texts)
}
