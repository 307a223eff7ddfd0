//! `/proc/net/rpc/nfs`: what this host asks of NFS servers.

use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

use super::rpc_stats::{Column, Methods, RpcStats, VERSION_2, VERSION_3};

const COLUMNS: [Column; 6] = [
    Column { line: b"net", at: 1, name: "node_nfs_packets_total", labels: &[("protocol", "udp")] },
    Column { line: b"net", at: 2, name: "node_nfs_packets_total", labels: &[("protocol", "tcp")] },
    Column { line: b"net", at: 3, name: "node_nfs_connections_total", labels: &[] },
    Column { line: b"rpc", at: 0, name: "node_nfs_rpcs_total", labels: &[] },
    Column { line: b"rpc", at: 1, name: "node_nfs_rpc_retransmissions_total", labels: &[] },
    Column { line: b"rpc", at: 2, name: "node_nfs_rpc_authentication_refreshes_total", labels: &[] },
];

const METHODS: [Methods; 3] = [
    Methods { line: b"proc2", proto: "2", names: &VERSION_2 },
    Methods { line: b"proc3", proto: "3", names: &VERSION_3 },
    Methods { line: b"proc4", proto: "4", names: &VERSION_4 },
];

/// The kernel's own numbers, in the order that node_exporter reads them.
const VERSION_4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

pub struct Nfs {
    stats: RpcStats,
}

impl Nfs {
    pub fn new(options: &HostOptions) -> Self {
        let file = KernelFile::new(&options.procfs, "net/rpc/nfs");
        Nfs { stats: RpcStats::new(file, &COLUMNS, ("node_nfs_requests_total", &METHODS)) }
    }
}

impl Collect for Nfs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.stats.push_all(cycle, buffer)
    }
}
