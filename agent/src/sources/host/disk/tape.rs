//! Tape drives: `/sys/class/scsi_tape`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Attribute, Unit, attribute, attribute_in, push_attributes};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const NANO: Unit = Unit::Over(1e9);

const ATTRIBUTES: [Attribute; 10] = [
    attribute("in_flight", "node_tape_io_now"),
    attribute_in("io_ns", "node_tape_io_time_seconds_total", NANO),
    attribute("other_cnt", "node_tape_io_others_total"),
    attribute("read_byte_cnt", "node_tape_read_bytes_total"),
    attribute("read_cnt", "node_tape_reads_completed_total"),
    attribute_in("read_ns", "node_tape_read_time_seconds_total", NANO),
    attribute("resid_cnt", "node_tape_residual_total"),
    attribute("write_byte_cnt", "node_tape_written_bytes_total"),
    attribute("write_cnt", "node_tape_writes_completed_total"),
    attribute_in("write_ns", "node_tape_write_time_seconds_total", NANO),
];

pub struct Tapes {
    path: PathBuf,
}

impl Tapes {
    pub fn new(options: &HostOptions) -> Self {
        Tapes { path: options.sysfs.join("class/scsi_tape") }
    }
}

impl Collect for Tapes {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            // A drive has eight names, one for each mode; st0 is the drive.
            let number = name.strip_prefix("st").unwrap_or_default();
            if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let Some(stats) = class.inside(&format!("{name}/stats")) else { continue };
            push_attributes(cycle, buffer, &stats, &ATTRIBUTES, &[("device", &name)])?;
        }
        Ok(())
    }
}
