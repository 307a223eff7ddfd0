//! Memory errors that the hardware found: `/sys/devices/system/edac/mc`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Attribute, attribute, push, push_attributes};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const CONTROLLER: [Attribute; 2] = [
    attribute("ce_count", "node_edac_correctable_errors_total"),
    attribute("ue_count", "node_edac_uncorrectable_errors_total"),
];
/// Errors that cannot be told to be of a row.
const UNKNOWN_ROW: [Attribute; 2] = [
    attribute("ce_noinfo_count", "node_edac_csrow_correctable_errors_total"),
    attribute("ue_noinfo_count", "node_edac_csrow_uncorrectable_errors_total"),
];
const ROW: [Attribute; 2] = [
    attribute("ce_count", "node_edac_csrow_correctable_errors_total"),
    attribute("ue_count", "node_edac_csrow_uncorrectable_errors_total"),
];

pub struct MemoryErrors {
    path: PathBuf,
}

impl MemoryErrors {
    pub fn new(options: &HostOptions) -> Self {
        MemoryErrors { path: options.sysfs.join("devices/system/edac/mc") }
    }
}

impl Collect for MemoryErrors {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // A machine without error correction is no failure, as with
        // node_exporter.
        let Ok(controllers) = Directory::open(&self.path) else { return Ok(()) };
        for name in controllers.names() {
            let Some(number) = numbered(&name, "mc") else { continue };
            let Some(controller) = controllers.inside(&name) else { continue };
            push_attributes(cycle, buffer, &controller, &CONTROLLER, &[("controller", number)])?;
            let labels = [("controller", number), ("csrow", "unknown")];
            push_attributes(cycle, buffer, &controller, &UNKNOWN_ROW, &labels)?;
            for name in controller.names() {
                let Some(row_number) = numbered(&name, "csrow") else { continue };
                let Some(row) = controller.inside(&name) else { continue };
                let labels = [("controller", number), ("csrow", row_number)];
                push_attributes(cycle, buffer, &row, &ROW, &labels)?;
                push_channels(cycle, buffer, &row, &labels)?;
            }
        }
        Ok(())
    }
}

fn push_channels(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    row: &Directory,
    row_labels: &[(&str, &str); 2],
) -> Result<(), Error> {
    for file in row.names() {
        let Some((channel, count)) = file.strip_prefix("ch").and_then(|rest| rest.split_once('_')) else {
            continue;
        };
        let name = match count {
            "ce_count" => "node_edac_channel_correctable_errors_total",
            "ue_count" => "node_edac_channel_uncorrectable_errors_total",
            _ => continue,
        };
        let Some(value) = row.number(&file, buffer) else { continue };
        let label = row.text(&format!("ch{channel}_dimm_label"), buffer);
        let label = label.map_or_else(|| "unknown".to_owned(), |label| dimm_label(&label));
        let [controller, csrow] = *row_labels;
        push(cycle, name, &[controller, csrow, ("channel", channel), ("dimm_label", &label)], value)?;
    }
    Ok(())
}

/// `mc#0csrow#1channel#0` as node_exporter writes it: `mc0_csrow1_channel0`.
fn dimm_label(label: &str) -> String {
    label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}

fn numbered<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}
