//! Fibre Channel host adapters: `/sys/class/fc_host`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Text, push, push_info, read_texts, text};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::{Directory, parse_number};
use crate::sources::host::{Error, HostOptions};

/// Counters below `statistics`.
const COUNTERS: [(&str, &str); 14] = [
    ("dumped_frames", "node_fibrechannel_dumped_frames_total"),
    ("error_frames", "node_fibrechannel_error_frames_total"),
    ("fcp_packet_aborts", "node_fibrechannel_fcp_packet_aborts_total"),
    ("invalid_crc_count", "node_fibrechannel_invalid_crc_total"),
    ("invalid_tx_word_count", "node_fibrechannel_invalid_tx_words_total"),
    ("link_failure_count", "node_fibrechannel_link_failure_total"),
    ("loss_of_signal_count", "node_fibrechannel_loss_of_signal_total"),
    ("loss_of_sync_count", "node_fibrechannel_loss_of_sync_total"),
    ("nos_count", "node_fibrechannel_nos_total"),
    ("rx_frames", "node_fibrechannel_rx_frames_total"),
    ("rx_words", "node_fibrechannel_rx_words_total"),
    ("seconds_since_last_reset", "node_fibrechannel_seconds_since_last_reset_total"),
    ("tx_frames", "node_fibrechannel_tx_frames_total"),
    ("tx_words", "node_fibrechannel_tx_words_total"),
];

/// What a driver answers that does not count.
const UNCOUNTED: &[u8] = b"0xffffffffffffffff";

const TEXTS: [Text; 10] = [
    text("dev_loss_tmo"),
    text("fabric_name"),
    text("port_id"),
    text("port_name"),
    text("port_state"),
    text("port_type"),
    text("speed"),
    text("supported_classes"),
    text("supported_speeds"),
    text("symbolic_name"),
];

pub struct FibreChannel {
    path: PathBuf,
}

impl FibreChannel {
    pub fn new(options: &HostOptions) -> Self {
        FibreChannel { path: options.sysfs.join("class/fc_host") }
    }
}

impl Collect for FibreChannel {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            let Some(host) = class.inside(&name) else { continue };
            let labels = [("fc_host", &name[..])];
            let mut texts = read_texts(buffer, &host, &TEXTS);
            for (label, value) in &mut texts {
                if matches!(*label, "fabric_name" | "port_id" | "port_name") {
                    *value = value.trim_start_matches("0x").to_owned();
                }
            }
            push_info(cycle, "node_fibrechannel_info", &labels, &texts)?;
            let Some(statistics) = host.inside("statistics") else { continue };
            for (file, name) in COUNTERS {
                let counted = statistics.bytes(file, buffer).filter(|text| *text != UNCOUNTED);
                if let Some(value) = counted.and_then(parse_number) {
                    push(cycle, name, &labels, value)?;
                }
            }
        }
        Ok(())
    }
}
