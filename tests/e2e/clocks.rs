//! Clocks that are wrong, and clocks that jump: nothing is lost, everything
//! is found at the time that it says, and somebody is told.

use std::path::Path;

use lm_tests::accounting::Violations;
use lm_tests::accounting::lines::{self, LineWriter};
use lm_tests::api::{LogLine, unix_ms, unix_nano};
use lm_tests::tools::{FakeTime, MovableClock};
use lm_tests::{System, SystemOptions, eventually};

use crate::SOON;

const DAY_MS: i64 = 86_400_000;

/// A system with the agent `a` whose certificates hold for some days before
/// now, too: a clock before them opens no session.
fn system(time: &FakeTime) -> System {
    let mut system = System::with(SystemOptions {
        agents: vec!["a".to_owned()],
        setup_env: time.fixed("-3d"),
        ..SystemOptions::default()
    });
    system.collector_config.set_text("storage.retention", "48h");
    system.write_configs();
    system
}

fn start_all_but_agent(system: &mut System) {
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
}

/// Waits until every line of the producers is stored and nothing is lost.
#[track_caller]
fn expect_stored(system: &System, written: u64) {
    eventually("every line is stored", SOON, || match system.api.account("a", "logs")? {
        (stored, lost) if stored == written && lost.is_empty() => Ok(()),
        other => Err(format!("{other:?} of {written}")),
    });
}

/// All lines, whatever time they have: each of every producer once.
#[track_caller]
fn expect_all(system: &System, written: &[u64]) {
    let (start, end) = (unix_nano() - 3 * DAY_MS * 1_000_000, unix_nano() + 5 * DAY_MS * 1_000_000);
    for (producer, written) in written.iter().enumerate() {
        let text = format!("p={producer} ");
        let found = eventually("every line is found", SOON, || {
            let found: Vec<LogLine> = system.api.lines_between("{instance=\"a\"}", &text, start, end)?;
            if found.len() as u64 >= *written {
                Ok(found)
            } else {
                Err(format!("{} of {written}", found.len()))
            }
        });
        // Order is that of times here, and clocks went back.
        let mut violations = Violations::default();
        let mut in_order = found;
        in_order.sort_by_key(|line| lines::parse(&line.line));
        lines::check(&in_order, producer as u32, *written, &mut violations);
        assert!(violations.is_empty(), "{:#?}", violations.into_vec());
    }
}

#[track_caller]
fn expect_log(text: impl Fn() -> String, part: &str) {
    eventually(&format!("the log says {part:?}"), SOON, || {
        let text = text();
        if text.contains(part) { Ok(()) } else { Err(text.lines().rev().take(10).collect()) }
    });
}

#[track_caller]
fn restart_collector(system: &mut System) {
    system.collector.kill();
    system.collector.start();
    system.wait_collector();
    eventually("the gateway has a session again", SOON, || system.api.losses());
}

#[test]
fn an_agent_two_days_ahead_is_stored_flagged_and_found() {
    let Some(time) = FakeTime::find() else { return };
    let mut system = system(&time);
    start_all_but_agent(&mut system);
    let mut tail = system.api.live("", None);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(50);
    system.agents[0].process.set_env(time.fixed("+2d"));
    system.agents[0].process.start();
    expect_stored(&system, 50);
    let found = eventually("samples are found where they are", SOON, || {
        let found = system.api.query("lmagent_up{instance=\"a\"}", unix_ms() + 2 * DAY_MS)?;
        if found.is_empty() { Err("none".to_owned()) } else { Ok(found) }
    });
    assert_eq!(found[0].samples[0].1, 1.0);
    eventually("they are counted", SOON, || {
        let lines = system.api.value("lmcollector_future_log_lines_total{agent=\"a\"}")?;
        let samples = system.api.value("lmcollector_future_samples_total{agent=\"a\"}")?;
        if lines == 50.0 && samples > 100.0 {
            Ok(())
        } else {
            Err(format!("{lines} lines, {samples} samples"))
        }
    });
    let notice = loop {
        let event = tail.next(SOON).expect("a notice comes");
        if event.kind == "notice" {
            break event.data;
        }
    };
    assert!(notice.contains("time_in_future") && notice.contains("\"a\""), "{notice}");

    // Set right, with the queue that it had.
    system.agents[0].process.kill();
    system.agents[0].process.set_env(Vec::new());
    system.agents[0].process.start();
    system.wait_agent("a");
    writer.write(50);
    expect_stored(&system, 100);
    expect_all(&system, &[100]);
    restart_collector(&mut system);
    expect_stored(&system, 100);
    expect_all(&system, &[100]);
}

#[test]
fn an_agent_a_day_behind_goes_on_also_without_its_queue() {
    let Some(time) = FakeTime::find() else { return };
    let mut system = system(&time);
    start_all_but_agent(&mut system);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(50);
    system.agents[0].process.start();
    expect_stored(&system, 50);

    system.agents[0].process.kill();
    system.agents[0].process.set_env(time.fixed("-1d"));
    system.agents[0].process.start();
    writer.write(50);
    expect_stored(&system, 100);

    // The queue is gone: nothing on the host knows a later time any more.
    system.agents[0].process.kill();
    std::fs::remove_dir_all(&system.agents[0].queue).unwrap();
    // With the positions in it, so that an old file would be read again.
    std::fs::remove_file(system.agents[0].logs.join("app.log")).unwrap();
    let sessions = |system: &System| system.agents[0].process.log_text().matches("session opened").count();
    let before = sessions(&system);
    system.agents[0].process.start();
    eventually("it has a session", SOON, || {
        if sessions(&system) > before { Ok(()) } else { Err(system.agents[0].process.tail()) }
    });
    let mut writer = LineWriter::new(&system.agents[0].logs, 1);
    writer.write(50);
    expect_stored(&system, 150);
    expect_all(&system, &[100, 50]);
    let (stored, _) = system.api.account("a", "metrics").unwrap();
    eventually("measurements flow", SOON, || match system.api.account("a", "metrics")?.0 {
        now if now > stored => Ok(()),
        now => Err(format!("{now} samples")),
    });
    // And with every later start.
    system.agents[0].process.kill();
    system.agents[0].process.start();
    writer.write(50);
    expect_stored(&system, 200);
    expect_all(&system, &[100, 100]);
}

#[test]
fn an_agent_whose_clock_jumps_loses_nothing() {
    let Some(time) = FakeTime::find() else { return };
    let mut system = system(&time);
    let clock = MovableClock::new(system.path("clock"));
    system.agents[0].process.set_env(time.movable(&clock));
    start_all_but_agent(&mut system);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    system.agents[0].process.start();
    system.wait_agent("a");
    for offset in ["+0", "+2d", "-1d", "+0"] {
        clock.set(offset);
        writer.write(50);
        expect_stored(&system, writer.written());
    }
    expect_all(&system, &[200]);
    let log = system.agents[0].process.log_text();
    assert_eq!(log.matches("session opened").count(), 1, "no clock ends a session:\n{log}");
    restart_collector(&mut system);
    expect_all(&system, &[200]);
}

#[test]
fn a_collector_whose_clock_jumps_keeps_what_it_has() {
    let Some(time) = FakeTime::find() else { return };
    let mut system = System::new(&["a"]);
    let clock = MovableClock::new(system.path("clock"));
    system.collector.set_env(time.movable(&clock));
    start_all_but_agent(&mut system);
    system.agents[0].process.start();
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(100);
    expect_stored(&system, 100);

    // Far beyond the retention of six hours.
    clock.set("+2d");
    writer.write(50);
    expect_log(|| system.collector.log_text(), "s ahead of what was expected");
    expect_housekeeping(&system, 2 * DAY_MS);
    expect_stored(&system, 150);
    expect_all(&system, &[150]);

    clock.set("-1d");
    writer.write(50);
    expect_log(|| system.collector.log_text(), "clock went back by");
    expect_housekeeping(&system, -DAY_MS);
    expect_stored(&system, 200);
    expect_all(&system, &[200]);

    clock.set("+0");
    writer.write(50);
    expect_housekeeping(&system, 0);
    expect_stored(&system, 250);

    // A start cannot tell a jump from a long rest: nothing goes at once.
    clock.set("+2d");
    restart_collector(&mut system);
    expect_housekeeping(&system, 2 * DAY_MS);
    writer.write(50);
    expect_stored(&system, 300);
    expect_all(&system, &[300]);
    assert!(segments(&system.path("collector/spool")) > 1, "the spool is still there");
}

/// Retention runs, by the collector's own clock.
#[track_caller]
fn expect_housekeeping(system: &System, offset_ms: i64) {
    let after = unix_ms() + offset_ms;
    eventually("the collector housekeeps", SOON, || {
        let ran = format!("lmcollector_retention_run_timestamp_seconds > {}", after / 1000 + 1);
        // Its clock, a little later: a plain name looks back five minutes.
        let found = system.api.query(&ran, after + 20_000)?;
        if found.is_empty() { Err("no figures".to_owned()) } else { Ok(()) }
    });
}

fn segments(dir: &Path) -> usize {
    std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|e| e == "seg"))
        .count()
}
