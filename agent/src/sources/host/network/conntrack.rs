//! Tracked connections: `/proc/sys/net/netfilter` and `/proc/net/stat/nf_conntrack`.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

use super::lnstat::each_count;

pub struct ConnTrack {
    entries: KernelFile,
    limit: KernelFile,
    counters: KernelFile,
    table: FixedSeries<2>,
    sums: FixedSeries<8>,
}

/// Columns that are shown, summed over all CPUs.
const COLUMNS: [&[u8]; 8] =
    [b"found", b"invalid", b"ignore", b"insert", b"insert_failed", b"drop", b"early_drop", b"search_restart"];

impl ConnTrack {
    pub fn new(options: &HostOptions) -> Self {
        let file = |name| KernelFile::new(&options.procfs, name);
        let sums = [
            "node_nf_conntrack_stat_found",
            "node_nf_conntrack_stat_invalid",
            "node_nf_conntrack_stat_ignore",
            "node_nf_conntrack_stat_insert",
            "node_nf_conntrack_stat_insert_failed",
            "node_nf_conntrack_stat_drop",
            "node_nf_conntrack_stat_early_drop",
            "node_nf_conntrack_stat_search_restart",
        ];
        ConnTrack {
            entries: file("sys/net/netfilter/nf_conntrack_count"),
            limit: file("sys/net/netfilter/nf_conntrack_max"),
            counters: file("net/stat/nf_conntrack"),
            table: FixedSeries::new(["node_nf_conntrack_entries", "node_nf_conntrack_entries_limit"]),
            sums: FixedSeries::new(sums),
        }
    }
}

impl Collect for ConnTrack {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let values = [self.entries.read_number(buffer)?, self.limit.read_number(buffer)?];
        self.table.push(cycle, values.map(|value| value as f64))?;
        // Not in every kernel.
        if !self.counters.read_if_there(buffer)? {
            return Ok(());
        }
        let mut sums = [0u64; 8];
        let summed = each_count(buffer, |_, column, value| {
            if let Some(at) = COLUMNS.iter().position(|name| *name == column) {
                sums[at] = sums[at].saturating_add(value);
            }
            Ok(())
        });
        summed.map_err(|malformed| self.counters.malformed(malformed))??;
        self.sums.push(cycle, sums.map(|sum| sum as f64))
    }
}
