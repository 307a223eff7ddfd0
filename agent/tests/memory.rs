//! Memory and processor time of a running agent. Ignored by default: it takes
//! a while, and only a release build says something:
//! `LM_AGENT=target/release/lm-agent cargo test -p lm-agent --test memory -- --ignored --nocapture`

mod support;

use std::process::Command;
use std::time::Duration;

use support::collector::Shared;
use support::{Place, eventually};

/// The target of the design.
const RESIDENT_KIB_MAX: u64 = 10 << 10;

#[test]
#[ignore = "measures a release build"]
fn resident_memory() {
    let binary = std::env::var("LM_AGENT").expect("LM_AGENT names a release build of the agent");
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    let mut agent = Command::new(binary).arg("--daemon").arg(&file).spawn().unwrap();
    eventually("a session", || shared.with(|store| store.heartbeats > 0));
    // 20 s of 1,000 lines/s, then a backlog of 20 MB at once.
    for second in 0..20 {
        for tick in 0..10 {
            let text: String =
                (0..100).map(|n| format!("{second}.{tick}.{n} {}\n", "x".repeat(90))).collect();
            place.append("a.log", &text);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    eventually("all lines", || shared.lines().len() == 20_000);
    let steady = resident_kib(agent.id());
    let cpu = cpu_ticks(agent.id());
    let text: String = (0..200_000).map(|n| format!("{n} {}\n", "y".repeat(90))).collect();
    place.append("a.log", &text);
    eventually("the backlog", || shared.lines().len() == 220_000);
    let backlog = resident_kib(agent.id());
    println!(
        "resident: {steady} KiB at 1,000 lines/s, {backlog} KiB after a backlog; {cpu} CPU ticks in 20 s"
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(steady <= RESIDENT_KIB_MAX, "{steady} KiB");
}

/// One measurement of the host every five seconds, and a log file that nobody
/// writes to: queue, sync, delivery and heartbeats included.
#[test]
#[ignore = "measures a release build"]
fn idle_processor_time() {
    let binary = std::env::var("LM_AGENT").expect("LM_AGENT names a release build of the agent");
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("interval = '1s'", "interval = '5s'")).unwrap();
    place.append("a.log", "a line\n");
    let mut agent = Command::new(binary).arg("--daemon").arg(&file).spawn().unwrap();
    eventually("a line", || shared.lines().len() == 1);
    std::thread::sleep(Duration::from_secs(7));
    let before = (cpu_ticks(agent.id()), runtime(agent.id()));
    std::thread::sleep(Duration::from_secs(60));
    let after = (cpu_ticks(agent.id()), runtime(agent.id()));
    println!("in 60 s: {} CPU ticks", after.0 - before.0);
    for ((name, after), (_, before)) in after.1.iter().zip(&before.1) {
        println!("in 60 s: {:?} in thread {name}", *after - *before);
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// What each thread has run, more exactly than in ticks.
fn runtime(pid: u32) -> Vec<(String, Duration)> {
    let read = |task: &std::path::Path| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap();
        let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
        let nanos = stat.split_whitespace().next().unwrap().parse().unwrap();
        (name.trim().to_owned(), Duration::from_nanos(nanos))
    };
    let mut tasks: Vec<_> =
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path()).collect();
    tasks.sort();
    tasks.iter().map(|task| read(task)).collect()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
