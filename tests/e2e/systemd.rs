//! What the processes and systemd agree on: units that give little away, the
//! notify protocol, credentials.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use lm_tests::namespace::find;
use lm_tests::process::{Service, binary};
use lm_tests::tools::{Strace, skipped};
use lm_tests::{System, eventually};

use crate::SOON;

/// Where a process believes systemd to be.
struct Notified(UnixDatagram);

impl Notified {
    /// Makes `process` tell us, with a watchdog of 600 ms.
    fn by(process: &mut Service, path: &Path) -> Notified {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        process.set_env(vec![
            ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
            ("WATCHDOG_USEC".to_owned(), "600000".to_owned()),
        ]);
        Notified(socket)
    }

    fn next(&self) -> Option<String> {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    /// Waits for a message that begins so; what comes before it is dropped.
    #[track_caller]
    fn expect(&self, begin: &str) -> String {
        eventually(&format!("{begin} is told"), SOON, || match self.next() {
            Some(message) if message.starts_with(begin) => Ok(message),
            other => Err(format!("{other:?}")),
        })
    }
}

#[test]
fn every_process_says_when_it_is_ready_alive_and_stopping() {
    let mut system = System::new(&["a"]);
    let dir = system.dir.clone();
    let told = Notified::by(&mut system.collector, &dir.join("c.sock"));
    system.collector.start();
    told.expect("READY=1");
    system.wait_collector();
    told.expect("WATCHDOG=1");
    system.collector.hang_up();
    assert!(told.expect("RELOADING=1").contains("MONOTONIC_USEC="));
    told.expect("READY=1");

    let of_gateway = Notified::by(&mut system.gateway, &dir.join("g.sock"));
    system.gateway.start();
    of_gateway.expect("READY=1");
    of_gateway.expect("WATCHDOG=1");
    system.gateway.hang_up();
    of_gateway.expect("RELOADING=1");
    of_gateway.expect("READY=1");

    let agent = &mut system.agents[0].process;
    let of_agent = Notified::by(agent, &dir.join("a.sock"));
    agent.start();
    of_agent.expect("READY=1");
    of_agent.expect("WATCHDOG=1");
    assert!(agent.stop().success());
    of_agent.expect("STOPPING=1");
    assert!(system.gateway.stop().success());
    of_gateway.expect("STOPPING=1");
    // Alive as long as it works, whoever comes and goes.
    told.expect("WATCHDOG=1");
    assert!(system.collector.stop().success());
    told.expect("STOPPING=1");
    while let Some(message) = told.next() {
        assert!(!message.contains("WATCHDOG=1"), "alive after its end");
    }
}

/// A disk that does not come back from its sixth sync holds the thread that
/// syncs: the queue's or the spool's.
fn a_thread_that_hangs_is_not_alive(whose: &str) {
    const WARNING: &str = "a part of this process does not answer its watchdog";
    let Some(strace) = Strace::find() else { return };
    let mut system = System::new(&["a"]);
    let (log, socket) = (system.path("strace"), system.path("n.sock"));
    let wrapper = strace.inject("fdatasync", "delay_enter=600000000:when=6+", None, &log);
    let process = match whose {
        "agent" => &mut system.agents[0].process,
        _ => &mut system.collector,
    };
    process.set_wrapper(wrapper);
    let told = Notified::by(process, &socket);
    system.start();
    let writer = system.agents[0].logs.join("app.log");
    told.expect("READY=1");
    told.expect("WATCHDOG=1");
    let process = match whose {
        "agent" => &system.agents[0].process,
        _ => &system.collector,
    };
    let warnings = |count: usize| {
        eventually("the watchdog is not answered", SOON, || {
            // Something to sync, until it hangs.
            let line = OpenOptions::new().append(true).create(true).open(&writer).unwrap();
            writeln!(&line, "a line").unwrap();
            let found = process.log_text().matches(WARNING).count();
            if found >= count { Ok(found) } else { Err(format!("{found} warnings")) }
        })
    };
    let found = warnings(1);
    while told.next().is_some() {}
    warnings(found + 3);
    let said: Vec<_> = std::iter::from_fn(|| told.next()).collect();
    assert!(!said.iter().any(|message| message.contains("WATCHDOG=1")), "alive while it hangs: {said:?}");
}

#[test]
fn an_agent_whose_queue_hangs_is_not_alive() {
    a_thread_that_hangs_is_not_alive("agent");
}

#[test]
fn a_collector_whose_ingest_hangs_is_not_alive() {
    a_thread_that_hangs_is_not_alive("collector");
}

#[test]
fn secrets_may_come_as_credentials() {
    let mut system = System::new(&[]);
    let credentials = system.path("credentials");
    fs::create_dir(&credentials).unwrap();
    for (name, from) in [
        ("key.pem", "tls/key.pem"),
        ("gateway-token", "gateway-token"),
        ("query-token", "query-token"),
        ("write-token", "write-token"),
        ("operator-token", "operator-token"),
    ] {
        fs::rename(system.path(from), credentials.join(name)).unwrap();
    }
    let env = vec![("CREDENTIALS_DIRECTORY".to_owned(), credentials.display().to_string())];
    system.collector.set_env(env.clone());
    system.gateway.set_env(env);
    system.start();
    assert_eq!(system.api.value("vector(2)"), Ok(2.0));
}

#[test]
fn units_give_little_away() {
    let Some(analyze) = find("systemd-analyze") else {
        return skipped("how exposed units are", "no systemd-analyze; on Debian: apt-get install systemd");
    };
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
    for (name, bound) in [("lm-collector", 15), ("lm-gateway", 15), ("lm-agent", 30)] {
        let file = units.join(format!("{name}.service"));
        let done = Command::new(&analyze)
            .args(["security", "--no-pager", "--offline=true"])
            .arg(format!("--threshold={bound}"))
            .arg(&file)
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&done.stdout);
        let level = shown.lines().last().unwrap_or_default();
        println!("{level}");
        assert!(done.status.success() && level.contains("Overall exposure level"), "{name}: {shown}");
    }
}

#[test]
fn units_are_understood() {
    let Some(analyze) = find("systemd-analyze") else {
        return skipped("whether systemd reads our units", "no systemd-analyze");
    };
    let dir = tempfile::tempdir().unwrap();
    let binaries = binary("lm-agent").parent().unwrap().display().to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd")).unwrap() {
        let from = entry.unwrap().path();
        let to = dir.path().join(from.file_name().unwrap());
        fs::write(&to, fs::read_to_string(&from).unwrap().replace("/usr/local/bin", &binaries)).unwrap();
        files.push(to);
    }
    assert_eq!(files.len(), 5);
    let done = Command::new(analyze).args(["verify", "--man=no"]).args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    // It may have something to say of other units of this machine.
    let of_ours: Vec<_> = said.lines().filter(|line| line.contains("lm-")).collect();
    assert!(of_ours.is_empty(), "{of_ours:#?}");
}
