//! Batteries and mains: `/sys/class/power_supply`.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, Unit, attribute, attribute_in, push_attributes, push_info, read_texts, text,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::filter::Filter;
use crate::sources::host::{Error, HostOptions};

/// The kernel counts µA, µV, µAh, µWh and µW.
const MICRO: Unit = Unit::Over(1e6);
/// The kernel counts tenths of a degree.
const TENTHS: Unit = Unit::Over(10.0);

const ATTRIBUTES: [Attribute; 49] = [
    attribute("authentic", "node_power_supply_authentic"),
    attribute("calibrate", "node_power_supply_calibrate"),
    attribute("capacity", "node_power_supply_capacity"),
    attribute("capacity_alert_max", "node_power_supply_capacity_alert_max"),
    attribute("capacity_alert_min", "node_power_supply_capacity_alert_min"),
    attribute("cycle_count", "node_power_supply_cyclecount"),
    attribute("online", "node_power_supply_online"),
    attribute("present", "node_power_supply_present"),
    attribute("time_to_empty_now", "node_power_supply_time_to_empty_seconds"),
    attribute("time_to_full_now", "node_power_supply_time_to_full_seconds"),
    attribute_in("current_boot", "node_power_supply_current_boot", MICRO),
    attribute_in("current_max", "node_power_supply_current_max", MICRO),
    attribute_in("current_now", "node_power_supply_current_ampere", MICRO),
    attribute_in("energy_empty", "node_power_supply_energy_empty", MICRO),
    attribute_in("energy_empty_design", "node_power_supply_energy_empty_design", MICRO),
    attribute_in("energy_full", "node_power_supply_energy_full", MICRO),
    attribute_in("energy_full_design", "node_power_supply_energy_full_design", MICRO),
    attribute_in("energy_now", "node_power_supply_energy_watthour", MICRO),
    attribute_in("voltage_boot", "node_power_supply_voltage_boot", MICRO),
    attribute_in("voltage_max", "node_power_supply_voltage_max", MICRO),
    attribute_in("voltage_max_design", "node_power_supply_voltage_max_design", MICRO),
    attribute_in("voltage_min", "node_power_supply_voltage_min", MICRO),
    attribute_in("voltage_min_design", "node_power_supply_voltage_min_design", MICRO),
    attribute_in("voltage_now", "node_power_supply_voltage_volt", MICRO),
    attribute_in("voltage_ocv", "node_power_supply_voltage_ocv", MICRO),
    attribute_in("charge_control_limit", "node_power_supply_charge_control_limit", MICRO),
    attribute_in("charge_control_limit_max", "node_power_supply_charge_control_limit_max", MICRO),
    attribute_in("charge_counter", "node_power_supply_charge_counter", MICRO),
    attribute_in("charge_empty", "node_power_supply_charge_empty", MICRO),
    attribute_in("charge_empty_design", "node_power_supply_charge_empty_design", MICRO),
    attribute_in("charge_full", "node_power_supply_charge_full", MICRO),
    attribute_in("charge_full_design", "node_power_supply_charge_full_design", MICRO),
    attribute_in("charge_now", "node_power_supply_charge_ampere", MICRO),
    attribute_in("charge_term_current", "node_power_supply_charge_term_current", MICRO),
    attribute_in("constant_charge_current", "node_power_supply_constant_charge_current", MICRO),
    attribute_in("constant_charge_current_max", "node_power_supply_constant_charge_current_max", MICRO),
    attribute_in("constant_charge_voltage", "node_power_supply_constant_charge_voltage", MICRO),
    attribute_in("constant_charge_voltage_max", "node_power_supply_constant_charge_voltage_max", MICRO),
    attribute_in("precharge_current", "node_power_supply_precharge_current", MICRO),
    attribute_in("input_current_limit", "node_power_supply_input_current_limit", MICRO),
    attribute_in("power_now", "node_power_supply_power_watt", MICRO),
    attribute_in("temp", "node_power_supply_temp_celsius", TENTHS),
    attribute_in("temp_alert_max", "node_power_supply_temp_alert_max_celsius", TENTHS),
    attribute_in("temp_alert_min", "node_power_supply_temp_alert_min_celsius", TENTHS),
    attribute_in("temp_ambient", "node_power_supply_temp_ambient_celsius", TENTHS),
    attribute_in("temp_ambient_alert_max", "node_power_supply_temp_ambient_max_celsius", TENTHS),
    attribute_in("temp_ambient_alert_min", "node_power_supply_temp_ambient_min_celsius", TENTHS),
    attribute_in("temp_max", "node_power_supply_temp_max_celsius", TENTHS),
    attribute_in("temp_min", "node_power_supply_temp_min_celsius", TENTHS),
];

/// Labels of `node_power_supply_info`, each from the file of its name.
const TEXTS: [Text; 11] = [
    text("capacity_level"),
    text("charge_type"),
    text("health"),
    text("manufacturer"),
    text("model_name"),
    text("scope"),
    text("serial_number"),
    text("status"),
    text("technology"),
    text("type"),
    text("usb_type"),
];

pub struct PowerSupplies {
    path: PathBuf,
    supplies: Filter,
}

impl PowerSupplies {
    pub fn new(options: &HostOptions) -> Self {
        PowerSupplies {
            path: options.sysfs.join("class/power_supply"),
            supplies: options.filters.filter("powersupplyclass"),
        }
    }
}

impl Collect for PowerSupplies {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            if !self.supplies.shows(name.as_bytes()) {
                continue;
            }
            let Some(supply) = class.inside(&name) else { continue };
            push_attributes(cycle, buffer, &supply, &ATTRIBUTES, &[("power_supply", &name)])?;
            let texts = read_texts(buffer, &supply, &TEXTS);
            push_info(cycle, "node_power_supply_info", &[("power_supply", &name)], &texts)?;
        }
        Ok(())
    }
}
