//! InfiniBand ports: `/sys/class/infiniband`.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, Unit, attribute, attribute_in, push, push_attributes, push_info, read_texts, text,
    text_as,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

/// Counted in words of four bytes, one for each lane.
const WORDS: Unit = Unit::Times(4.0);

const COUNTERS: [Attribute; 30] = [
    attribute("counters/VL15_dropped", "node_infiniband_vl15_dropped_total"),
    attribute(
        "counters/excessive_buffer_overrun_errors",
        "node_infiniband_excessive_buffer_overrun_errors_total",
    ),
    attribute("counters/link_downed", "node_infiniband_link_downed_total"),
    attribute("counters/link_error_recovery", "node_infiniband_link_error_recovery_total"),
    attribute("counters/local_link_integrity_errors", "node_infiniband_local_link_integrity_errors_total"),
    attribute("counters/multicast_rcv_packets", "node_infiniband_multicast_packets_received_total"),
    attribute("counters/multicast_xmit_packets", "node_infiniband_multicast_packets_transmitted_total"),
    attribute("counters/port_rcv_constraint_errors", "node_infiniband_port_constraint_errors_received_total"),
    attribute(
        "counters/port_xmit_constraint_errors",
        "node_infiniband_port_constraint_errors_transmitted_total",
    ),
    attribute_in("counters/port_rcv_data", "node_infiniband_port_data_received_bytes_total", WORDS),
    attribute_in("counters/port_xmit_data", "node_infiniband_port_data_transmitted_bytes_total", WORDS),
    attribute("counters/port_rcv_discards", "node_infiniband_port_discards_received_total"),
    attribute("counters/port_xmit_discards", "node_infiniband_port_discards_transmitted_total"),
    attribute("counters/port_rcv_errors", "node_infiniband_port_errors_received_total"),
    attribute("counters/port_rcv_packets", "node_infiniband_port_packets_received_total"),
    attribute("counters/port_xmit_packets", "node_infiniband_port_packets_transmitted_total"),
    attribute(
        "counters/port_rcv_remote_physical_errors",
        "node_infiniband_port_receive_remote_physical_errors_total",
    ),
    attribute(
        "counters/port_rcv_switch_relay_errors",
        "node_infiniband_port_receive_switch_relay_errors_total",
    ),
    attribute("counters/port_xmit_wait", "node_infiniband_port_transmit_wait_total"),
    attribute("counters/symbol_error", "node_infiniband_symbol_error_total"),
    attribute("counters/unicast_rcv_packets", "node_infiniband_unicast_packets_received_total"),
    attribute("counters/unicast_xmit_packets", "node_infiniband_unicast_packets_transmitted_total"),
    // Kernels before 4.5.
    attribute(
        "counters_ext/port_multicast_rcv_packets",
        "node_infiniband_legacy_multicast_packets_received_total",
    ),
    attribute(
        "counters_ext/port_multicast_xmit_packets",
        "node_infiniband_legacy_multicast_packets_transmitted_total",
    ),
    attribute_in("counters_ext/port_rcv_data_64", "node_infiniband_legacy_data_received_bytes_total", WORDS),
    attribute_in(
        "counters_ext/port_xmit_data_64",
        "node_infiniband_legacy_data_transmitted_bytes_total",
        WORDS,
    ),
    attribute("counters_ext/port_rcv_packets_64", "node_infiniband_legacy_packets_received_total"),
    attribute("counters_ext/port_xmit_packets_64", "node_infiniband_legacy_packets_transmitted_total"),
    attribute(
        "counters_ext/port_unicast_rcv_packets",
        "node_infiniband_legacy_unicast_packets_received_total",
    ),
    attribute(
        "counters_ext/port_unicast_xmit_packets",
        "node_infiniband_legacy_unicast_packets_transmitted_total",
    ),
];

const TEXTS: [Text; 3] = [text("board_id"), text_as("fw_ver", "firmware_version"), text("hca_type")];

pub struct InfiniBand {
    path: PathBuf,
}

impl InfiniBand {
    pub fn new(options: &HostOptions) -> Self {
        InfiniBand { path: options.sysfs.join("class/infiniband") }
    }
}

impl Collect for InfiniBand {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            let Some(device) = class.inside(&name) else { continue };
            let texts = read_texts(buffer, &device, &TEXTS);
            push_info(cycle, "node_infiniband_info", &[("device", &name)], &texts)?;
            let Some(ports) = device.inside("ports") else { continue };
            for number in ports.names() {
                let Some(port) = ports.inside(&number) else { continue };
                push_port(cycle, buffer, &port, &[("device", &name), ("port", &number)])?;
            }
        }
        Ok(())
    }
}

fn push_port(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    port: &Directory,
    labels: &[(&str, &str)],
) -> Result<(), Error> {
    for (file, name) in
        [("state", "node_infiniband_state_id"), ("phys_state", "node_infiniband_physical_state_id")]
    {
        // `4: ACTIVE`
        let text = port.text(file, buffer);
        if let Some(state) = text.and_then(|text| text.split(':').next()?.parse::<u32>().ok()) {
            push(cycle, name, labels, f64::from(state))?;
        }
    }
    // `40 Gb/sec (4X QDR)`
    let rate = port.text("rate", buffer);
    if let Some(rate) = rate.and_then(|rate| rate.split(' ').next()?.parse::<f64>().ok()) {
        push(cycle, "node_infiniband_rate_bytes_per_second", labels, rate * 125_000_000.0)?;
    }
    push_attributes(cycle, buffer, port, &COUNTERS, labels)
}
