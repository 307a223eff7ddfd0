//! Collectors on small trees: files of our own, damage, lies.

use std::fs;
use std::path::Path;

use lm_agent::sources::host::HostOptions;

use crate::fixtures::test_host;
use crate::machine::{Machine, Values};

const FILES: [&str; 12] = [
    "stat",
    "meminfo",
    "vmstat",
    "diskstats",
    "loadavg",
    "net/dev",
    "pressure/cpu",
    "pressure/io",
    "pressure/memory",
    "pressure/irq",
    "sys/fs/file-nr",
    "self/stat",
];
const NET_DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0: 18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
";
const SELF_STAT: &str =
    "10 (a b) c) S 1 2 3 4 5 6 7 8 9 10 1677 44 0 0 20 0 1 0 82375 56274944 1981 184 1 2\n";

/// Collectors of the files above.
const COLLECTORS: [&str; 13] = [
    "stat",
    "cpu",
    "loadavg",
    "meminfo",
    "vmstat",
    "netdev",
    "diskstats",
    "filesystem",
    "filefd",
    "pressure",
    "time",
    "uname",
    "process",
];

fn options(procfs: &Path) -> HostOptions {
    HostOptions {
        procfs: procfs.into(),
        sysfs: procfs.join("no-sysfs"),
        own_process: procfs.join("self"),
        collectors: COLLECTORS.into(),
        ..HostOptions::default()
    }
}

fn machine(procfs: &Path) -> Machine {
    Machine::new(options(procfs))
}

/// A copy of the fixtures that a test may damage, with the files
/// that the fixtures lack.
fn copy_of_fixtures() -> tempfile::TempDir {
    let procfs = test_host().join("proc");
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        let to = dir.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match file {
            "net/dev" => fs::write(to, NET_DEV).unwrap(),
            "self/stat" => fs::write(to, SELF_STAT).unwrap(),
            _ => drop(fs::copy(procfs.join(file), to).unwrap()),
        }
    }
    fs::create_dir(dir.path().join("self/fd")).unwrap();
    for descriptor in ["0", "1", "2", "3"] {
        fs::write(dir.path().join("self/fd").join(descriptor), "").unwrap();
    }
    let mounts = "\
22 1 8:1 / / ro,relatime - ext4 /dev/sda1 ro
23 22 0:5 / /proc rw - proc proc rw
24 22 0:44 / /no/such/mount rw - nfs4 server:/far rw
25 22 8:2 / /no/such/place rw - xfs /dev/sda2 rw
";
    fs::write(dir.path().join("self/mountinfo"), mounts).unwrap();
    dir
}

/// Values without those that other programs change meanwhile.
fn stable_cycle(machine: &mut Machine) -> (Values, Vec<(&'static str, String)>) {
    let (mut values, failures) = machine.cycle();
    let moving = ["node_filesystem_free", "node_filesystem_avail", "node_filesystem_files"];
    values.retain(|series, _| !moving.iter().any(|prefix| series.starts_with(prefix)));
    (values, failures)
}

#[test]
fn families_without_fixtures() {
    let host = copy_of_fixtures();
    let (values, _) = machine(host.path()).cycle();
    let check = |series: &str, expected: f64| assert_eq!(values.get(series), Some(&expected), "{series}");

    check("node_time_seconds", 1_700_000_000.5);
    check(r#"node_network_receive_bytes_total{device="lo"}"#, 3193.0);
    check(r#"node_network_receive_bytes_total{device="eth0"}"#, u64::MAX as f64);
    check(r#"node_network_receive_packets_total{device="eth0"}"#, 2.0);
    check(r#"node_network_receive_errs_total{device="eth0"}"#, 3.0);
    check(r#"node_network_receive_drop_total{device="eth0"}"#, 4.0);
    check(r#"node_network_receive_fifo_total{device="eth0"}"#, 5.0);
    check(r#"node_network_receive_frame_total{device="eth0"}"#, 6.0);
    check(r#"node_network_receive_compressed_total{device="eth0"}"#, 7.0);
    check(r#"node_network_receive_multicast_total{device="eth0"}"#, 8.0);
    check(r#"node_network_transmit_bytes_total{device="eth0"}"#, 9.0);
    check(r#"node_network_transmit_packets_total{device="eth0"}"#, 10.0);
    check(r#"node_network_transmit_errs_total{device="eth0"}"#, 11.0);
    check(r#"node_network_transmit_drop_total{device="eth0"}"#, 12.0);
    check(r#"node_network_transmit_fifo_total{device="eth0"}"#, 13.0);
    check(r#"node_network_transmit_colls_total{device="eth0"}"#, 14.0);
    check(r#"node_network_transmit_carrier_total{device="eth0"}"#, 15.0);
    check(r#"node_network_transmit_compressed_total{device="eth0"}"#, 16.0);
    check(r#"node_scrape_collector_success{collector="cpu"}"#, 1.0);

    let root = r#"{device="/dev/sda1",fstype="ext4",mountpoint="/"}"#;
    check(&format!("node_filesystem_readonly{root}"), 1.0);
    check(&format!("node_filesystem_device_error{root}"), 0.0);
    assert!(values[&format!("node_filesystem_size_bytes{root}")] > 0.0);
    let missing = r#"{device="/dev/sda2",fstype="xfs",mountpoint="/no/such/place"}"#;
    check(&format!("node_filesystem_device_error{missing}"), 1.0);
    assert!(!values.contains_key(&format!("node_filesystem_size_bytes{missing}")));
    assert!(!values.keys().any(|series| series.contains("/proc")));
    check(
        r#"node_filesystem_device_error{device="server:/far",fstype="nfs4",mountpoint="/no/such/mount"}"#,
        1.0,
    );

    let uname = values.keys().find(|series| series.starts_with("node_uname_info{")).unwrap();
    assert!(uname.contains(r#"sysname="Linux""#) && uname.contains("nodename="), "{uname}");

    // utime 1677, stime 44, started 82375 ticks after btime 1418183276.
    check("process_cpu_seconds_total", 17.21);
    check("process_virtual_memory_bytes", 56_274_944.0);
    check("process_resident_memory_bytes", 1981.0 * rustix::param::page_size() as f64);
    check("process_start_time_seconds", 1_418_183_276.0 + 823.75);
    check("process_open_fds", 3.0);
    assert!(values["process_max_fds"] > 0.0);
}

#[test]
fn a_second_cycle_adds_no_series_and_a_cleared_table_is_filled_again() {
    let dir = copy_of_fixtures();
    let mut host = machine(dir.path());
    let (first, _) = stable_cycle(&mut host);
    let count = host.table.len();
    assert_eq!(stable_cycle(&mut host).0, first);
    assert_eq!(host.table.len(), count);

    host.table.clear();
    assert_eq!(stable_cycle(&mut host).0, first);
    assert_eq!(host.table.len(), count);
}

#[test]
fn this_machine_can_be_measured() {
    let mut host = Machine::new(HostOptions { collectors: COLLECTORS.into(), ..HostOptions::default() });
    let (values, failures) = host.cycle();
    // Pressure and disks may be missing in a container.
    let unexpected = failures.iter().find(|(name, _)| !["pressure", "diskstats"].contains(name));
    assert_eq!(unexpected, None);
    assert!(values["node_memory_MemTotal_bytes"] > 0.0);
    assert!(values["process_resident_memory_bytes"] > 0.0);
    assert!(values["process_open_fds"] >= 3.0);
}

#[test]
fn one_damaged_file_fails_its_own_collectors_only() {
    type Inflict = fn(&Path);
    let damages: [(&str, Inflict); 6] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("a line feed", |path| fs::write(path, "\n").unwrap()),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 3]).unwrap();
        }),
        ("garbage", |path| {
            let garbage: Vec<u8> =
                (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            fs::write(path, garbage).unwrap();
        }),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    let (whole, _) = stable_cycle(&mut machine(copy_of_fixtures().path()));
    for (damage, inflict) in damages {
        for file in FILES {
            let dir = copy_of_fixtures();
            inflict(&dir.path().join(file));
            let (values, failures) = stable_cycle(&mut machine(dir.path()));
            println!("{file} {damage}: {failures:?}");

            let optional = file == "pressure/irq" && damage == "missing";
            // Process and filesystem share nothing with the file but its root.
            let expected: &[&str] = match file {
                _ if optional => &[],
                "stat" if damage == "cut" => &["stat", "cpu"],
                "stat" => &["stat", "cpu"],
                "self/stat" => &["process"],
                "net/dev" => &["netdev"],
                "sys/fs/file-nr" => &["filefd"],
                _ if file.starts_with("pressure/") => &["pressure"],
                whole_name => &[whole_name],
            };
            let failed: Vec<&str> = failures.iter().map(|(name, _)| *name).collect();
            // A cut single-line file may still be whole.
            if damage == "cut" && failed.is_empty() {
                assert!(["loadavg", "sys/fs/file-nr"].contains(&file), "{file} {damage}");
                continue;
            }
            assert_eq!(failed, expected, "{file} {damage}");
            for name in expected {
                let success = format!("node_scrape_collector_success{{collector={name:?}}}");
                assert_eq!(values[&success], 0.0, "{file} {damage}");
            }
            // What the others say is what they always say.
            let changed = values.iter().filter(|(series, value)| whole.get(*series) != Some(value)).count();
            assert_eq!(changed, expected.len(), "{file} {damage}: more than the success changed");
        }
    }
}

#[test]
fn any_prefix_of_any_file_is_survived() {
    let dir = copy_of_fixtures();
    let mut host = machine(dir.path());
    for file in FILES {
        let path = dir.path().join(file);
        let bytes = fs::read(&path).unwrap();
        for end in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            fs::write(&path, &bytes[..end]).unwrap();
            host.cycle();
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(host.cycle().1, []);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let check = |file: &str, contents: &str, expected: &str| {
        let dir = copy_of_fixtures();
        fs::write(dir.path().join(file), contents).unwrap();
        let (_, failures) = machine(dir.path()).cycle();
        let message = failures.first().map(|(_, message)| message.as_str()).unwrap_or("no failure");
        assert!(message.ends_with(expected), "{file}: {message}");
    };
    check("meminfo", "MemTotal: 18446744073709551616 kB\n", "line 1: is not `field: number [kB]`");
    check("meminfo", "MemTotal: -1 kB\n", "line 1: is not `field: number [kB]`");
    check("loadavg", "nan inf 0.1 1/2 3\n", "line 1: is not three loads");
    check("vmstat", "pgfault 1\npgpgin x\n", "line 2: is not a count");
    check("stat", "cpu999999999 1 2 3 4\n", "lacks a total");
    check("diskstats", "8 0 sdz 1 2 3\n", "line 1: is not a device and at least 11 counts");
    check("diskstats", "8 0 sdz 1 2", "line 0: ends within a line");
}

#[test]
fn a_fifo_in_place_of_a_file_does_not_hang() {
    let dir = copy_of_fixtures();
    let path = dir.path().join("loadavg");
    fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (_, failures) = machine(dir.path()).cycle();
    assert_eq!(failures.len(), 1);
}
