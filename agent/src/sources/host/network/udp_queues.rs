//! `/proc/net/udp` and `udp6`: bytes that wait in UDP sockets.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

use super::sockets::{Socket, each_socket};

pub struct UdpQueues {
    versions: [(&'static str, KernelFile); 2],
    /// Transmit and receive, by version.
    series: SeriesCache<[SeriesIndex; 2]>,
}

impl UdpQueues {
    pub fn new(options: &HostOptions) -> Self {
        let file = |name| KernelFile::new(&options.procfs, name);
        UdpQueues {
            versions: [("v4", file("net/udp")), ("v6", file("net/udp6"))],
            series: SeriesCache::default(),
        }
    }
}

impl Collect for UdpQueues {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (version, file) in &self.versions {
            // Absent where the kernel lacks that version of the protocol.
            if !file.read_if_there(buffer)? {
                continue;
            }
            let (mut transmit, mut receive) = (0.0, 0.0);
            let sum = |socket: Socket| {
                transmit += socket.transmit_queue as f64;
                receive += socket.receive_queue as f64;
            };
            each_socket(buffer, sum).map_err(|malformed| file.malformed(malformed))?;
            let series = self.series.get_or_make(version.as_bytes(), |_| {
                let mut queue = |queue| cycle.series("node_udp_queues", &[("ip", version), ("queue", queue)]);
                Ok([queue("tx")?, queue("rx")?])
            })?;
            cycle.push(series[0], transmit);
            cycle.push(series[1], receive);
        }
        Ok(())
    }
}
