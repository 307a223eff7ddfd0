//! `/proc/net/tcp` and `tcp6`: TCP connections by state.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

use super::sockets::{Socket, each_socket};

/// By the kernel's number, less one (`include/net/tcp_states.h`); then the sums
/// of what waits.
const STATES: [&str; 13] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "rx_queued_bytes",
    "tx_queued_bytes",
];
const RECEIVE_QUEUED: usize = 11;
const TRANSMIT_QUEUED: usize = 12;

pub struct TcpStat {
    version4: KernelFile,
    version6: KernelFile,
    series: SeriesCache<SeriesIndex>,
}

impl TcpStat {
    pub fn new(options: &HostOptions) -> Self {
        TcpStat {
            version4: KernelFile::new(&options.procfs, "net/tcp"),
            version6: KernelFile::new(&options.procfs, "net/tcp6"),
            series: SeriesCache::default(),
        }
    }
}

impl Collect for TcpStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut sums = [0.0; STATES.len()];
        let mut sum = |socket: Socket| {
            let state = (socket.state as usize).wrapping_sub(1);
            // A state of a newer kernel has no name.
            if state < RECEIVE_QUEUED {
                sums[state] += 1.0;
            }
            sums[RECEIVE_QUEUED] += socket.receive_queue as f64;
            sums[TRANSMIT_QUEUED] += socket.transmit_queue as f64;
        };
        self.version4.read(buffer)?;
        each_socket(buffer, &mut sum).map_err(|malformed| self.version4.malformed(malformed))?;
        // Absent where the kernel has no IPv6.
        if self.version6.read_if_there(buffer)? {
            each_socket(buffer, &mut sum).map_err(|malformed| self.version6.malformed(malformed))?;
        }
        for (at, (name, sum)) in STATES.iter().zip(sums).enumerate() {
            // As node_exporter: states that nobody is in are left out.
            if sum > 0.0 || at >= RECEIVE_QUEUED {
                let series = self.series.get_or_make(name.as_bytes(), |name| {
                    cycle.series("node_tcp_connection_states", &[("state", name)])
                })?;
                cycle.push(series, sum);
            }
        }
        Ok(())
    }
}
