//! The real binary against a collector in memory.

mod support;

use std::time::Duration;

use lm_model::{LossReason, Stream};
use support::collector::{Answer, Shared};
use support::{Daemon, Place, code, eventually, run};

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("line {number}")).collect()
}

fn append_numbered(place: &Place, from: usize, to: usize) {
    let text: String = numbered(from, to).iter().map(|line| format!("{line}\n")).collect();
    place.append("a.log", &text);
}

#[test]
fn once_delivers_everything_and_again_only_what_is_new() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    append_numbered(&place, 0, 10_000);
    assert_eq!(code(&["--once"], Some(&file)), 0);
    assert_eq!(shared.lines(), numbered(0, 10_000));
    let up = shared.with(|store| store.samples[r#"{__name__="lmagent_up", job="node"}"#].clone());
    assert_eq!(up, [1.0]);

    place.append("a.log", "incomplete");
    assert_eq!(code(&["--once"], Some(&file)), 0);
    assert_eq!(shared.lines(), numbered(0, 10_000));
    place.append("a.log", " no more\n");
    assert_eq!(code(&["--once"], Some(&file)), 0);
    assert_eq!(shared.lines()[10_000..], ["incomplete no more"]);
    let status = String::from_utf8(run(&["queue", "status"], Some(&file)).stdout).unwrap();
    assert!(status.starts_with("cluster: 6f6e65\n"), "{status}");
    assert_eq!(code(&["--flush"], Some(&file)), 0);
    assert!(shared.with(|store| store.losses.is_empty()));
}

#[test]
fn a_daemon_follows_files_through_restarts_of_both_sides() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let mut server = shared.listen(&place, 0);
    let port = server.local_addr().port();
    let file = place.config(port, "");
    let mut daemon = Daemon::start(&file);
    append_numbered(&place, 0, 100);
    eventually("first lines", || shared.lines().len() == 100);
    eventually("a heartbeat", || shared.with(|store| store.heartbeats > 0));

    // A line is there well within a second.
    let began = std::time::Instant::now();
    append_numbered(&place, 100, 101);
    eventually("one line", || shared.lines().len() == 101);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    for round in 1..4 {
        let end = 101 + round * 100;
        // The collector goes and comes back while lines are written.
        server.drain();
        append_numbered(&place, end - 100, end - 50);
        // And the agent is killed between two lines.
        daemon.kill();
        append_numbered(&place, end - 50, end);
        server = shared.listen(&place, port);
        daemon = Daemon::start(&file);
        eventually("all lines", || shared.lines().len() >= end);
    }
    assert_eq!(daemon.terminate(), 0);
    assert_eq!(shared.lines(), numbered(0, 401));
    assert!(shared.with(|store| store.losses.is_empty()));
}

#[test]
fn a_collector_that_forgot_its_dictionaries_is_told_them() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let daemon = Daemon::start(&place.config(server.local_addr().port(), ""));
    append_numbered(&place, 0, 10);
    eventually("first lines", || shared.lines().len() == 10);
    shared.with(|store| store.dictionaries.clear());
    append_numbered(&place, 10, 20);
    eventually("more lines", || shared.lines().len() == 20);
    assert_eq!(daemon.terminate(), 0);
    assert_eq!(shared.lines(), numbered(0, 20));
    shared.with(|store| {
        assert!(store.defines >= 1);
        assert_eq!(store.lines[19].0, place.path("a.log").to_str().unwrap());
    });
}

#[test]
fn retries_and_rejections() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    append_numbered(&place, 0, 10);
    shared.with(|store| store.next_answers = vec![Answer::RetryAfter(50), Answer::RetryAfter(50)]);
    assert_eq!(code(&["--once"], Some(&file)), 0);
    assert_eq!(shared.lines(), numbered(0, 10));
    assert!(shared.with(|store| store.next_answers.is_empty()));

    shared.with(|store| store.next_answers = vec![Answer::Reject]);
    assert_eq!(code(&["--once"], Some(&file)), 0);
    append_numbered(&place, 10, 20);
    assert_eq!(code(&["--once"], Some(&file)), 0);
    assert_eq!(shared.lines(), numbered(0, 20));
}

#[test]
fn a_collector_that_lost_what_it_had_is_told_of_the_hole() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let daemon = Daemon::start(&place.config(server.local_addr().port(), ""));
    append_numbered(&place, 0, 10);
    eventually("first lines", || shared.lines().len() == 10);
    let end = shared.with(|store| {
        let (key, end) = store.ends.iter_mut().find(|((stream, _), _)| *stream == Stream::Logs).unwrap();
        let (incarnation, had) = (key.1, std::mem::take(end));
        assert!(had > 0);
        (incarnation, had)
    });
    append_numbered(&place, 10, 20);
    eventually("more lines", || shared.lines().len() == 20);
    assert_eq!(daemon.terminate(), 0);
    let losses = shared.with(|store| store.losses.clone());
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].incarnation, losses[0].start, losses[0].end), (end.0, 0, end.1));
    assert_eq!((losses[0].stream, losses[0].reason), (Stream::Logs, LossReason::Corrupt));
}

#[test]
fn another_cluster_gets_nothing_until_the_queue_is_reassigned() {
    let (place, one, two) = (Place::new(), Shared::new("one"), Shared::new("two"));
    let server = one.listen(&place, 0);
    append_numbered(&place, 0, 10);
    assert_eq!(code(&["--once"], Some(&place.config(server.local_addr().port(), ""))), 0);
    drop(server);

    let server = two.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    append_numbered(&place, 10, 20);
    let refused = run(&["--once"], Some(&file));
    assert_eq!(refused.status.code(), Some(77));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("lm-agent queue reassign FILE"));
    assert_eq!(two.lines(), [""; 0]);

    assert_eq!(code(&["queue", "reassign"], Some(&file)), 0);
    assert_eq!(code(&["--flush"], Some(&file)), 0);
    assert_eq!(two.lines(), numbered(10, 20));
}

#[test]
fn a_denied_agent_keeps_its_queue() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    append_numbered(&place, 0, 10);
    shared.with(|store| store.deny = true);
    assert_eq!(code(&["--once"], Some(&file)), 77);
    shared.with(|store| store.deny = false);
    assert_eq!(code(&["--flush"], Some(&file)), 0);
    assert_eq!(shared.lines(), numbered(0, 10));
    place.write("token", "fedcba9876543210fedcba9876543210");
    append_numbered(&place, 10, 11);
    assert_eq!(code(&["--once"], Some(&file)), 77);
}

#[test]
fn a_full_queue_declares_what_it_drops() {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(9, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("'16MiB'", "'4MiB'").replace("'8s'", "'200ms'");
    let file = place.write("agent.toml", &text);
    // Lines that do not compress, three times what fits.
    let mut state = 1u64;
    let mut lines = 0;
    for _ in 0..40_000 {
        let mut line = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            line += &format!("{:016x}", state ^ (state >> 29));
        }
        place.append("a.log", &format!("{line}\n"));
        lines += 1;
    }
    assert_eq!(code(&["--once"], Some(&file)), 69);
    let port = server.local_addr().port();
    let text = std::fs::read_to_string(&file).unwrap().replace(":9'", &format!(":{port}'"));
    let file = place.write("agent.toml", &text.replace("'200ms'", "'8s'"));
    assert_eq!(code(&["--flush"], Some(&file)), 0);
    let lost: u64 = shared.with(|store| {
        let logs = store.losses.iter().filter(|loss| loss.stream == Stream::Logs);
        logs.inspect(|loss| assert_eq!(loss.reason, LossReason::QueueFullOldest)).map(|loss| loss.items).sum()
    });
    assert!(lost > 0);
    assert_eq!(shared.lines().len() as u64 + lost, lines);
}
