//! A full queue, under each policy: what is lost is declared exactly, and with
//! `refuse` nothing is.

use std::fs;
use std::path::Path;

use lm_tests::random::Random;
use lm_tests::{System, eventually};

use crate::{SOON, append};

/// Twice what the queue takes, compressed.
const LINES: usize = 12_000;
const QUEUE_BYTES: u64 = 4 << 20;

/// Numbered lines of a kilobyte that compress to half of that.
fn fill(log: &Path) {
    let mut random = Random::new(11);
    let mut text = String::new();
    for number in 0..LINES {
        text.push_str(&format!("n={number} "));
        for _ in 0..62 {
            text.push_str(&format!("{:016x}", random.number()));
        }
        text.push('\n');
    }
    append(log, &text);
}

fn queue_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Names of segments, oldest first.
fn segments(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.retain(|name| name.chars().any(|c| c.is_ascii_digit()));
    names.sort();
    names
}

/// Fills the queue while there is no collector, then lets everything flow.
/// Answers the numbers that are stored and the declared losses of the logs.
fn overflow(on_full: &str) -> (System, Vec<usize>, Vec<(String, u64)>) {
    let mut system = System::new(&["a"]);
    let agent = system.agent("a");
    agent.config.set_text("queue.on_full", on_full);
    agent.config.set("queue.bytes_max", QUEUE_BYTES);
    agent.config.set_text("queue.bytes_max", "4MiB");
    agent.config.set_text("queue.segment_bytes", "256KiB");
    agent.config.set("metrics.host", false);
    system.write_configs();
    fill(&system.agents[0].logs.join("app.log"));
    system.agents[0].process.start();
    let queue = system.agents[0].queue.clone();
    let first = eventually("there is a first segment", SOON, || {
        segments(&queue).into_iter().next().ok_or("none".to_owned())
    });
    eventually("the queue is full", SOON + SOON, || {
        let (bytes, segments) = (queue_bytes(&queue), segments(&queue));
        let is_full = match on_full {
            "drop_oldest" => segments.first() != Some(&first),
            // The rest is reserved for loss records.
            _ => bytes > QUEUE_BYTES - (1 << 20) - (512 << 10),
        };
        if is_full { Ok(()) } else { Err(format!("{bytes} bytes in {segments:?}")) }
    });
    assert!(queue_bytes(&queue) <= QUEUE_BYTES, "{} bytes", queue_bytes(&queue));
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
    eventually("every line is accounted for", SOON + SOON, || {
        let (stored, lost) = system.api.account("a", "logs")?;
        let sum = stored + lost.values().sum::<u64>();
        if sum == LINES as u64 { Ok(()) } else { Err(format!("{stored} stored, {lost:?}")) }
    });
    let (_, lost) = system.api.account("a", "logs").unwrap();
    let found = system.api.all_lines("{instance=\"a\"}", "n=").unwrap();
    let number = |line: &str| line.strip_prefix("n=").unwrap().split(' ').next().unwrap().parse().unwrap();
    let numbers: Vec<usize> = found.iter().map(|line| number(&line.line)).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "each line at most once and in order");
    (system, numbers, lost.into_iter().collect())
}

/// The agent's own counters agree with the collector's account.
#[track_caller]
fn expect_agent_agrees(system: &System) {
    for stream in ["logs", "metrics"] {
        eventually(&format!("agent and collector agree about {stream}"), SOON, || {
            let dropped = format!("sum(lmagent_dropped_items_total{{instance=\"a\",stream=\"{stream}\"}})");
            let dropped = system.api.value(&dropped)?;
            let (stored, lost) = system.api.account("a", stream)?;
            let lost: u64 = lost.values().sum();
            if dropped != lost as f64 {
                return Err(format!("the agent says {dropped} dropped, the collector {lost}"));
            }
            if stream == "logs" {
                let accepted =
                    system.api.value("lmagent_accepted_items_total{instance=\"a\",stream=\"logs\"}")?;
                if accepted != (stored + lost) as f64 {
                    return Err(format!("{accepted} accepted, {stored} stored, {lost} lost"));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn drop_oldest_loses_a_prefix_and_says_how_much() {
    let (system, numbers, lost) = overflow("drop_oldest");
    let [(reason, items)] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!(reason, "queue_full_oldest");
    assert_eq!(numbers.len() as u64 + items, LINES as u64);
    assert_eq!(numbers.last(), Some(&(LINES - 1)), "the newest is kept");
    expect_agent_agrees(&system);
}

#[test]
fn drop_newest_loses_what_comes_late_and_says_how_much() {
    let (system, numbers, lost) = overflow("drop_newest");
    let [(reason, items)] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!(reason, "queue_full_newest");
    assert_eq!(numbers.len() as u64 + items, LINES as u64);
    assert_eq!(numbers.first(), Some(&0), "the oldest is kept");
    expect_agent_agrees(&system);
}

#[test]
fn refuse_loses_nothing_because_the_file_is_the_buffer() {
    let (system, numbers, lost) = overflow("refuse");
    assert_eq!(lost, []);
    assert_eq!(numbers, (0..LINES).collect::<Vec<_>>());
    let (_, lost) = system.api.account("a", "metrics").unwrap();
    assert!(lost.is_empty(), "{lost:?}");
}
