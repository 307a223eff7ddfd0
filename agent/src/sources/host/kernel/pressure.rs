//! `/proc/pressure/*`: time that tasks waited for CPU, disk, memory.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::{KernelFile, Malformed, number, words};
use crate::sources::host::{Error, HostOptions};

/// Pressure is an optional part of the kernel: where it is not built in or
/// not switched on, this collector fails and says which file.
pub struct Pressure {
    cpu: (KernelFile, FixedSeries<1>),
    io: (KernelFile, FixedSeries<2>),
    memory: (KernelFile, FixedSeries<2>),
    irq: (KernelFile, FixedSeries<1>),
}

impl Pressure {
    pub fn new(options: &HostOptions) -> Self {
        let file = |name| KernelFile::new(&options.procfs, name);
        let io = ["node_pressure_io_waiting_seconds_total", "node_pressure_io_stalled_seconds_total"];
        let memory =
            ["node_pressure_memory_waiting_seconds_total", "node_pressure_memory_stalled_seconds_total"];
        Pressure {
            cpu: (file("pressure/cpu"), FixedSeries::new(["node_pressure_cpu_waiting_seconds_total"])),
            io: (file("pressure/io"), FixedSeries::new(io)),
            memory: (file("pressure/memory"), FixedSeries::new(memory)),
            irq: (file("pressure/irq"), FixedSeries::new(["node_pressure_irq_stalled_seconds_total"])),
        }
    }
}

impl Collect for Pressure {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let (file, series) = &mut self.cpu;
        file.read(buffer)?;
        series.push(cycle, [total(file, buffer, b"some")?])?;
        for (file, series) in [&mut self.io, &mut self.memory] {
            file.read(buffer)?;
            series.push(cycle, [total(file, buffer, b"some")?, total(file, buffer, b"full")?])?;
        }
        let (file, series) = &mut self.irq;
        // Absent before Linux 6.1, and without interrupt accounting.
        match file.read_if_there(buffer)? {
            true => series.push(cycle, [total(file, buffer, b"full")?]),
            false => Ok(()),
        }
    }
}

/// The seconds of the line that begins with `kind`.
fn total(file: &KernelFile, bytes: &[u8], kind: &[u8]) -> Result<f64, Error> {
    let line = bytes.split(|byte| *byte == b'\n').find(|line| words(line).next() == Some(kind));
    let total = line.and_then(|line| words(line).find_map(|word| word.strip_prefix(b"total=")));
    match total.and_then(number) {
        // Twice by a thousand, which rounds as node_exporter does.
        Some(micros) => Ok(micros as f64 / 1000.0 / 1000.0),
        None => Err(file.malformed(Malformed { line: 0, reason: "lacks a total" })),
    }
}
