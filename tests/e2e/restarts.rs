//! Every process is stopped and killed while lines are written: nothing is
//! lost or doubled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lm_tests::accounting::lines::LineWriter;
use lm_tests::process::Service;
use lm_tests::{System, eventually};

use crate::{SOON, expect_lines};

/// Writes lines while `disturb` does what it does, then looks for all of them.
fn while_lines_are_written(disturb: impl FnOnce(&mut System)) {
    let mut system = System::new(&["a"]);
    system.start();
    let stop = AtomicBool::new(false);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    let written = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                writer.write(5);
                std::thread::sleep(Duration::from_millis(10));
            }
            writer.written()
        });
        let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(&mut system)));
        stop.store(true, Ordering::Relaxed);
        let written = writing.join().unwrap();
        if let Err(panic) = disturbed {
            std::panic::resume_unwind(panic);
        }
        written
    });
    system.wait_ready();
    expect_lines(&system.api, "a", written, SOON + SOON);
    let (stored, lost) = system.api.account("a", "logs").unwrap();
    assert_eq!((stored, lost.len()), (written, 0), "{lost:?}");
}

fn stop(service: &mut Service) {
    let status = service.stop();
    assert_eq!(status.code(), Some(0), "{} on SIGTERM", service.name);
    service.start();
}

fn kill(service: &mut Service) {
    service.kill();
    service.start();
}

/// Long enough for some batches to be under way.
fn some_traffic() {
    std::thread::sleep(Duration::from_millis(400));
}

#[test]
fn the_agent_restarts() {
    while_lines_are_written(|system| {
        for restart in [kill, stop, kill] {
            some_traffic();
            restart(&mut system.agents[0].process);
        }
        some_traffic();
    });
}

#[test]
fn the_collector_restarts() {
    while_lines_are_written(|system| {
        for restart in [kill, stop] {
            some_traffic();
            restart(&mut system.collector);
            system.wait_collector();
        }
        some_traffic();
    });
}

#[test]
fn the_gateway_restarts() {
    while_lines_are_written(|system| {
        for restart in [kill, stop] {
            some_traffic();
            restart(&mut system.gateway);
            system.wait_ready();
        }
    });
}

#[test]
fn all_are_killed_at_once() {
    while_lines_are_written(|system| {
        some_traffic();
        system.collector.kill();
        system.gateway.kill();
        system.agents[0].process.kill();
        system.start();
        some_traffic();
    });
}

#[test]
fn a_killed_collector_is_noticed_at_once() {
    // Peers learn from the new process that their connection is gone; they
    // need not wait for an answer that never comes.
    let mut system = System::new(&["a"]);
    system.start();
    system.collector.kill();
    system.collector.start();
    system.wait_collector();
    let began = Instant::now();
    eventually("agent and gateway have new sessions", Duration::from_secs(6), || {
        let log = system.collector.log_text();
        let (_, log) = log.rsplit_once("SIGKILL").unwrap();
        // A question makes the idle gateway send something.
        let asked = system.api.losses();
        let has = |role: &str| log.contains(&format!("role=\"{role}\""));
        if has("agent") && has("gateway") { Ok(()) } else { Err(format!("{asked:?}\n{log}")) }
    });
    assert!(began.elapsed() < Duration::from_secs(8), "a question hung for {:?}", began.elapsed());
}
