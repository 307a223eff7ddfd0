//! Disks that are replicated to another host: `/proc/drbd` (DRBD 8).

use crate::sources::host::attribute::{Unit, push};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::read::{KernelFile, lines};
use crate::sources::host::{Error, HostOptions};

const KIB: Unit = Unit::Times(1024.0);

/// Numbers, by their keys in the file.
const NUMBERS: [(&str, &str, Unit); 12] = [
    ("ns", "node_drbd_network_sent_bytes_total", KIB),
    // KiB too, and bytes for node_exporter.
    ("nr", "node_drbd_network_received_bytes_total", Unit::Same),
    ("dw", "node_drbd_disk_written_bytes_total", KIB),
    ("dr", "node_drbd_disk_read_bytes_total", KIB),
    ("al", "node_drbd_activitylog_writes_total", Unit::Same),
    ("bm", "node_drbd_bitmap_writes_total", Unit::Same),
    ("lo", "node_drbd_local_pending", Unit::Same),
    ("pe", "node_drbd_remote_pending", Unit::Same),
    ("ua", "node_drbd_remote_unacknowledged", Unit::Same),
    ("ap", "node_drbd_application_pending", Unit::Same),
    ("ep", "node_drbd_epochs", Unit::Same),
    ("oos", "node_drbd_out_of_sync_bytes", KIB),
];

/// `local/remote` words, and the word that counts.
const PAIRS: [(&str, &str, &str); 2] = [
    ("ro", "node_drbd_node_role_is_primary", "Primary"),
    ("ds", "node_drbd_disk_state_is_up_to_date", "UpToDate"),
];

pub struct Drbd {
    file: KernelFile,
}

impl Drbd {
    pub fn new(options: &HostOptions) -> Self {
        Drbd { file: KernelFile::new(&options.procfs, "drbd") }
    }
}

impl Collect for Drbd {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let lines = lines(buffer).map_err(|malformed| self.file.malformed(malformed))?;
        let mut device = None;
        for (_, line) in lines {
            let line = String::from_utf8_lossy(line);
            for word in line.split_ascii_whitespace() {
                let Some((key, value)) = word.split_once(':') else { continue };
                if value.is_empty() {
                    // ` 1: cs:Connected ...`
                    let number = key.parse::<u32>().ok();
                    device = number.map_or(device, |number| Some(format!("drbd{number}")));
                } else if let Some(device) = &device {
                    push_field(cycle, device, key, value)?;
                }
            }
        }
        Ok(())
    }
}

fn push_field(cycle: &mut Cycle<'_>, device: &str, key: &str, value: &str) -> Result<(), Error> {
    let device = ("device", device);
    if let Some((_, name, unit)) = NUMBERS.iter().find(|(known, ..)| *known == key) {
        let Ok(value) = value.parse::<u64>() else { return Ok(()) };
        return push(cycle, name, &[device], unit.convert(value as f64));
    }
    if let Some((_, name, wanted)) = PAIRS.iter().find(|(known, ..)| *known == key) {
        let Some((local, remote)) = value.split_once('/') else { return Ok(()) };
        for (node, word) in [("local", local), ("remote", remote)] {
            push(cycle, name, &[device, ("node", node)], f64::from(u8::from(word == *wanted)))?;
        }
    }
    if key == "cs" {
        push(cycle, "node_drbd_connected", &[device], f64::from(u8::from(value == "Connected")))?;
    }
    Ok(())
}
