//! The path: one host's numbers and lines, from agent to user.

use std::time::{Duration, Instant};

use lm_tests::api::{unix_ms, values_of};
use lm_tests::{System, eventually};

use crate::append;

#[test]
fn numbers_and_lines_arrive() {
    let mut system = System::new(&["web-1"]);
    let log = system.agents[0].logs.join("app.log");
    append(&log, "the first line\n");
    let began = Instant::now();
    system.start();
    for name in ["node_cpu_seconds_total", "node_memory_MemTotal_bytes", "node_load1", "lmagent_up"] {
        let left = Duration::from_secs(10).saturating_sub(began.elapsed());
        let found = eventually(&format!("{name} is there"), left, || {
            let found = system.api.query(name, unix_ms())?;
            if found.is_empty() { Err("no series".to_owned()) } else { Ok(found) }
        });
        assert_eq!(values_of(&found, "job"), ["node".to_owned()].into(), "{name}");
        assert_eq!(values_of(&found, "instance"), ["web-1".to_owned()].into(), "{name}");
    }
    assert_eq!(system.api.value("lmagent_up"), Ok(1.0));
    assert_eq!(system.api.value("count(lmagent_up)"), Ok(1.0));
    let path = "/api/v1/query?query=lmagent_up";
    assert!(system.api.get(path).unwrap().body.contains(r#""resultType":"vector""#));

    crate::expect_line(&system.api, "{instance=\"web-1\"}", "the first line");
    let mut live = system.api.live("contains=needle", None);
    let appended = Instant::now();
    append(&log, "hay\na needle in it\nhay\n");
    let event = live.next(Duration::from_secs(1)).expect("the line is on the live tail in a second");
    assert_eq!((&event.kind[..], event.line()), ("log", "a needle in it".to_owned()));
    assert!(event.id.is_some());
    let left = Duration::from_secs(1).saturating_sub(appended.elapsed());
    let found = eventually("the line is found in a second", left, || {
        let found = system.api.all_lines("{job=\"node\"}", "needle")?;
        if found.len() == 1 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    assert_eq!(found[0].line, "a needle in it");
    assert_eq!(found[0].labels["filename"], log.display().to_string());
    assert_eq!(found[0].labels["instance"], "web-1");
}

#[test]
fn a_range_is_answered() {
    let mut system = System::new(&["web-1"]);
    system.start();
    let start = unix_ms();
    // Every CPU spends a second a second, whatever on.
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    eventually("the rate of all CPU time", Duration::from_secs(15), || {
        let found = system.api.query_range(
            "sum by (instance) (rate(node_cpu_seconds_total[3s]))",
            start,
            unix_ms(),
            Duration::from_millis(500),
        )?;
        let last = found.first().and_then(|one| one.samples.last()).map_or(0.0, |(_, value)| *value);
        let is_right =
            found.len() == 1 && found[0].samples.len() > 5 && (0.6 * cpus..1.4 * cpus).contains(&last);
        if is_right { Ok(()) } else { Err(format!("{last} CPU seconds a second on {cpus} CPUs: {found:?}")) }
    });
    let labels = system.api.get("/api/v1/labels").unwrap().json();
    assert!(labels["data"].as_array().unwrap().iter().any(|name| name == "cpu"), "{labels}");
    let values = system.api.get("/api/v1/label/instance/values").unwrap().json();
    assert!(values["data"].as_array().unwrap().iter().any(|value| value == "web-1"), "{values}");
    let series = system.api.get("/api/v1/series?match[]=lmagent_up").unwrap().json();
    assert_eq!(series["data"][0]["instance"], "web-1", "{series}");
    assert_eq!(system.api.get("/api/v1/status/buildinfo").unwrap().status, 200);
    let wrong = system.api.get("/api/v1/query?query=sum(").unwrap();
    assert_eq!(wrong.status, 400, "{}", wrong.body);
}

#[test]
fn the_operator_sees_who_is_connected() {
    let mut system = System::new(&["web-1"]);
    system.start();
    let sessions = eventually("agent and gateway are listed", Duration::from_secs(15), || {
        let output = system.lmctl(&["sessions", "--output", "json"]);
        output.expect_code(0);
        let json: serde_json::Value =
            serde_json::from_str(&output.stdout).map_err(|error| error.to_string())?;
        let sessions = json["sessions"].as_array().cloned().unwrap_or_default();
        let role = |role: &str| sessions.iter().find(|session| session["role"] == role).cloned();
        match (role("agent"), role("gateway")) {
            (Some(agent), Some(gateway)) if agent["last_heartbeat_unix_ms"] != 0 => Ok((agent, gateway)),
            _ => Err(output.stdout),
        }
    });
    let (agent, gateway) = sessions;
    assert_eq!(agent["identity"], "web-1");
    assert_eq!(agent["product"], "lm-agent");
    assert_eq!(agent["transport"], "quic");
    assert_eq!(agent["queue_capacity_bytes"], 500_000_000);
    assert!(agent["queue_pending_bytes"].as_u64().unwrap() < 1_000_000, "{agent}");
    assert!(agent["bytes_received"].as_u64().unwrap() > 1000, "{agent}");
    assert!(agent["items"].as_u64().unwrap() > 100, "{agent}");
    assert_eq!(gateway["product"], "lm-gateway");
    let table = system.lmctl(&["sessions"]);
    table.expect_code(0);
    let row = table.stdout.lines().find(|line| line.contains("web-1")).expect("the agent has a row");
    assert!(row.contains("quic 127.0.0.1:"), "{row}");
    for head in ["PATH", "AGE", "QUEUED", "RECEIVED"] {
        assert!(table.stdout.lines().next().unwrap().contains(head), "{table}");
    }
    let refused =
        system.lmctl(&["sessions", "--token-file", &system.path("query-token").display().to_string()]);
    refused.expect_code(77).expect_stderr(&["denied"]);
}
