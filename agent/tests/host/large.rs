//! Machines larger than those at hand: many CPUs, interfaces and mounts.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use lm_agent::sources::SeriesTable;
use lm_agent::sources::host::HostOptions;

use crate::machine::Machine;

const CPUS: usize = 1024;
const INTERFACES: usize = 5000;
const MOUNTS: usize = 10_000;

fn options(root: &Path, collectors: &[&'static str]) -> HostOptions {
    HostOptions {
        procfs: root.join("proc"),
        sysfs: root.join("sys"),
        rootfs: root.to_owned(),
        udev: root.join("udev"),
        own_process: root.join("proc/self"),
        collectors: collectors.iter().copied().collect(),
        ..HostOptions::default()
    }
}

fn write(root: &Path, file: &str, contents: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// `name` and one number for each CPU, the CPU's own number.
fn per_cpu(name: &str, end: &str) -> String {
    let mut line = format!("{name:>10}:");
    (0..CPUS).for_each(|cpu| write!(line, " {cpu:>10}").unwrap());
    line + end + "\n"
}

fn many_cpus(root: &Path) {
    let mut stat = "cpu 1 2 3 4 5 6 7 8 9 10\n".to_owned();
    let mut schedstat = "version 15\ntimestamp 1\n".to_owned();
    let mut softnet = String::new();
    for cpu in 0..CPUS {
        writeln!(stat, "cpu{cpu} {cpu} 2 3 4 5 6 7 8 9 10").unwrap();
        writeln!(schedstat, "cpu{cpu} 0 0 0 0 0 0 1000000000 2000000000 {cpu}").unwrap();
        writeln!(schedstat, "domain0 {} 1 2 3", "ffffffff,".repeat(CPUS / 32)).unwrap();
        writeln!(softnet, "{cpu:08x} {}{cpu:08x}", "00000000 ".repeat(11)).unwrap();
    }
    stat += "intr 1\nctxt 2\nbtime 3\nprocesses 4\nprocs_running 5\nprocs_blocked 6\n";
    stat += "softirq 10 1 1 1 1 1 1 1 1 1 1\n";
    let mut header = " ".repeat(10);
    (0..CPUS).for_each(|cpu| write!(header, " CPU{cpu}").unwrap());
    let mut interrupts = header.clone() + "\n";
    for interrupt in 0..1000 {
        interrupts += &per_cpu(&interrupt.to_string(), "  IR-PCI-MSI-edge  nvme0q1, nvme0q2");
    }
    interrupts += "       ERR:          0\n";
    let softirqs = header + "\n" + &per_cpu("HI", "") + &per_cpu("TIMER", "");
    write(root, "proc/stat", &stat);
    write(root, "proc/schedstat", &schedstat);
    write(root, "proc/net/softnet_stat", &softnet);
    write(root, "proc/interrupts", &interrupts);
    write(root, "proc/softirqs", &softirqs);
}

#[test]
fn a_thousand_cpus() {
    let dir = tempfile::tempdir().unwrap();
    many_cpus(dir.path());
    let collectors = ["stat", "cpu", "schedstat", "softnet", "softirqs", "interrupts"];
    let mut options = options(dir.path(), &collectors);
    options.filters.set("interrupts", "^999;", "").unwrap();
    let mut machine = Machine::new(options);
    let (values, failures) = machine.cycle();
    assert_eq!(failures, []);
    assert_eq!(values[r#"node_cpu_seconds_total{cpu="1023",mode="user"}"#], 10.23);
    assert_eq!(values[r#"node_schedstat_timeslices_total{cpu="1023"}"#], 1023.0);
    assert_eq!(values[r#"node_softnet_processed_total{cpu="1023"}"#], 1023.0);
    assert_eq!(values[r#"node_softirqs_functions_total{cpu="1023",type="TIMER"}"#], 1023.0);
    let interrupt = r#"{cpu="1023",devices="nvme0q1, nvme0q2",info="IR-PCI-MSI-edge",type="999"}"#;
    assert_eq!(values[&format!("node_interrupts_total{interrupt}")], 1023.0);

    let known = machine.table.len();
    machine.cycle();
    assert_eq!(machine.table.len(), known, "a second cycle adds no series");
}

fn many_interfaces(root: &Path) {
    let mut devices = "Inter-| Receive | Transmit\n face |bytes |bytes\n".to_owned();
    for interface in 0..INTERFACES {
        writeln!(devices, "  veth{interface}: {interface} 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
    }
    write(root, "proc/net/dev", &devices);
    write(root, "proc/loadavg", "1.5 2.5 3.5 1/2 3\n");
    write(root, "proc/sys/fs/file-nr", "1\t0\t3\n");
}

#[test]
fn five_thousand_interfaces() {
    let dir = tempfile::tempdir().unwrap();
    many_interfaces(dir.path());
    let (values, failures) = Machine::new(options(dir.path(), &["netdev"])).cycle();
    assert_eq!(failures, []);
    assert_eq!(values[r#"node_network_receive_bytes_total{device="veth4999"}"#], 4999.0);
}

/// The agent's own table has room for 8,192 series.
#[test]
fn interfaces_without_room_take_none_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    many_interfaces(dir.path());
    let mut options = options(dir.path(), &["filefd", "netdev", "loadavg"]);
    let mut machine = Machine::new(options.clone());
    machine.table = SeriesTable::new(8192);
    for _ in 0..30 {
        let (values, failures) = machine.cycle();
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(failures[0].0, "netdev");
        assert!(failures[0].1.ends_with("see metrics.filters"), "{}", failures[0].1);
        assert_eq!((values["node_load15"], values["node_filefd_maximum"]), (3.5, 3.0));
        assert_eq!(values[r#"node_scrape_collector_success{collector="netdev"}"#], 0.0);
    }
    assert!(machine.table.len() < 20, "{} series are kept", machine.table.len());

    // What the message says to do.
    options.filters.set("netdev", "", "^veth[0-9]{2,}$").unwrap();
    let mut machine = Machine::new(options);
    machine.table = SeriesTable::new(8192);
    let (values, failures) = machine.cycle();
    assert_eq!(failures, []);
    assert_eq!(values[r#"node_network_receive_bytes_total{device="veth9"}"#], 9.0);
}

#[test]
fn room_that_appears_is_used() {
    let dir = tempfile::tempdir().unwrap();
    many_interfaces(dir.path());
    let mut machine = Machine::new(options(dir.path(), &["netdev"]));
    machine.table = SeriesTable::new(8192);
    assert_eq!(machine.cycle().1.len(), 1);
    write(dir.path(), "proc/net/dev", "Inter-|\n face |\n  lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
    let cycles = (1..100).find(|_| machine.cycle().1.is_empty());
    assert!(cycles.is_some(), "netdev never came back");
}

#[test]
fn ten_thousand_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let mut mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n".to_owned();
    for mount in 2..MOUNTS {
        // Most of a host of containers are overlays.
        let fstype = if mount % 10 == 0 { "tmpfs" } else { "overlay" };
        writeln!(mounts, "{mount} 1 0:{mount} / /run/{mount} rw - {fstype} none rw").unwrap();
    }
    write(dir.path(), "proc/self/mountinfo", &mounts);
    let mut machine = Machine::new(options(dir.path(), &["filesystem"]));
    machine.table = SeriesTable::new(8192);
    let (values, failures) = machine.cycle();
    assert_eq!(failures, []);
    let root = r#"{device="/dev/sda1",fstype="ext4",mountpoint="/"}"#;
    assert!(values[&format!("node_filesystem_size_bytes{root}")] > 0.0);
    let shown = values.keys().filter(|series| series.starts_with("node_filesystem_device_error")).count();
    assert_eq!(shown, 256, "mounts beyond the documented number are left out");
}
