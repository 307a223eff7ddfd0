//! Sensors: `/sys/class/hwmon`.
//!
//! A chip is a directory of files named `<sensor>_<property>`, such as
//! `temp1_input` and `temp1_max`. What it is called must not depend on the
//! order in which drivers were loaded, so it is named after its device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::sources::host::attribute::{Unit, push};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::{Directory, parse_number};
use crate::sources::host::filter::Filter;
use crate::sources::host::{Error, HostOptions};

const SENSOR_TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

const MILLI: Unit = Unit::Times(0.001);
const MICRO: Unit = Unit::Over(1e6);

pub struct Hwmon {
    path: PathBuf,
    chips: Filter,
    sensors: Filter,
}

impl Hwmon {
    pub fn new(options: &HostOptions) -> Self {
        Hwmon {
            path: options.sysfs.join("class/hwmon"),
            chips: options.filters.filter("hwmon_chips"),
            sensors: options.filters.filter("hwmon_sensors"),
        }
    }
}

impl Collect for Hwmon {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for entry in class.names() {
            let Some(directory) = class.inside(&entry) else { continue };
            let label = directory.text("name", buffer).map(String::from);
            let Some(chip) = chip_name(&self.path.join(&entry), &directory, label.as_deref()) else {
                continue;
            };
            if !self.chips.shows(chip.as_bytes()) {
                continue;
            }
            if let Some(label) = label.as_deref().map(clean).filter(|label| !label.is_empty()) {
                push(cycle, "node_hwmon_chip_names", &[("chip", &chip), ("chip_name", &label)], 1.0)?;
            }
            // A driver of before 2014 has its files beside the device's.
            let mut sensors = Sensors::default();
            read_sensors(&directory, buffer, &mut sensors);
            if let Some(device) = directory.inside("device") {
                read_sensors(&device, buffer, &mut sensors);
            }
            for ((kind, number), properties) in &sensors {
                let sensor = format!("{kind}{number}");
                if self.sensors.shows(format!("{chip};{sensor}").as_bytes()) {
                    push_sensor(cycle, &chip, kind, &sensor, properties)?;
                }
            }
        }
        Ok(())
    }
}

/// Property to contents, by the type and number of the sensor.
type Sensors = BTreeMap<(&'static str, u64), BTreeMap<String, String>>;

/// The device's name and, when it is not the only chip of its device, its own:
/// `platform_coretemp_0`. A chip without a device is called by its own name.
fn chip_name(path: &Path, chip: &Directory, own: Option<&str>) -> Option<String> {
    let own = own.map(clean).filter(|own| !own.is_empty());
    if let Ok(device) = path.join("device").canonicalize() {
        let component = |path: Option<&Path>| {
            path.and_then(Path::file_name).map(|name| clean(&name.to_string_lossy())).unwrap_or_default()
        };
        let mut parts = vec![component(device.parent()), component(Some(&device))];
        let is_one_of_several = chip.inside("device/hwmon").is_some_and(|chips| chips.names().len() > 1);
        parts.extend(own.clone().filter(|_| is_one_of_several));
        parts.retain(|part| !part.is_empty());
        if !parts.is_empty() {
            return Some(parts.join("_"));
        }
    }
    own.or_else(|| {
        let real = path.canonicalize().ok()?;
        Some(clean(&real.file_name()?.to_string_lossy())).filter(|name| !name.is_empty())
    })
}

/// As node_exporter makes names of texts: lower case, digits, `:` and `_`.
fn clean(text: &str) -> String {
    let lower = text.trim_end_matches('\n').to_lowercase();
    let keep = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' { c } else { '_' };
    lower.chars().map(keep).collect::<String>().trim_matches('_').to_owned()
}

fn read_sensors(directory: &Directory, buffer: &mut Vec<u8>, sensors: &mut Sensors) {
    for file in directory.names() {
        let Some((kind, number, property)) = parse_file_name(&file) else { continue };
        let Some(text) = directory.text(&file, buffer) else { continue };
        let properties = sensors.entry((kind, number)).or_default();
        properties.insert(property.to_owned(), text.into_owned());
    }
}

/// `temp`, 1 and `crit` of `temp1_crit`. A sensor without a number is 0.
fn parse_file_name(file: &str) -> Option<(&'static str, u64, &str)> {
    let digits_at = file.find(|c: char| c.is_ascii_digit()).unwrap_or(file.len());
    let (kind, rest) = file.split_at(digits_at);
    let kind = SENSOR_TYPES.into_iter().find(|known| *known == kind)?;
    let property_at = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, property) = rest.split_at(property_at);
    let number = if number.is_empty() { 0 } else { number.parse().ok()? };
    let property = if property.is_empty() { property } else { property.strip_prefix('_')? };
    Some((kind, number, property))
}

fn push_sensor(
    cycle: &mut Cycle<'_>,
    chip: &str,
    kind: &str,
    sensor: &str,
    properties: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let labels = [("chip", chip), ("sensor", sensor)];
    if let Some(label) = properties.get("label") {
        push(cycle, "node_hwmon_sensor_label", &[labels[0], labels[1], ("label", label)], 1.0)?;
    }
    for (property, text) in properties {
        if property == "label" {
            continue;
        }
        let Some(value) = parse_number(text.as_bytes()) else { continue };
        if kind == "freq" && property == "input" {
            // GPUs name their clocks, and only those are shown.
            let Some(label) = properties.get("label") else { continue };
            let labels = [labels[0], ("sensor", &clean(label)[..])];
            push(cycle, "node_hwmon_freq_freq_mhz", &labels, value / 1e6)?;
            continue;
        }
        let has_plain = properties.contains_key("");
        let (name, unit) = metric(kind, property, has_plain);
        push(cycle, &name, &labels, unit.convert(value))?;
    }
    Ok(())
}

/// The metric of a property, and what turns the kernel's unit into its.
/// `has_plain`: the sensor has a file without a property too, so that
/// `input` needs a name of its own.
fn metric(kind: &str, property: &str, has_plain: bool) -> (String, Unit) {
    match kind {
        "beep_enable" => return ("node_hwmon_beep_enabled".to_owned(), Unit::Same),
        "vrm" => return ("node_hwmon_voltage_regulator_version".to_owned(), Unit::Same),
        "update_interval" => return ("node_hwmon_update_interval_seconds".to_owned(), MILLI),
        _ => {}
    }
    let name = match property {
        "" => String::new(),
        "input" if !has_plain => String::new(),
        property => format!("_{}", clean(property)),
    };
    let (suffix, unit) = match (kind, property) {
        (_, "fault" | "alarm") => ("", Unit::Same),
        (_, "beep") => ("_enabled", Unit::Same),
        ("in" | "cpu", _) => ("_volts", MILLI),
        ("temp", "type") => ("", Unit::Same),
        ("temp", _) => ("_celsius", MILLI),
        ("curr", _) => ("_amps", MILLI),
        ("energy", _) => ("_joule_total", MICRO),
        ("power", "accuracy") => ("", MICRO),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", MILLI)
        }
        ("power", _) => ("_watt", MICRO),
        ("humidity", _) => ("", MICRO),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", Unit::Same),
        _ => ("", Unit::Same),
    };
    (format!("node_hwmon_{kind}{name}{suffix}"), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(parse_file_name("temp1_crit_alarm"), Some(("temp", 1, "crit_alarm")));
        assert_eq!(parse_file_name("pwm12"), Some(("pwm", 12, "")));
        assert_eq!(parse_file_name("update_interval"), Some(("update_interval", 0, "")));
        for file in ["name", "device", "temp1x", "bogus1_input", "temp99999999999999999999_input", "in_x", ""]
        {
            assert_eq!(parse_file_name(file), None, "{file}");
        }
    }

    #[test]
    fn metrics_have_the_unit_in_their_name() {
        let check = |kind: &str, property: &str, raw: f64, name: &str, value: f64| {
            let (found, unit) = metric(kind, property, false);
            assert_eq!((&found[..], unit.convert(raw)), (name, value));
        };
        check("temp", "input", 55000.0, "node_hwmon_temp_celsius", 55.0);
        check("temp", "type", 4.0, "node_hwmon_temp_type", 4.0);
        check("power", "average", 5e6, "node_hwmon_power_average_watt", 5.0);
        check("power", "average_interval", 1000.0, "node_hwmon_power_average_interval_seconds", 1.0);
        check("energy", "input", 2e6, "node_hwmon_energy_joule_total", 2.0);
        check("humidity", "input", 5e5, "node_hwmon_humidity", 0.5);
        check("curr", "max", 1500.0, "node_hwmon_curr_max_amps", 1.5);
        check("fan", "div", 2.0, "node_hwmon_fan_div", 2.0);
        check("vrm", "", 9.0, "node_hwmon_voltage_regulator_version", 9.0);
        assert_eq!(metric("pwm", "input", true).0, "node_hwmon_pwm_input");
    }
}
