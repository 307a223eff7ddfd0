//! Collectors of devices on a damaged sysfs: files that lie, vanish or hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lm_agent::sources::host::HostOptions;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::fixtures::test_host;
use crate::machine::{Machine, Values};

/// What reads sysfs and nothing else.
const COLLECTORS: [&str; 20] = [
    "bcache",
    "bcachefs",
    "bonding",
    "btrfs",
    "cpufreq",
    "dmi",
    "dmmultipath",
    "edac",
    "fibrechannel",
    "hwmon",
    "infiniband",
    "netclass",
    "nvme",
    "powersupplyclass",
    "rapl",
    "tapestats",
    "thermal_zone",
    "watchdog",
    "xfs",
    "drm",
];

/// A copy of the test host's sysfs without its PCI devices, half of the files.
fn copy_of_sysfs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = test_host().join("sys");
    for part in ["block", "class", "fs", "devices/platform", "devices/system", "devices/virtual"] {
        let to = dir.path().join("sys").join(part);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let status = Command::new("cp").arg("-a").arg(archive.join(part)).arg(to).status();
        assert!(status.unwrap().success());
    }
    dir
}

fn cycle(dir: &Path) -> (Values, Vec<(&'static str, String)>) {
    let options = HostOptions {
        sysfs: dir.join("sys"),
        procfs: dir.join("no-procfs"),
        collectors: COLLECTORS.into(),
        ..HostOptions::default()
    };
    Machine::new(options).cycle()
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn a_graphics_processor() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("sys/class/drm/card0/device");
    fs::create_dir_all(&device).unwrap();
    fs::create_dir_all(dir.path().join("sys/class/drm/card0-DP-1/device")).unwrap();
    for (file, contents) in [
        ("gpu_busy_percent", "42\n"),
        ("mem_info_vram_used", "1024\n"),
        ("mem_info_vram_vendor", "samsung\n"),
    ] {
        fs::write(device.join(file), contents).unwrap();
    }
    assert!(!cycle(dir.path()).0.keys().any(|series| series.starts_with("node_drm_")));
    std::os::unix::fs::symlink("../../../bus/pci/drivers/amdgpu", device.join("driver")).unwrap();
    let (values, _) = cycle(dir.path());
    assert_eq!(values[r#"node_drm_gpu_busy_percent{card="card0"}"#], 42.0);
    assert_eq!(values[r#"node_drm_memory_vram_used_bytes{card="card0"}"#], 1024.0);
    assert_eq!(values[r#"node_drm_card_info{card="card0",memory_vendor="samsung",vendor="amd"}"#], 1.0);
}

#[test]
fn graphics_processors_of_intel() {
    let dir = tempfile::tempdir().unwrap();
    let class = dir.path().join("sys/class/drm");
    let card = |name: &str, driver: &str, files: &[(&str, &str)]| {
        let device = class.join(name).join("device");
        fs::create_dir_all(&device).unwrap();
        std::os::unix::fs::symlink(format!("../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
        for (file, contents) in files {
            let path = class.join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
    };
    card("card0", "i915", &[("gt_act_freq_mhz", "350\n"), ("power/rc6_residency_ms", "1500\n")]);
    card(
        "card1",
        "i915",
        &[
            ("gt_act_freq_mhz", "1\n"),
            ("gt/gt0/rps_act_freq_mhz", "900\n"),
            ("gt/gt1/rps_max_freq_mhz", "1300\n"),
        ],
    );
    let xe = [
        ("device/tile0/gt0/freq0/act_freq", "1200\n"),
        ("device/tile0/gt0/freq0/throttle/status", "1\n"),
        ("device/tile1/gt2/gtidle/idle_residency_ms", "250\n"),
    ];
    card("card2", "xe", &xe);
    card("card3", "nouveau", &[("gt_act_freq_mhz", "1\n")]);
    let (values, _) = cycle(dir.path());
    let found: Vec<(&str, f64)> = values
        .iter()
        .filter_map(|(series, value)| Some((series.strip_prefix("lmagent_gpu_")?, *value)))
        .collect();
    let expected = [
        (r#"frequency_hertz{card="card0",gt="gt0"}"#, 350e6),
        (r#"frequency_hertz{card="card1",gt="gt0"}"#, 900e6),
        (r#"frequency_hertz{card="card2",gt="gt0"}"#, 1200e6),
        (r#"frequency_max_hertz{card="card1",gt="gt1"}"#, 1300e6),
        (r#"idle_seconds_total{card="card0",gt="gt0"}"#, 1.5),
        (r#"idle_seconds_total{card="card2",gt="gt2"}"#, 0.25),
        (r#"throttled{card="card2",gt="gt0"}"#, 1.0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_host_without_devices_fails_only_as_absent() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sys")).unwrap();
    let (_, failures) = cycle(dir.path());
    for (name, message) in &failures {
        assert!(message.ends_with("No such file or directory (os error 2)"), "{name}: {message}");
    }
    let failed: Vec<&str> = failures.iter().map(|(name, _)| *name).collect();
    // Those that node_exporter finds successful without a device.
    for name in ["cpufreq", "edac", "thermal_zone", "btrfs", "bcache", "xfs"] {
        assert!(!failed.contains(&name), "{name}");
    }
}

#[test]
fn a_device_that_goes_takes_its_own_series_only() {
    let dir = copy_of_sysfs();
    let (whole, _) = cycle(dir.path());
    fs::remove_dir_all(dir.path().join("sys/class/power_supply/BAT0")).unwrap();
    fs::remove_dir_all(dir.path().join("sys/devices/platform/coretemp.1")).unwrap();
    let (rest, failures) = cycle(dir.path());
    assert!(!failures.iter().any(|(name, _)| ["hwmon", "powersupplyclass"].contains(name)), "{failures:?}");
    let gone = |series: &String| {
        series.contains("power_supply=\"BAT0\"") || series.contains("chip=\"platform_coretemp_1\"")
    };
    assert!(whole.keys().any(gone) && !rest.keys().any(gone));
    let kept: Vec<_> = whole.iter().filter(|(series, _)| !gone(series)).collect();
    assert_eq!(kept, rest.iter().collect::<Vec<_>>());
}

#[test]
fn damaged_files_are_series_that_are_not_there() {
    type Inflict = fn(&Path);
    // One after the other on the same files.
    let damages: [(&str, Inflict); 5] = [
        ("empty", |path| fs::write(path, "").unwrap()),
        ("garbage", |path| fs::write(path, [0xff, 0, b'-', b'.', b'[', b':', b'\n', 0x80]).unwrap()),
        ("larger than a page", |path| fs::write(path, [b'9'; 5000]).unwrap()),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("a fifo", |path| {
            fs::remove_dir(path).unwrap();
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }),
    ];
    let dir = copy_of_sysfs();
    let mut all = Vec::new();
    files(&dir.path().join("sys"), &mut all);
    assert!(all.len() > 900, "{}", all.len());
    let (whole, before) = cycle(dir.path());
    // The list of bonds is one file, and without it there is nothing.
    let others = |failures: &[(&'static str, String)]| {
        failures.iter().map(|(name, _)| *name).filter(|name| *name != "bonding").collect::<Vec<_>>()
    };
    for (damage, inflict) in damages {
        all.iter().for_each(|path| inflict(path));
        let (damaged, failures) = cycle(dir.path());
        println!("{damage}: {} of {} series, {failures:?}", damaged.len(), whole.len());
        assert_eq!(others(&failures), others(&before), "{damage}");
        assert!(damaged.values().all(|value| value.is_finite()), "{damage}");
    }
}
