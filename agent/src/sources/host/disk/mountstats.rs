//! `/proc/<pid>/mountstats`: what NFS mounts asked of their servers.
//!
//! Mounts of one export from one address over one protocol share their numbers
//! in the kernel, so those of the first count.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, numbers, words};
use crate::sources::host::{Error, HostOptions};

use super::filesystem::{MOUNT_COUNT_MAX, parse_mount};

/// `age`, then the columns of `bytes`, then those of `events`.
const TOTALS: [&str; 1 + BYTES + EVENTS] = [
    "age_seconds_total",
    "read_bytes_total",
    "write_bytes_total",
    "direct_read_bytes_total",
    "direct_write_bytes_total",
    "total_read_bytes_total",
    "total_write_bytes_total",
    "read_pages_total",
    "write_pages_total",
    "event_inode_revalidate_total",
    "event_dnode_revalidate_total",
    "event_data_invalidate_total",
    "event_attribute_invalidate_total",
    "event_vfs_open_total",
    "event_vfs_lookup_total",
    "event_vfs_access_total",
    "event_vfs_update_page_total",
    "event_vfs_read_page_total",
    "event_vfs_read_pages_total",
    "event_vfs_write_page_total",
    "event_vfs_write_pages_total",
    "event_vfs_getdents_total",
    "event_vfs_setattr_total",
    "event_vfs_flush_total",
    "event_vfs_fsync_total",
    "event_vfs_lock_total",
    "event_vfs_file_release_total",
    // Waits for congestion, which node_exporter leaves out.
    "",
    "event_truncation_total",
    "event_write_extension_total",
    "event_silly_rename_total",
    "event_short_read_total",
    "event_short_write_total",
    "event_jukebox_delay_total",
    "event_pnfs_read_total",
    "event_pnfs_write_total",
];
const BYTES: usize = 8;
const EVENTS: usize = 27;

/// Of a connection, and the columns of `xprt: tcp` and `xprt: udp` that say it.
const TRANSPORT: [(&str, usize, Option<usize>); 10] = [
    ("bind_total", 1, Some(1)),
    ("connect_total", 2, None),
    ("idle_time_seconds", 4, None),
    ("sends_total", 5, Some(2)),
    ("receives_total", 6, Some(3)),
    ("bad_transaction_ids_total", 7, Some(4)),
    ("backlog_queue_total", 9, Some(6)),
    ("maximum_rpc_slots", 10, Some(7)),
    ("sending_queue_total", 11, Some(8)),
    ("pending_queue_total", 12, Some(9)),
];

/// Columns of an operation; the last three are in milliseconds.
const OPERATION: [&str; 8] = [
    "requests_total",
    "transmissions_total",
    "major_timeouts_total",
    "sent_bytes_total",
    "received_bytes_total",
    "queue_time_seconds_total",
    "response_time_seconds_total",
    "request_time_seconds_total",
];
const FIRST_TIME: usize = 5;
/// node_exporter takes times modulo what a float64 counts exactly.
const TIME_MODULUS: u64 = 1 << 53;

pub struct MountStats {
    /// Statistics and table of mounts, of process 1 or, where it is hidden, of
    /// this one.
    places: [(KernelFile, KernelFile); 2],
    mounts: Vec<u8>,
    series: Series,
}

/// By what a label tells apart, each part ended by a line feed.
#[derive(Default)]
struct Series {
    infos: SeriesCache<SeriesIndex>,
    totals: SeriesCache<[SeriesIndex; TOTALS.len()]>,
    transports: SeriesCache<[SeriesIndex; TRANSPORT.len()]>,
    operations: SeriesCache<[SeriesIndex; OPERATION.len()]>,
    key: Vec<u8>,
}

impl MountStats {
    pub fn new(options: &HostOptions) -> Self {
        let place = |pid: &str| {
            let file = |name: &str| KernelFile::new(&options.procfs, &format!("{pid}/{name}"));
            (file("mountstats"), file("mountinfo"))
        };
        MountStats { places: [place("1"), place("self")], mounts: Vec::new(), series: Series::default() }
    }
}

impl Collect for MountStats {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let [(init, init_table), (own, own_table)] = &self.places;
        let (file, table) = match init.read(buffer) {
            Ok(()) => (init, init_table),
            Err(_) => {
                own.read(buffer)?;
                (own, own_table)
            }
        };
        table.read(&mut self.mounts)?;
        let mut mounts = parse(buffer).map_err(|malformed| file.malformed(malformed))?;
        for mount in &mut mounts {
            mount.address = address(&self.mounts, mount).unwrap_or_default();
        }
        for (at, mount) in mounts.iter().enumerate() {
            self.series.push_info(cycle, mount)?;
            if !mounts[..at].iter().any(|earlier| earlier.identity() == mount.identity()) {
                self.series.push_counts(cycle, mount)?;
            }
        }
        Ok(())
    }
}

/// An NFS mount.
struct Mount<'a> {
    export: &'a [u8],
    mount_point: &'a [u8],
    fstype: &'a [u8],
    address: &'a [u8],
    totals: [u64; TOTALS.len()],
    /// Protocol and columns of each connection.
    transports: Vec<(&'a [u8], [u64; 13])>,
    operations: Vec<(&'a [u8], [u64; OPERATION.len()])>,
}

impl Mount<'_> {
    fn identity(&self) -> [&[u8]; 3] {
        let protocol = self.transports.first().map(|(protocol, _)| *protocol);
        [self.export, self.address, protocol.unwrap_or_default()]
    }
}

/// The option `addr` of the mount in `mountinfo`.
fn address<'a>(mounts: &'a [u8], wanted: &Mount<'_>) -> Option<&'a [u8]> {
    let found = mounts.split(|byte| *byte == b'\n').filter_map(parse_mount).find(|mount| {
        mount.device == wanted.export
            && mount.mount_point == wanted.mount_point
            && mount.fstype == wanted.fstype
    })?;
    let mut options = found.super_options.split(|byte| *byte == b',');
    options.find_map(|option| option.strip_prefix(b"addr="))
}

/// A line `device X mounted on Y with fstype nfs4 statvers=1.1` begins a mount,
/// of which the lines below it, each with a keyword, tell more.
fn parse(bytes: &[u8]) -> Result<Vec<Mount<'_>>, Malformed> {
    let mut mounts: Vec<Mount<'_>> = Vec::new();
    let mut is_nfs = false;
    for (line, text) in lines(bytes)? {
        let malformed = Malformed { line, reason: "is not what mountstats says of a mount" };
        let mut all = words(text);
        let Some(keyword) = all.next() else { continue };
        if keyword == b"device" {
            let (export, mount_point, fstype) = (all.next(), all.nth(2), all.nth(2));
            let (Some(export), Some(mount_point), Some(fstype)) = (export, mount_point, fstype) else {
                return Err(malformed);
            };
            is_nfs = fstype == b"nfs" || fstype == b"nfs4";
            // As many as filesystem shows, since each is looked for in mountinfo.
            is_nfs &= mounts.len() < MOUNT_COUNT_MAX;
            if is_nfs {
                mounts.push(Mount {
                    export,
                    mount_point,
                    fstype,
                    address: b"",
                    totals: [0; TOTALS.len()],
                    transports: Vec::new(),
                    operations: Vec::new(),
                });
            }
            continue;
        }
        let Some(mount) = mounts.last_mut().filter(|_| is_nfs) else { continue };
        match keyword {
            b"age:" => mount.totals[0] = all.next().and_then(number).ok_or(malformed)?,
            b"bytes:" => drop(numbers(all, &mut mount.totals[1..1 + BYTES]).ok_or(malformed)?),
            b"events:" => drop(numbers(all, &mut mount.totals[1 + BYTES..]).ok_or(malformed)?),
            b"xprt:" => {
                let protocol = all.next().ok_or(malformed)?;
                let mut columns = [0; 13];
                numbers(all, &mut columns).ok_or(malformed)?;
                mount.transports.push((protocol, columns));
            }
            _ => {
                // Operations are the keywords in capital letters.
                let name = keyword.strip_suffix(b":").unwrap_or_default();
                let is_name = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_' || byte.is_ascii_digit();
                if !name.is_empty() && name.iter().all(is_name) {
                    let mut columns = [0; OPERATION.len()];
                    let count = numbers(all, &mut columns).ok_or(malformed)?;
                    if count < OPERATION.len() {
                        return Err(malformed);
                    }
                    mount.operations.push((name, columns));
                }
            }
        }
    }
    Ok(mounts)
}

impl Series {
    fn remember(&mut self, identity: [&[u8]; 3], rest: &[u8]) {
        self.key.clear();
        for part in identity {
            self.key.extend_from_slice(part);
            self.key.push(b'\n');
        }
        self.key.extend_from_slice(rest);
    }

    fn push_info(&mut self, cycle: &mut Cycle<'_>, mount: &Mount<'_>) -> Result<(), Error> {
        self.remember(mount.identity(), mount.mount_point);
        let series = self.infos.get_or_make(&self.key, |_| {
            let text = String::from_utf8_lossy(mount.mount_point);
            one(cycle, mount, "mountpoint_info", Some(("mountpoint", &*text)))
        })?;
        cycle.push(series, 1.0);
        Ok(())
    }

    fn push_counts(&mut self, cycle: &mut Cycle<'_>, mount: &Mount<'_>) -> Result<(), Error> {
        self.remember(mount.identity(), b"");
        let series = self.totals.get_or_make(&self.key, |_| each(cycle, mount, TOTALS, None))?;
        for ((series, name), value) in series.into_iter().zip(TOTALS).zip(mount.totals) {
            if !name.is_empty() {
                cycle.push(series, value as f64);
            }
        }
        for (at, (protocol, columns)) in mount.transports.iter().enumerate() {
            self.remember(mount.identity(), &at.to_ne_bytes());
            let series = self.transports.get_or_make(&self.key, |_| {
                let names = TRANSPORT.map(|(name, ..)| format!("transport_{name}"));
                let label = Some(("transport", &*at.to_string()));
                each(cycle, mount, std::array::from_fn(|at| &*names[at]), label)
            })?;
            for (series, (_, tcp, udp)) in series.into_iter().zip(TRANSPORT) {
                let column = if *protocol == b"udp" { udp } else { Some(tcp) };
                cycle.push(series, column.map_or(0.0, |column| columns[column] as f64));
            }
        }
        for (operation, columns) in &mount.operations {
            self.remember(mount.identity(), operation);
            let series = self.operations.get_or_make(&self.key, |_| {
                let names = OPERATION.map(|name| format!("operations_{name}"));
                let label = Some(("operation", &*String::from_utf8_lossy(operation)));
                each(cycle, mount, std::array::from_fn(|at| &*names[at]), label)
            })?;
            for (at, (series, value)) in series.into_iter().zip(*columns).enumerate() {
                let value = match at < FIRST_TIME {
                    true => value as f64,
                    false => (value % TIME_MODULUS) as f64 / 1000.0,
                };
                cycle.push(series, value);
            }
        }
        Ok(())
    }
}

/// The series of one mount; those without a name are not looked at.
fn each<const N: usize>(
    cycle: &mut Cycle<'_>,
    mount: &Mount<'_>,
    names: [&str; N],
    label: Option<(&str, &str)>,
) -> Result<[SeriesIndex; N], Error> {
    let mut series = [SeriesIndex(0); N];
    for (slot, name) in series.iter_mut().zip(names).filter(|(_, name)| !name.is_empty()) {
        *slot = one(cycle, mount, name, label)?;
    }
    Ok(series)
}

fn one(
    cycle: &mut Cycle<'_>,
    mount: &Mount<'_>,
    name: &str,
    label: Option<(&str, &str)>,
) -> Result<SeriesIndex, Error> {
    let [export, address, protocol] = mount.identity().map(String::from_utf8_lossy);
    let mut labels = vec![("export", &*export), ("mountaddr", &*address), ("protocol", &*protocol)];
    labels.extend(label);
    cycle.series(&format!("node_mountstats_nfs_{name}"), &labels)
}
