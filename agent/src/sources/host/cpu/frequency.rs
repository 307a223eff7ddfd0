//! Clock frequencies of CPUs: `/sys/devices/system/cpu/cpu*/cpufreq`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Attribute, Unit, attribute_in, push, push_attributes};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

/// The kernel counts kHz.
const KILO: Unit = Unit::Times(1000.0);

const ATTRIBUTES: [Attribute; 6] = [
    attribute_in("cpuinfo_cur_freq", "node_cpu_frequency_hertz", KILO),
    attribute_in("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", KILO),
    attribute_in("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", KILO),
    attribute_in("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", KILO),
    attribute_in("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", KILO),
    attribute_in("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", KILO),
];

/// Governors of one CPU beyond these are left out; Linux has seven.
const GOVERNOR_COUNT_MAX: usize = 16;

pub struct CpuFrequencies {
    path: PathBuf,
}

impl CpuFrequencies {
    pub fn new(options: &HostOptions) -> Self {
        CpuFrequencies { path: options.sysfs.join("devices/system/cpu") }
    }
}

impl Collect for CpuFrequencies {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // CPUs without frequencies (virtual machines) are no failure.
        let Ok(cpus) = Directory::open(&self.path) else { return Ok(()) };
        for name in cpus.names() {
            let Some(number) = cpu_number(&name) else { continue };
            let Some(cpu) = cpus.inside(&format!("{name}/cpufreq")) else { continue };
            push_attributes(cycle, buffer, &cpu, &ATTRIBUTES, &[("cpu", number)])?;
            push_governors(cycle, buffer, &cpu, number)?;
        }
        Ok(())
    }
}

fn push_governors(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    cpu: &Directory,
    number: &str,
) -> Result<(), Error> {
    let Some(current) = cpu.text("scaling_governor", buffer).map(String::from) else { return Ok(()) };
    let Some(available) = cpu.text("scaling_available_governors", buffer) else { return Ok(()) };
    for governor in available.split_ascii_whitespace().take(GOVERNOR_COUNT_MAX) {
        let value = f64::from(u8::from(governor == current));
        push(cycle, "node_cpu_scaling_governor", &[("cpu", number), ("governor", governor)], value)?;
    }
    Ok(())
}

/// `7` of `cpu7`; other entries of the directory are not CPUs.
pub fn cpu_number(name: &str) -> Option<&str> {
    let number = name.strip_prefix("cpu")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}
