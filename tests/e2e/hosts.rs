//! `up`: the collector says which hosts are there, without a rule a host.

use std::fs;
use std::time::{Duration, Instant};

use lm_tests::accounting::lines::LineWriter;
use lm_tests::api::unix_ms;
use lm_tests::{System, eventually};

use crate::transport::apart;
use crate::{SOON, expect_lines};

/// Three heartbeats, and a little for the answer.
const DOWN_WITHIN: Duration = Duration::from_secs(31);
/// How long a collector waits for its hosts after a start, and two looks more.
const GRACE: Duration = Duration::from_secs(60);

#[track_caller]
fn expect_up(system: &System, agent: &str, expected: f64, within: Duration) {
    eventually(&format!("up of {agent} is {expected}"), within, || {
        let found = system.api.value(&format!("up{{instance=\"{agent}\"}}"))?;
        if found == expected { Ok(()) } else { Err(found.to_string()) }
    });
}

/// Gives an agent labels, before anything runs.
fn give_labels(system: &System, agent: &str, labels: &str) {
    let file = system.path("ingest-tokens.toml");
    let entry = format!("agent_id = \"{agent}\"\n");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&entry, &format!("{entry}labels = {labels}\n"))).unwrap();
}

#[test]
fn a_host_that_hangs_is_down_until_it_goes_on() {
    let mut system = System::new(&["a", "b"]);
    system.agent("b").config.set_text("metrics.job", "edge");
    system.write_configs();
    give_labels(&system, "b", "{ env = \"prod\" }");
    system.start();
    let began = Instant::now();
    expect_up(&system, "a", 1.0, SOON);
    expect_up(&system, "b", 1.0, SOON);
    let labels = |expression: &str| -> Vec<String> {
        let found = system.api.query(expression, unix_ms()).unwrap();
        let text = |labels: &lm_tests::api::Labels| {
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        };
        let mut found: Vec<_> = found.iter().map(|series| text(&series.labels)).collect();
        found.sort();
        found
    };
    assert_eq!(labels("up"), ["__name__=up,env=prod,instance=b,job=edge", "__name__=up,instance=a,job=node"]);
    // The same job and instance as what the agent itself sends.
    assert_eq!(labels("up == on (job, instance, env) group_left lmagent_up").len(), 2);
    let skew = system.api.value("lmcollector_host_clock_skew_seconds{instance=\"a\"}").unwrap();
    assert!(skew.abs() < 1.0, "two processes of one host: {skew}");

    system.agents[0].process.pause();
    expect_up(&system, "a", 0.0, DOWN_WITHIN);
    let age = system.api.value("lmcollector_host_last_seen_age_seconds{instance=\"a\"}").unwrap();
    assert!((20.0..40.0).contains(&age), "{age}");
    assert_eq!(
        labels("lmcollector_host_clock_skew_seconds"),
        ["__name__=lmcollector_host_clock_skew_seconds,env=prod,instance=b,job=edge"]
    );
    assert_eq!(system.api.value("lmcollector_hosts{state=\"down\"}"), Ok(1.0));

    // Down when the collector comes back, and said so by the new one too.
    system.collector.kill();
    system.collector.start();
    system.wait_collector();
    let restarted = unix_ms();
    expect_up(&system, "a", 0.0, SOON);
    eventually("the new collector says that a is down", GRACE, || {
        // Nothing that the old one wrote.
        let since = (unix_ms() - restarted) / 1000;
        if since < 3 {
            return Err("too soon to tell".to_owned());
        }
        let found = system.api.value(&format!("max_over_time(up{{instance=\"a\"}}[{}s])", since - 1))?;
        if found == 0.0 { Ok(()) } else { Err(found.to_string()) }
    });
    system.agents[0].process.go_on();
    expect_up(&system, "a", 1.0, SOON);

    // Nothing of this was the other one's: nor was it called down by a restart.
    let seconds = began.elapsed().as_secs();
    assert_eq!(system.api.value(&format!("min_over_time(up{{instance=\"b\"}}[{seconds}s])")), Ok(1.0));

    // Who may not come any more is not missed either.
    system.lmctl(&["deny", "b", "--reason", "gone"]).expect_code(0);
    eventually("up of b ends", SOON, || {
        let found = system.api.query("up{instance=\"b\"}", unix_ms())?;
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn a_host_that_is_unplugged_is_down_and_its_backlog_arrives_later() {
    let Some((system, namespace)) = apart(&[]) else { return };
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(100);
    expect_lines(&system.api, "a", writer.written(), SOON);
    expect_up(&system, "a", 1.0, SOON);
    namespace.unplug();
    writer.write(100);
    expect_up(&system, "a", 0.0, DOWN_WITHIN);
    namespace.plug_in();
    // It waits at most 30 s between two tries.
    expect_up(&system, "a", 1.0, Duration::from_secs(45));
    expect_lines(&system.api, "a", writer.written(), SOON);
}

#[test]
fn own_figures_outlive_the_collector_and_are_there_once() {
    let mut system = System::new(&[]);
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
    let samples = |system: &System| system.api.value("count_over_time(lmcollector_up[1h])");
    eventually("figures are stored", SOON, || match samples(&system)? {
        count if count >= 2.0 => Ok(()),
        count => Err(count.to_string()),
    });
    let before = system.api.query("lmcollector_up[1h]", unix_ms()).unwrap().remove(0).samples;
    system.collector.kill();
    system.collector.start();
    system.wait_ready();
    eventually("the new collector goes on", SOON, || {
        let found = system.api.query("lmcollector_up[1h]", unix_ms())?.remove(0).samples;
        assert_eq!(found[..before.len()], before, "what was there is there, once");
        if found.len() > before.len() { Ok(()) } else { Err(found.len().to_string()) }
    });
    let own = system.api.losses().unwrap();
    assert!(own.iter().all(|stream| stream.agent == "@collector" && stream.lost.is_empty()), "{own:?}");
}
