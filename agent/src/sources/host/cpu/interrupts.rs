//! `/proc/interrupts`: interrupts by CPU and device.

use std::borrow::Cow;

use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::{Error, HostOptions};

use super::table::{CpuTable, Row};

pub struct Interrupts {
    table: CpuTable,
    filter: Filter,
}

impl Interrupts {
    pub fn new(options: &HostOptions) -> Self {
        Interrupts {
            table: CpuTable::new(KernelFile::new(&options.procfs, "interrupts")),
            filter: options.filters.filter("interrupts"),
        }
    }
}

impl Collect for Interrupts {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.table.push_all(cycle, buffer, |cycle, row, cpu| {
            let Some((info, devices)) = describe(row) else { return Ok(None) };
            let name = String::from_utf8_lossy(row.name);
            if !self.filter.shows(format!("{name};{info};{devices}").as_bytes()) {
                return Ok(None);
            }
            let labels = [("cpu", cpu), ("type", &*name), ("info", &*info), ("devices", &*devices)];
            cycle.series("node_interrupts_total", &labels).map(Some)
        })
    }
}

/// What an interrupt is, and the devices that share it: after a number, the
/// first word is the controller's; after a name, all is an explanation.
fn describe<'a>(row: &Row<'a>) -> Option<(Cow<'a, str>, String)> {
    if row.rest.is_empty() {
        return None;
    }
    if number(row.name).is_none() {
        return Some((String::from_utf8_lossy(row.rest), String::new()));
    }
    let mut all = words(row.rest).map(String::from_utf8_lossy);
    let controller = all.next()?;
    Some((controller, all.collect::<Vec<_>>().join(" ")))
}
