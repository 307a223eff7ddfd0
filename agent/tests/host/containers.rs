//! Containers, in control groups of our own making.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
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

/// A daemon that answers each connection with the next of `answers`, and what
/// it was asked.
fn daemon(socket: &Path, answers: Vec<String>) -> std::thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let answer = |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            let mut byte = [0];
            while !question.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                question.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(question).unwrap()
        };
        answers.into_iter().map(answer).collect()
    })
}

#[test]
fn names_and_states_from_the_docker_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (web, job) = ("0123456789abcdef".repeat(4), "f".repeat(64));
    let group = format!("system.slice/docker-{web}.scope/memory.current");
    write(dir.path(), &[("cgroup.controllers", "memory\n"), (&group, "4096\n")]);
    let list = format!(
        r#"[{{"Id":"{web}","Names":["/web"],"State":"running"}},{{"Id":"{job}","Names":["/job"],"State":"exited"}}]"#
    );
    let socket = dir.path().join("docker.sock");
    let answers = vec![
        format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{list}"),
        "HTTP/1.0 500 Internal Server Error\r\n\r\n".to_owned(),
        "HTTP/1.0 200 OK\r\n\r\n[]".to_owned(),
    ];
    let daemon = daemon(&socket, answers);
    let mut machine = Machine::new(HostOptions {
        sysfs: dir.path().to_owned(),
        collectors: ["containers"].into(),
        docker_socket: Some(socket.clone()),
        ..HostOptions::default()
    });

    let (named, failures) = machine.cycle();
    assert_eq!(failures, []);
    assert_eq!(machine.left_out, [""; 0]);
    let labels = r#"id="0123456789ab",name="web",runtime="docker""#;
    check(&named, labels, &[("memory_bytes", 4096.0)]);
    check(&named, &format!(r#"{labels},state="running""#), &[("state", 1.0)]);
    check(&named, &format!(r#"{labels},state="exited""#), &[("state", 0.0)]);
    let labels = r#"id="ffffffffffff",name="job",runtime="docker""#;
    check(&named, &format!(r#"{labels},state="exited""#), &[("state", 1.0)]);
    check(&named, &format!(r#"{labels},state="running""#), &[("state", 0.0)]);
    // An answer counts for a while.
    machine.now_ms += 14_000;
    assert_eq!(machine.cycle().0.keys().collect::<Vec<_>>(), named.keys().collect::<Vec<_>>());
    // While the daemon is in trouble, names stay.
    machine.now_ms += 1_000;
    assert_eq!(machine.cycle().0.keys().collect::<Vec<_>>(), named.keys().collect::<Vec<_>>());
    assert_eq!(
        machine.left_out,
        [format!("{}: answered \"HTTP/1.0 500 Internal Server Error\"", socket.display())]
    );
    machine.now_ms += 15_000;
    let (nameless, _) = machine.cycle();
    assert!(nameless.contains_key(r#"lmagent_container_memory_bytes{id="0123456789ab",runtime="docker"}"#));
    assert!(!nameless.keys().any(|series| series.contains("name=")), "{nameless:#?}");

    let asked = daemon.join().unwrap();
    for question in asked {
        let expected = "GET /containers/json?all=1 HTTP/1.0\r\n";
        assert!(question.starts_with(expected) && !question.contains("Content-Length"), "{question}");
    }
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
