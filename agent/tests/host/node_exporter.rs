//! Whether we measure node_exporter's test host as node_exporter does.
//!
//! Every sample that we give must be in its output, with the same name, labels
//! and value. What is in its output and we lack is counted by collector in
//! `lacked.txt`, which must be exact: it can only shrink (`LM_BLESS=1` writes it).

use std::collections::BTreeMap;
use std::path::Path;

use lm_agent::sources::host::HostOptions;
use lm_agent::sources::host::registry::COLLECTORS;

use crate::fixtures::{EXPECTED, test_host};
use crate::machine::{Machine, Values};

/// Which collector gives the names that begin so; the longest beginning counts.
const OWNERS: &[(&str, &str)] = &[
    ("node_arp_", "arp"),
    ("node_bcache_", "bcache"),
    ("node_bcachefs_", "bcachefs"),
    ("node_bonding_", "bonding"),
    ("node_boot_time_", "stat"),
    ("node_btrfs_", "btrfs"),
    ("node_buddyinfo_", "buddyinfo"),
    ("node_cgroups_", "cgroups"),
    ("node_context_switches_", "stat"),
    ("node_cooling_device_", "thermal_zone"),
    ("node_cpu_", "cpu"),
    ("node_cpu_scaling_", "cpufreq"),
    ("node_cpu_vulnerabilities_", "cpu_vulnerabilities"),
    ("node_disk_", "diskstats"),
    ("node_dmi_", "dmi"),
    ("node_dmmultipath_", "dmmultipath"),
    ("node_drbd_", "drbd"),
    ("node_edac_", "edac"),
    ("node_entropy_", "entropy"),
    ("node_fibrechannel_", "fibrechannel"),
    ("node_filefd_", "filefd"),
    ("node_filesystem_", "filesystem"),
    ("node_forks_", "stat"),
    ("node_hwmon_", "hwmon"),
    ("node_infiniband_", "infiniband"),
    ("node_interrupts_", "interrupts"),
    ("node_intr_", "stat"),
    ("node_ipvs_", "ipvs"),
    ("node_kernel_hung_", "kernel_hung"),
    ("node_ksmd_", "ksmd"),
    ("node_lnstat_", "lnstat"),
    ("node_load", "loadavg"),
    ("node_md_", "mdadm"),
    ("node_memory_", "meminfo"),
    ("node_memory_numa_", "meminfo_numa"),
    ("node_mountstats_", "mountstats"),
    ("node_netstat_", "netstat"),
    ("node_network_", "netclass"),
    ("node_network_receive_", "netdev"),
    ("node_network_transmit_", "netdev"),
    ("node_network_transmit_queue_length", "netclass"),
    ("node_nf_conntrack_", "conntrack"),
    ("node_nfs_", "nfs"),
    ("node_nfsd_", "nfsd"),
    ("node_nvme_", "nvme"),
    ("node_os_", "os"),
    ("node_pcidevice_", "pcidevice"),
    ("node_power_supply_", "powersupplyclass"),
    ("node_pressure_", "pressure"),
    ("node_processes_", "processes"),
    ("node_procs_", "stat"),
    ("node_qdisc_", "qdisc"),
    ("node_rapl_", "rapl"),
    ("node_schedstat_", "schedstat"),
    ("node_slabinfo_", "slabinfo"),
    ("node_sockstat_", "sockstat"),
    ("node_softirqs_functions_", "softirqs"),
    ("node_softirqs_total", "stat"),
    ("node_softnet_", "softnet"),
    ("node_sysctl_", "sysctl"),
    ("node_tape_", "tapestats"),
    ("node_textfile_", "textfile"),
    ("node_thermal_zone_", "thermal_zone"),
    ("node_time_", "time"),
    ("node_timex_", "timex"),
    ("node_udp_queues", "udp_queues"),
    ("node_uname_", "uname"),
    ("node_vmstat_", "vmstat"),
    ("node_watchdog_", "watchdog"),
    ("node_wifi_", "wifi"),
    ("node_xfrm_", "xfrm"),
    ("node_xfs_", "xfs"),
    ("node_zfs_", "zfs"),
    ("node_zoneinfo_", "zoneinfo"),
    ("process_", "process"),
    ("testmetric", "textfile"),
];

/// What the kernel at hand says and not the test host's files: not in the
/// output. A collector's time is our own.
const LIVE: &[&str] = &[
    "node_filesystem_",
    "node_network_receive_bytes_total",
    "node_network_receive_packets_total",
    "node_network_transmit_bytes_total",
    "node_network_transmit_packets_total",
    "node_scrape_collector_duration_seconds",
    "node_scrape_collector_success{collector=\"filesystem\"}",
    "node_scrape_collector_success{collector=\"process\"}",
    "node_scrape_collector_success{collector=\"timex\"}",
    "node_scrape_collector_success{collector=\"uname\"}",
    "node_textfile_mtime_seconds",
    "node_time_seconds",
    "node_timex_",
    "node_uname_",
    "process_",
];

/// `netdev` is measured apart; of the others node_exporter's output has nothing,
/// and `protocols.rs` and `devices.rs` test them.
const ELSEWHERE: &[&str] =
    &["containers", "drm", "netdev", "programs", "selinux", "swap", "systemd", "tcpstat"];

const LACKED: &str = include_str!("lacked.txt");
const LACKED_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/lacked.txt");

/// As the folder's README says its output was made.
pub fn options_of(host: &Path) -> HostOptions {
    let names = COLLECTORS.iter().map(|known| known.name);
    let mut options = HostOptions {
        procfs: host.join("proc"),
        sysfs: host.join("sys"),
        rootfs: host.to_owned(),
        udev: host.join("udev/data"),
        collectors: names.filter(|name| !ELSEWHERE.contains(name)).collect(),
        stat_softirqs: true,
        cpu_info: true,
        bcache_priority: true,
        textfile: vec![host.join("textfile/two_metric_files").to_string_lossy().into_owned()],
        sysctl: ["kernel.threads-max", "fs.file-nr", "fs.file-nr:total,current,max"]
            .map(str::to_owned)
            .to_vec(),
        sysctl_info: ["kernel.seccomp.actions_avail"].map(str::to_owned).to_vec(),
        ..HostOptions::default()
    };
    let mut filter = |name: &str, include: &str, exclude: &str| {
        options.filters.set(name, include, exclude).unwrap();
    };
    filter("arp", "", "nope");
    filter("cpu_bugs", "^(cpu_meltdown|spectre_.*|mds)$", "");
    filter("cpu_flags", "^(aes|avx.?|constant_tsc)$", "");
    filter("hwmon_chips", "(applesmc|asus_nb_wmi|coretemp|hwmon4|ieee80211|nct6779)", "");
    filter("netclass", "", "(dmz|int)");
    filter("qdisc", "(wlan0|eth0)", "");
    options
}

/// The output's `netdev` is that of the machine it was made on, whose loopback
/// device had no errors; so is ours.
fn netdev_options() -> HostOptions {
    let mut options = HostOptions { collectors: ["netdev"].into(), ..HostOptions::default() };
    options.filters.set("netdev", "^lo$", "").unwrap();
    options
}

fn expected() -> Values {
    let is_sample = |line: &&str| {
        let others = ["#", "promhttp_", "go_"];
        !line.is_empty() && !others.iter().any(|prefix| line.starts_with(prefix))
    };
    // One path is the value of a label.
    let root = test_host().to_string_lossy().into_owned();
    let lines = EXPECTED.lines().filter(is_sample).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (without_empty_labels(series).replace("collector/fixtures", &root), value.parse().unwrap())
    });
    lines.collect()
}

/// An empty label is as good as none, and we have none.
fn without_empty_labels(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let mut kept = String::new();
    let mut rest = labels.trim_end_matches('}');
    while let Some((label, value)) = rest.split_once("=\"") {
        let end = value_end(value);
        if end > 0 {
            let comma = if kept.is_empty() { "" } else { "," };
            kept.push_str(&format!("{comma}{label}=\"{}\"", &value[..end]));
        }
        rest = value[end + 1..].trim_start_matches(',');
    }
    if kept.is_empty() { name.to_owned() } else { format!("{name}{{{kept}}}") }
}

/// Where the value of a label ends: at a quote that is not escaped.
fn value_end(value: &str) -> usize {
    let mut is_escaped = false;
    let end = value.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.expect("every value ends")
}

pub fn owner(series: &str) -> &str {
    if let Some(rest) = series.strip_prefix("node_scrape_collector_success{collector=\"") {
        return rest.trim_end_matches("\"}");
    }
    let owners = OWNERS.iter().filter(|(prefix, _)| series.starts_with(prefix));
    let (_, owner) = owners.max_by_key(|(prefix, _)| prefix.len()).unwrap_or(&("", "nobody"));
    owner
}

#[test]
fn the_test_host_is_measured_as_by_node_exporter() {
    let (mut ours, failures) = Machine::new(options_of(&test_host())).cycle();
    let (netdev, netdev_failures) = Machine::new(netdev_options()).cycle();
    ours.extend(netdev);
    ours.retain(|series, _| !LIVE.iter().any(|prefix| series.starts_with(prefix)));
    let expected = expected();

    let is_wrong = |series: &&String| {
        let (ours, theirs) = (ours.get(*series), expected.get(*series));
        ours.is_some() && ours.map(|value| value.to_bits()) != theirs.map(|value| value.to_bits())
    };
    let wrong: Vec<_> = ours
        .keys()
        .filter(is_wrong)
        .map(|series| format!("{series}: {} here, there {:?}", ours[series], expected.get(series)))
        .collect();
    assert!(wrong.is_empty(), "{} wrong samples:\n{}", wrong.len(), wrong.join("\n"));
    assert!(failures.is_empty() && netdev_failures.is_empty(), "{failures:?} {netdev_failures:?}");

    let missing: Vec<_> = expected.keys().filter(|series| !ours.contains_key(*series)).collect();
    let mut lacked = BTreeMap::<&str, usize>::new();
    for series in &missing {
        *lacked.entry(owner(series)).or_default() += 1;
    }
    assert_eq!(lacked.get("nobody"), None, "a sample without an owner");
    let lines = lacked.iter().map(|(collector, count)| format!("{collector} {count}\n"));
    let lacked: String = lines.collect();
    if std::env::var_os("LM_BLESS").is_some() {
        std::fs::write(LACKED_FILE, &lacked).unwrap();
        return;
    }
    for series in missing {
        println!("lacked: {series}");
    }
    assert_eq!(lacked, LACKED, "collectors and how many of their samples we lack");
}

/// A collector that gives what is not in the output must be named in `LIVE`.
#[test]
fn there_are_as_many_samples_as_the_readme_says() {
    let others = EXPECTED.lines().filter(|line| line.starts_with("promhttp_")).count();
    assert_eq!(expected().len() + others, 3027);
}
