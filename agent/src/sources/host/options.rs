//! Where to look, and for what.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::filter::Filters;
use super::registry::COLLECTORS;

/// Where a [`HostSource`](super::HostSource) looks, and for what.
#[derive(Clone, Debug, PartialEq)]
pub struct HostOptions {
    /// Default `/proc`.
    pub procfs: PathBuf,
    /// Default `/sys`.
    pub sysfs: PathBuf,
    /// Prepended to mount points before asking for file system sizes.
    /// Default `/`.
    pub rootfs: PathBuf,
    /// What udev knows of devices. Default `/run/udev/data`.
    pub udev: PathBuf,
    /// The directory of the agent's own process. Default `/proc/self`, also
    /// when `procfs` is that of a host seen from a container.
    pub own_process: PathBuf,
    /// Names of [`COLLECTORS`] that run. Default: those that node_exporter
    /// runs by default.
    pub collectors: BTreeSet<&'static str>,
    pub filters: Filters,
    /// `stat` counts soft interrupts by kind. Default false.
    pub stat_softirqs: bool,
    /// `cpu` shows the time of guests. Default true.
    pub cpu_guest: bool,
    /// `cpu` shows `/proc/cpuinfo`. Default false.
    pub cpu_info: bool,
    /// `programs` shows this many that use most of each of CPU, memory and I/O,
    /// 1 to 100. Default 10.
    pub programs_max: u32,
    /// The socket of a Docker daemon that `containers` asks for names and
    /// states. Default none.
    pub docker_socket: Option<PathBuf>,
    /// The program that `systemd` asks. Default `systemctl`, wherever it is.
    pub systemctl: PathBuf,
    /// A collector that takes longer is left out until it returns. Default 8 s:
    /// longer than those need that wait for others (`filesystem`, `systemd`).
    pub collector_time_max: Duration,
    /// `bcache` shows what is in a cache by priority, which takes the kernel
    /// long. Default false.
    pub bcache_priority: bool,
    /// Directories of `textfile`, absolute paths that may have `*`, `?` and
    /// `**` in them. Default none.
    pub textfile: Vec<String>,
    /// What `sysctl` shows as numbers: `fs.file-nr`, or with a name for each
    /// number in the file, `fs.file-nr:total,current,max`. Default none.
    pub sysctl: Vec<String>,
    /// What `sysctl` shows as a label of texts. Default none.
    pub sysctl_info: Vec<String>,
}

impl Default for HostOptions {
    fn default() -> Self {
        HostOptions {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            rootfs: "/".into(),
            udev: "/run/udev/data".into(),
            own_process: "/proc/self".into(),
            collectors: COLLECTORS.iter().filter(|known| known.is_default).map(|known| known.name).collect(),
            filters: Filters::default(),
            stat_softirqs: false,
            cpu_guest: true,
            cpu_info: false,
            programs_max: 10,
            docker_socket: None,
            systemctl: "systemctl".into(),
            collector_time_max: Duration::from_secs(8),
            bcache_priority: false,
            textfile: Vec::new(),
            sysctl: Vec::new(),
            sysctl_info: Vec::new(),
        }
    }
}
