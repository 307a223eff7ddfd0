//! `/proc/stat`: time of each CPU.

use super::info::CpuInfo;
use super::topology::CpuTopology;
use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, numbers, words};
use crate::sources::host::{Error, HostOptions};

/// Kernel files count CPU time in hundredths of a second (`USER_HZ`, part of
/// the kernel's interface and 100 on every architecture we run on).
pub const USER_HZ: f64 = 100.0;

/// CPU numbers beyond this are taken for garbage; Linux is built for at most
/// 8,192.
const CPU_COUNT_MAX: u64 = 16_384;

/// An idle counter that falls by more than this belongs to a CPU that was
/// unplugged and came back; as node_exporter does.
const IDLE_RESET_TICKS: u64 = 300;

/// Fields of a CPU's line, in the kernel's order; the last two are guests'.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const IDLE: usize = 3;

type Ticks = [u64; 10];

/// The time of each CPU.
pub struct Cpu {
    /// Names the file in errors; the cycle reads it.
    file: KernelFile,
    info: Option<CpuInfo>,
    /// Modes that are shown, in the order of the kernel.
    mode_count: usize,
    /// By CPU number.
    cpus: Vec<Option<OneCpu>>,
    parsed: Vec<(usize, Ticks)>,
    topology: CpuTopology,
}

#[derive(Clone, Copy)]
struct OneCpu {
    series: [SeriesIndex; 10],
    ticks: Ticks,
}

impl Cpu {
    pub fn new(options: &HostOptions) -> Self {
        let mode_count = MODES.len() + if options.cpu_guest { GUEST_MODES.len() } else { 0 };
        Cpu {
            file: KernelFile::new(&options.procfs, "stat"),
            info: options.cpu_info.then(|| CpuInfo::new(options)),
            mode_count,
            cpus: Vec::new(),
            parsed: Vec::new(),
            topology: CpuTopology::new(options),
        }
    }
}

impl Collect for Cpu {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(info) = &mut self.info {
            info.push_all(cycle, buffer)?;
        }
        parse_cpus(cycle.stat()?, &mut self.parsed).map_err(|malformed| self.file.malformed(malformed))?;
        for &(number, ticks) in &self.parsed {
            if number >= self.cpus.len() {
                self.cpus.resize(number + 1, None);
            }
            let cpu = match &mut self.cpus[number] {
                Some(cpu) => cpu,
                none => none
                    .insert(OneCpu { series: cpu_series(cycle, number, self.mode_count)?, ticks: [0; 10] }),
            };
            cpu.ticks = advance(cpu.ticks, ticks);
            let (series, ticks) = (cpu.series, cpu.ticks);
            for (series, ticks) in series.into_iter().zip(ticks).take(self.mode_count) {
                cycle.push(series, ticks as f64 / USER_HZ);
            }
        }
        self.topology.collect(cycle, buffer)
    }
}

fn cpu_series(cycle: &mut Cycle<'_>, number: usize, mode_count: usize) -> Result<[SeriesIndex; 10], Error> {
    let cpu = number.to_string();
    let mut series = [SeriesIndex(0); 10];
    let (own, guests) = series.split_at_mut(MODES.len());
    for (slot, mode) in own.iter_mut().zip(MODES) {
        *slot = cycle.series("node_cpu_seconds_total", &[("cpu", &cpu), ("mode", mode)])?;
    }
    for (slot, mode) in guests.iter_mut().zip(GUEST_MODES).take(mode_count - MODES.len()) {
        *slot = cycle.series("node_cpu_guest_seconds_total", &[("cpu", &cpu), ("mode", mode)])?;
    }
    Ok(series)
}

/// The kernel's idle and iowait counters step back a little now and then, and
/// a rate would take that for a restart: keep the larger, unless the CPU
/// really started over.
fn advance(old: Ticks, new: Ticks) -> Ticks {
    if new[IDLE].saturating_add(IDLE_RESET_TICKS) <= old[IDLE] {
        return new;
    }
    std::array::from_fn(|at| old[at].max(new[at]))
}

fn parse_cpus(bytes: &[u8], cpus: &mut Vec<(usize, Ticks)>) -> Result<(), Malformed> {
    cpus.clear();
    for (line, text) in lines(bytes)? {
        let mut words = words(text);
        let Some(digits) = words.next().and_then(|key| key.strip_prefix(b"cpu")) else { continue };
        if digits.is_empty() {
            continue; // the sum over all CPUs
        }
        let cpu = number(digits).filter(|number| *number < CPU_COUNT_MAX);
        let cpu = cpu.ok_or(Malformed { line, reason: "is not of a CPU" })?;
        // Kernels before 2.6.33 have fewer fields, none fewer than four.
        let mut ticks = [0; 10];
        if numbers(words, &mut ticks).is_none_or(|count| count < 4) {
            return Err(Malformed { line, reason: "is not the time of a CPU" });
        }
        cpus.push((cpu as usize, ticks));
    }
    if cpus.is_empty() {
        return Err(Malformed { line: 0, reason: "names no CPU" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_back_are_hidden_and_replugged_cpus_start_over() {
        let ticks = |user, idle| {
            let mut ticks = [0; 10];
            (ticks[0], ticks[IDLE]) = (user, idle);
            ticks
        };
        assert_eq!(advance(ticks(10, 1000), ticks(11, 999)), ticks(11, 1000));
        assert_eq!(advance(ticks(10, 1000), ticks(9, 701)), ticks(10, 1000));
        assert_eq!(advance(ticks(10, 1000), ticks(0, 700)), ticks(0, 700));
    }
}
