//! `/proc/net/dev`: bytes, packets and errors of each network device, and from
//! sysfs the packets that nobody wanted.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, Malformed, lines, number, numbers, words};
use crate::sources::host::tree::Tree;
use crate::sources::host::{Error, HostOptions};

/// Columns in the kernel's order, received before transmitted.
const NAMES: [&str; 16] = [
    "node_network_receive_bytes_total",
    "node_network_receive_packets_total",
    "node_network_receive_errs_total",
    "node_network_receive_drop_total",
    "node_network_receive_fifo_total",
    "node_network_receive_frame_total",
    "node_network_receive_compressed_total",
    "node_network_receive_multicast_total",
    "node_network_transmit_bytes_total",
    "node_network_transmit_packets_total",
    "node_network_transmit_errs_total",
    "node_network_transmit_drop_total",
    "node_network_transmit_fifo_total",
    "node_network_transmit_colls_total",
    "node_network_transmit_carrier_total",
    "node_network_transmit_compressed_total",
];

const NOHANDLER: &str = "node_network_receive_nohandler_total";

/// The two lines above the devices.
const HEADER_LINES: usize = 2;

type DeviceSeries = ([SeriesIndex; 16], SeriesIndex);

pub struct NetDev {
    file: KernelFile,
    filter: Filter,
    tree: Tree,
    series: SeriesCache<DeviceSeries>,
    value: Vec<u8>,
}

impl NetDev {
    pub fn new(options: &HostOptions) -> Self {
        NetDev {
            file: KernelFile::new(&options.procfs, "net/dev"),
            filter: options.filters.filter("netdev"),
            tree: Tree::new(&options.sysfs),
            series: SeriesCache::default(),
            value: Vec::new(),
        }
    }
}

impl Collect for NetDev {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let lines = lines(buffer).map_err(|malformed| self.file.malformed(malformed))?;
        let mut line_count = 0;
        for (line, text) in lines {
            line_count = line;
            if line <= HEADER_LINES {
                continue;
            }
            let (device, values) = parse_device(line, text).map_err(|m| self.file.malformed(m))?;
            if !self.filter.shows(device) {
                continue;
            }
            let (series, nohandler) = self.series.get_or_make(device, |device| {
                let labels = [("device", device)];
                Ok((cycle.series_each(NAMES, &labels)?, cycle.series(NOHANDLER, &labels)?))
            })?;
            for (series, value) in series.into_iter().zip(values) {
                cycle.push(series, value as f64);
            }
            // Absent before Linux 4.6, and when the device went meanwhile.
            let parts = [&b"class/net"[..], device, b"statistics/rx_nohandler"];
            if let Some(value) = self.tree.read_if_there(&parts, &mut self.value)?.and_then(number) {
                cycle.push(nohandler, value as f64);
            }
        }
        match line_count >= HEADER_LINES {
            true => Ok(()),
            false => Err(self.file.malformed(Malformed { line: 0, reason: "lacks its header" })),
        }
    }
}

fn parse_device(line: usize, text: &[u8]) -> Result<(&[u8], [u64; 16]), Malformed> {
    let malformed = Malformed { line, reason: "is not a device and 16 counts" };
    // The name ends at the last colon: an alias (`eth0:1`) has one inside.
    let colon = text.iter().rposition(|byte| *byte == b':').ok_or(malformed)?;
    let (device, counts) = text.split_at(colon);
    let mut values = [0; 16];
    let device = device.trim_ascii();
    match numbers(words(&counts[1..]), &mut values) {
        Some(16) if !device.is_empty() => Ok((device, values)),
        _ => Err(malformed),
    }
}
