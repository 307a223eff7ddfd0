//! `/proc/net/rpc/nfsd`: what this host's NFS server is asked.

use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

use super::rpc_stats::{Column, Methods, RpcStats, VERSION_2, VERSION_3};

const REQUESTS: &str = "node_nfsd_requests_total";

const COLUMNS: [Column; 17] = [
    column(b"rc", 0, "node_nfsd_reply_cache_hits_total", &[]),
    column(b"rc", 1, "node_nfsd_reply_cache_misses_total", &[]),
    column(b"rc", 2, "node_nfsd_reply_cache_nocache_total", &[]),
    column(b"fh", 0, "node_nfsd_file_handles_stale_total", &[]),
    column(b"io", 0, "node_nfsd_disk_bytes_read_total", &[]),
    column(b"io", 1, "node_nfsd_disk_bytes_written_total", &[]),
    column(b"th", 0, "node_nfsd_server_threads", &[]),
    column(b"ra", 0, "node_nfsd_read_ahead_cache_size_blocks", &[]),
    column(b"ra", 11, "node_nfsd_read_ahead_cache_not_found_total", &[]),
    column(b"net", 1, "node_nfsd_packets_total", &[("proto", "udp")]),
    column(b"net", 2, "node_nfsd_packets_total", &[("proto", "tcp")]),
    column(b"net", 3, "node_nfsd_connections_total", &[]),
    column(b"rpc", 0, "node_nfsd_server_rpcs_total", &[]),
    column(b"rpc", 2, "node_nfsd_rpc_errors_total", &[("error", "fmt")]),
    column(b"rpc", 3, "node_nfsd_rpc_errors_total", &[("error", "auth")]),
    column(b"rpc", 4, "node_nfsd_rpc_errors_total", &[("error", "cInt")]),
    column(b"wdeleg_getattr", 0, REQUESTS, &[("proto", "4"), ("method", "WdelegGetattr")]),
];

const fn column(
    line: &'static [u8],
    at: usize,
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
) -> Column {
    Column { line, at, name, labels }
}

const METHODS: [Methods; 3] = [
    Methods { line: b"proc2", proto: "2", names: &without_null(VERSION_2) },
    Methods { line: b"proc3", proto: "3", names: &without_null(VERSION_3) },
    Methods { line: b"proc4ops", proto: "4", names: &VERSION_4 },
];

/// node_exporter does not show it of a server.
const fn without_null<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names[0] = "";
    names
}

/// Operations in the order of their numbers (RFC 7530), those that
/// node_exporter does not show left empty.
const VERSION_4: [&str; 40] = [
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];

pub struct Nfsd {
    stats: RpcStats,
}

impl Nfsd {
    pub fn new(options: &HostOptions) -> Self {
        let file = KernelFile::new(&options.procfs, "net/rpc/nfsd");
        Nfsd { stats: RpcStats::new(file, &COLUMNS, (REQUESTS, &METHODS)) }
    }
}

impl Collect for Nfsd {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.stats.push_all(cycle, buffer)
    }
}
