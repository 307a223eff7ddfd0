//! CPUs in their cores and packages: throttling by heat, and CPUs that the
//! scheduler leaves alone. Part of the collector `cpu`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::frequency::cpu_number;
use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

/// CPU numbers beyond this are taken for garbage; Linux is built for at most
/// 8,192.
const CPU_COUNT_MAX: usize = 16_384;

pub struct CpuTopology {
    path: PathBuf,
}

impl CpuTopology {
    pub fn new(options: &HostOptions) -> Self {
        CpuTopology { path: options.sysfs.join("devices/system/cpu") }
    }
}

impl Collect for CpuTopology {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let Ok(cpus) = Directory::open(&self.path) else { return Ok(()) };
        push_throttles(cycle, buffer, &cpus)?;
        let Some(isolated) = cpus.text("isolated", buffer) else { return Ok(()) };
        for cpu in parse_list(&isolated) {
            push(cycle, "node_cpu_isolated", &[("cpu", &cpu.to_string())], 1.0)?;
        }
        Ok(())
    }
}

/// Threads of a core, and cores of a package, all show the same counter.
fn push_throttles(cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>, cpus: &Directory) -> Result<(), Error> {
    let mut cores = BTreeMap::new();
    let mut packages = BTreeMap::new();
    for name in cpus.names() {
        let Some(cpu) = cpu_number(&name).and_then(|_| cpus.inside(&name)) else { continue };
        // Absent in virtual machines.
        let Some(core_count) = cpu.number("thermal_throttle/core_throttle_count", buffer) else { continue };
        let package = cpu.number("topology/physical_package_id", buffer);
        let core = cpu.number("topology/core_id", buffer);
        let (Some(package), Some(core)) = (package, core) else { continue };
        cores.entry((package as i64, core as i64)).or_insert(core_count);
        if let Some(count) = cpu.number("thermal_throttle/package_throttle_count", buffer) {
            packages.entry(package as i64).or_insert(count);
        }
    }
    for ((package, core), count) in cores {
        let (package, core) = (package.to_string(), core.to_string());
        push(cycle, "node_cpu_core_throttles_total", &[("core", &core), ("package", &package)], count)?;
    }
    for (package, count) in packages {
        push(cycle, "node_cpu_package_throttles_total", &[("package", &package.to_string())], count)?;
    }
    Ok(())
}

/// The numbers of a list such as `1,3-5,9`; what is not of that form is left
/// out.
fn parse_list(list: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<usize>()) else { continue };
        numbers.extend((first..=last.min(CPU_COUNT_MAX)).take(CPU_COUNT_MAX - numbers.len()));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_list("1,3-5,9"), [1, 3, 4, 5, 9]);
        assert!(parse_list("").is_empty());
        assert!(parse_list("x,7-,-3").is_empty());
        assert_eq!(parse_list("0-18446744073709551615,0-9").len(), CPU_COUNT_MAX);
    }
}
