//! Units, as a program in systemctl's place says them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lm_agent::sources::host::HostOptions;

use crate::machine::{Machine, Values};

const LIST: &str = "\
dev-sda1.device  loaded    active   plugged   /dev/sda1
ssh.service      loaded    active   running   OpenBSD Secure Shell server
broken.service   loaded    failed   failed    Broken
gone.service     not-found inactive dead      gone.service
docker.socket    loaded    active   listening Docker Socket
daily.timer      loaded    active   waiting   Daily
never.timer      loaded    active   waiting   Never
odd
worse loaded melting x
";
const SHOW: &str = "\
Type=notify
Id=ssh.service

Id=docker.socket
NConnections=1
NAccepted=12
NRefused=3

LastTriggerUSec=@1700000000
Id=daily.timer

LastTriggerUSec=
Id=never.timer
";
const MANAGER: &str = "Version=252.38-1~deb12u1\nVirtualization=kvm\nSystemState=degraded\nsomething else\n";

/// A machine whose systemctl prints these, and counts in `asked` how often.
fn machine(dir: &Path, show: &str) -> Machine {
    fs::write(dir.join("list"), LIST).unwrap();
    fs::write(dir.join("manager"), MANAGER).unwrap();
    let systemctl = dir.join("systemctl");
    let script = format!(
        "#!/bin/sh\ncd {}\necho \"$1 $2\" >> asked\ncase \"$1 $2\" in\n\
         list-units*) cat list ;;\nshow\\ --no-pager) cat manager ;;\nshow*) {show} ;;\nesac\n",
        dir.display()
    );
    fs::write(&systemctl, script).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    Machine::new(HostOptions { systemctl, collectors: ["systemd"].into(), ..HostOptions::default() })
}

fn check(values: &Values, series: &str, expected: Option<f64>) {
    assert_eq!(values.get(series).copied(), expected, "{series}");
}

#[test]
fn units_and_their_states() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("show"), SHOW).unwrap();
    let mut machine = machine(dir.path(), "cat show");
    let (values, failures) = machine.cycle();
    assert_eq!((failures, machine.left_out.len()), (vec![], 0));

    check(&values, r#"node_systemd_version{version="252.38-1~deb12u1"}"#, Some(252.0));
    check(&values, r#"node_systemd_virtualization_info{virtualization_type="kvm"}"#, Some(1.0));
    check(&values, "node_systemd_system_running", Some(0.0));
    check(&values, r#"node_systemd_units{state="active"}"#, Some(5.0));
    check(&values, r#"node_systemd_units{state="failed"}"#, Some(1.0));
    check(&values, r#"node_systemd_units{state="inactive"}"#, Some(1.0));
    check(&values, r#"node_systemd_unit_state{name="ssh.service",state="active",type="notify"}"#, Some(1.0));
    check(&values, r#"node_systemd_unit_state{name="ssh.service",state="failed",type="notify"}"#, Some(0.0));
    check(&values, r#"node_systemd_unit_state{name="broken.service",state="failed"}"#, Some(1.0));
    check(&values, r#"node_systemd_socket_accepted_connections_total{name="docker.socket"}"#, Some(12.0));
    check(&values, r#"node_systemd_socket_current_connections{name="docker.socket"}"#, Some(1.0));
    check(&values, r#"node_systemd_socket_refused_connections_total{name="docker.socket"}"#, Some(3.0));
    check(&values, r#"node_systemd_timer_last_trigger_seconds{name="daily.timer"}"#, Some(1.7e9));
    check(&values, r#"node_systemd_timer_last_trigger_seconds{name="never.timer"}"#, Some(0.0));
    let is_hidden =
        |series: &String| ["sda1", "gone", "odd", "worse"].iter().any(|unit| series.contains(unit));
    assert!(!values.keys().any(is_hidden));
}

#[test]
fn it_is_asked_once_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("show"), SHOW).unwrap();
    let mut machine = machine(dir.path(), "cat show");
    let asked = || fs::read_to_string(dir.path().join("asked")).unwrap().lines().count();
    let first = machine.cycle().0;
    assert_eq!(asked(), 3);
    assert_eq!(machine.cycle().0.len(), first.len());
    assert_eq!(asked(), 3);
    machine.now_ms += 60_000;
    assert_eq!(machine.cycle().0.len(), first.len());
    assert_eq!(asked(), 6);
}

#[test]
fn an_old_systemctl_gives_states_and_a_missing_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = machine(dir.path(), "exit 1");
    let (values, failures) = old.cycle();
    assert_eq!(failures, []);
    check(&values, r#"node_systemd_unit_state{name="ssh.service",state="active"}"#, Some(1.0));
    let path = dir.path().join("systemctl");
    assert_eq!(old.left_out, [format!("{}: exit status: 1; run it by hand to see why", path.display())]);

    fs::remove_file(&path).unwrap();
    let options =
        HostOptions { systemctl: path.clone(), collectors: ["systemd"].into(), ..HostOptions::default() };
    let (values, failures) = Machine::new(options).cycle();
    assert!(!values.keys().any(|series| series.starts_with("node_systemd_")));
    assert_eq!(failures[0].1, format!("{}: No such file or directory (os error 2)", path.display()));
}
