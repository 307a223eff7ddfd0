//! Containers, in control groups of our own making.

use std::fs;
use std::path::Path;

use lm_agent::sources::host::HostOptions;

use crate::machine::{Machine, Values};

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, contents) in files {
        let path = root.join("fs/cgroup").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}

fn cycle(root: &Path) -> (Values, Vec<(&'static str, String)>) {
    let collectors = ["containers"].into();
    let mut machine =
        Machine::new(HostOptions { sysfs: root.to_owned(), collectors, ..HostOptions::default() });
    let (mut values, failures) = machine.cycle();
    values.retain(|series, _| series.starts_with("lmagent_"));
    (values, failures)
}

fn check(values: &Values, labels: &str, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        let series = format!("lmagent_container_{name}{{{labels}}}");
        assert_eq!(values.get(&series), Some(value), "{series} of {values:#?}");
    }
}

#[test]
fn one_tree() {
    let dir = tempfile::tempdir().unwrap();
    let id = "0123456789abcdef".repeat(4);
    let group = format!("system.slice/docker-{id}.scope");
    let in_group = |file: &str| format!("{group}/{file}");
    write(
        dir.path(),
        &[
            ("cgroup.controllers", "cpu io memory pids\n"),
            (
                &in_group("cpu.stat"),
                "usage_usec 2500000\nuser_usec 1\nnr_throttled 3\nthrottled_usec 500000\n",
            ),
            (&in_group("memory.current"), "4096\n"),
            (&in_group("memory.max"), "max\n"),
            (&in_group("memory.events"), "low 0\noom 2\noom_kill 1\n"),
            (&in_group("io.stat"), "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5 wbytes=1\n"),
            (&in_group("pids.current"), "7\n"),
            (&in_group("cgroup.events"), "populated 1\nfrozen 1\n"),
            (&in_group("nested/memory.current"), "1\n"),
            ("lxc.payload.web/memory.max", "1048576\n"),
            ("init.scope/memory.current", "5\n"),
        ],
    );
    let (values, failures) = cycle(dir.path());
    assert_eq!(failures, []);
    let labels = r#"id="0123456789ab",runtime="docker""#;
    check(
        &values,
        labels,
        &[
            ("cpu_seconds_total", 2.5),
            ("cpu_throttled_seconds_total", 0.5),
            ("memory_bytes", 4096.0),
            ("oom_kills_total", 1.0),
            ("read_bytes_total", 15.0),
            ("written_bytes_total", 21.0),
            ("processes", 7.0),
        ],
    );
    check(&values, &format!(r#"{labels},state="paused""#), &[("state", 1.0)]);
    check(&values, &format!(r#"{labels},state="running""#), &[("state", 0.0)]);
    let lxc = r#"id="web",runtime="lxc""#;
    check(&values, lxc, &[("memory_limit_bytes", 1_048_576.0)]);
    check(&values, &format!(r#"{lxc},state="running""#), &[("state", 1.0)]);
    assert_eq!(values.len(), 7 + 2 + 1 + 2);
}

#[test]
fn a_tree_for_each_controller() {
    let dir = tempfile::tempdir().unwrap();
    let id = "f".repeat(64);
    let group = |file: &str| {
        let (controller, name) = file.split_once('/').unwrap();
        format!("{controller}/docker/{id}/{name}")
    };
    write(
        dir.path(),
        &[
            (&group("cpuacct/cpuacct.usage"), "1500000000\n"),
            (&group("cpu/cpu.stat"), "nr_periods 0\nthrottled_time 250000000\n"),
            (&group("memory/memory.usage_in_bytes"), "8192\n"),
            (&group("memory/memory.limit_in_bytes"), "9223372036854771712\n"),
            (&group("memory/memory.oom_control"), "under_oom 0\noom_kill 4\n"),
            (
                &group("blkio/blkio.throttle.io_service_bytes_recursive"),
                "8:0 Read 3\n8:0 Write 4\n8:16 Read 5\nTotal 12\n",
            ),
            (&group("pids/pids.current"), "2\n"),
            (&group("freezer/freezer.state"), "FROZEN\n"),
        ],
    );
    let (values, failures) = cycle(dir.path());
    assert_eq!(failures, []);
    let labels = r#"id="ffffffffffff",runtime="docker""#;
    check(
        &values,
        labels,
        &[
            ("cpu_seconds_total", 1.5),
            ("cpu_throttled_seconds_total", 0.25),
            ("memory_bytes", 8192.0),
            ("oom_kills_total", 4.0),
            ("read_bytes_total", 8.0),
            ("written_bytes_total", 4.0),
            ("processes", 2.0),
        ],
    );
    check(&values, &format!(r#"{labels},state="paused""#), &[("state", 1.0)]);
    assert_eq!(values.len(), 9);
}

#[test]
fn no_more_than_there_is_room_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("cgroup.controllers", "memory\n")]);
    for n in 0..300 {
        write(dir.path(), &[(&format!("docker/{n:012x}{}/memory.current", "0".repeat(52)), "1\n")]);
    }
    let deep = vec!["a"; 40].join("/");
    write(dir.path(), &[(&format!("{deep}/{:064x}/memory.current", 1), "1\n")]);
    let (values, failures) = cycle(dir.path());
    assert_eq!(failures, []);
    let shown = values.keys().filter(|series| series.starts_with("lmagent_container_memory_bytes"));
    assert_eq!(shown.count(), 256);

    let (_, failures) = cycle(&dir.path().join("no-such"));
    assert_eq!(failures.len(), 1);
}
