//! Thermal zones and the devices that cool them: `/sys/class/thermal`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Attribute, Unit, attribute, attribute_in, push_attributes};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::filter::Filter;
use crate::sources::host::{Error, HostOptions};

const ZONE: [Attribute; 1] = [attribute_in("temp", "node_thermal_zone_temp", Unit::Over(1000.0))];
const COOLING: [Attribute; 2] = [
    attribute("cur_state", "node_cooling_device_cur_state"),
    attribute("max_state", "node_cooling_device_max_state"),
];

pub struct ThermalZones {
    path: PathBuf,
    types: Filter,
}

impl ThermalZones {
    pub fn new(options: &HostOptions) -> Self {
        ThermalZones {
            path: options.sysfs.join("class/thermal"),
            types: options.filters.filter("thermal_zone"),
        }
    }
}

impl Collect for ThermalZones {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // A machine without any is no failure, as with node_exporter.
        let Ok(class) = Directory::open(&self.path) else { return Ok(()) };
        for name in class.names() {
            let (number, label, attributes) = match name.strip_prefix("thermal_zone") {
                Some(number) => (number, "zone", &ZONE[..]),
                None => match name.strip_prefix("cooling_device") {
                    Some(number) => (number, "name", &COOLING[..]),
                    None => continue,
                },
            };
            let Some(device) = class.inside(&name) else { continue };
            let Some(kind) = device.text("type", buffer).map(String::from) else { continue };
            if !self.types.shows(kind.as_bytes()) {
                continue;
            }
            let labels = [(label, number), ("type", &kind)];
            push_attributes(cycle, buffer, &device, attributes, &labels)?;
        }
        Ok(())
    }
}
