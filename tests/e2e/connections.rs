//! What the collector's TCP listener bears: more connections than it takes,
//! and no file descriptor left for another.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Instant;

use lm_tests::namespace::find;
use lm_tests::{System, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::SOON;

/// Connects and says nothing.
fn silent(system: &System) -> TcpStream {
    TcpStream::connect(system.mesh_addr()).unwrap()
}

/// Whether the collector has dropped the connection already.
fn is_dropped(connection: &mut TcpStream) -> bool {
    connection.set_nonblocking(true).unwrap();
    match connection.read(&mut [0]) {
        Ok(0) => true,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
        Ok(_) => panic!("the collector speaks first"),
    }
}

#[track_caller]
fn expect_served_over_tcp(system: &System) {
    eventually("a session over TCP", SOON, || {
        let output = system.lmctl(&["status", "--transport", "tcp"]);
        if output.code == Some(0) { Ok(()) } else { Err(output.to_string()) }
    });
}

#[test]
fn silent_connections_over_the_bound_are_dropped_and_counted() {
    let Some(tool) = find("prlimit") else { panic!("util-linux is on every Debian") };
    let mut system = System::new(&[]);
    // A quarter of the limit may be half open.
    system.collector.set_wrapper(vec![tool.into(), "--nofile=400".into()]);
    system.collector.start();
    system.wait_collector();
    let mut connections: Vec<_> = (0..110).map(|_| silent(&system)).collect();
    eventually("ten are dropped", SOON, || {
        match connections.iter_mut().filter_map(|connection| is_dropped(connection).then_some(())).count() {
            10 => Ok(()),
            dropped => Err(format!("{dropped} are dropped")),
        }
    });
    // Over QUIC others are served meanwhile, and it is counted.
    let status = system.lmctl(&["status", "--transport", "quic", "--output", "json"]);
    status.expect_code(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["handshakes_refused"], 10, "{status}");
    // Who says nothing for five seconds is cut, and there is room.
    expect_served_over_tcp(&system);
    eventually("all are cut", SOON, || match connections.iter_mut().all(is_dropped) {
        true => Ok(()),
        false => Err("some are open".to_owned()),
    });
}

#[test]
fn without_file_descriptors_accepting_pauses_and_goes_on() {
    let mut system = System::new(&[]);
    system.collector.start();
    system.wait_collector();
    let pid = system.collector.pid().unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let process = rustix::process::Pid::from_raw(pid as i32);
    let before = getrlimit(Resource::Nofile);
    // Room for four, whatever it has open now.
    let few = Rlimit { current: Some(open + 4), ..before };
    prlimit(process, Resource::Nofile, few).unwrap();
    let began = Instant::now();
    let connections: Vec<_> = (0..8).map(|_| silent(&system)).collect();
    let failures =
        |system: &System| system.collector.log_text().matches("cannot accept a connection").count();
    eventually("accepting fails", SOON, || match failures(&system) {
        0..3 => Err(system.collector.log_text()),
        _ => Ok(()),
    });
    let (failed, elapsed) = (failures(&system), began.elapsed());
    let most = elapsed.as_millis() as usize / 100 + 1;
    assert!(failed <= most, "{failed} tries in {elapsed:?}: it does not pause");
    // It lives, and goes on where it was as soon as there is room.
    prlimit(process, Resource::Nofile, before).unwrap();
    expect_served_over_tcp(&system);
    drop(connections);
}
