//! "Node Exporter Full" on the data of an agent: each expression is answered,
//! and is not empty where all that it names is there.
//!
//! `LM_GRAFANA_DASHBOARD=FILE` asks the expressions of a dashboard's JSON as
//! well, such as the original (rfmoz/grafana-dashboards,
//! `prometheus/node-exporter-full.json`).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use lm_tests::System;
use lm_tests::api::unix_ms;
use serde_json::Value;

use crate::{SOON, eventually};

const OURS: &str = include_str!("../data/node-dashboard.txt");

/// Variables replaced as Grafana does it.
fn fill(text: &str) -> String {
    let replaced = [
        ("$__rate_interval", "1m0s"),
        ("$__interval", "15s"),
        ("$__range", "3600s"),
        ("$node:$port", "web-1"),
        ("${node}", "web-1"),
        ("$node", "web-1"),
        ("$nodename", ".+"),
        ("$instance", "web-1"),
        ("$job", "node"),
    ];
    replaced.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// All values of `expr`, wherever they are.
fn expressions(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(pairs) => {
            for (key, value) in pairs {
                match value {
                    Value::String(text) if key == "expr" => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

fn metrics(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("node_") || word.starts_with("process_")).collect()
}

#[test]
fn every_expression_is_answered() {
    let mut system = System::new(&["web-1"]);
    system.start();
    eventually("there is a rate", SOON, || {
        system.api.value("count(rate(node_cpu_seconds_total[1m])) > 0").map(drop)
    });
    let mut asked: Vec<String> =
        OURS.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert!(asked.len() > 260, "{}", asked.len());
    if let Some(file) = std::env::var_os("LM_GRAFANA_DASHBOARD") {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let before = asked.len();
        expressions(&serde_json::from_str(&text).expect("a dashboard is JSON"), &mut asked);
        println!("{} expressions of {}", asked.len() - before, file.display());
    }
    let names = system.api.get("/api/v1/label/__name__/values").unwrap().json()["data"].take();
    let names: BTreeSet<&str> = names.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let (mut wrong, mut empty, mut answered) = (Vec::new(), Vec::new(), 0);
    for expression in &asked {
        // A step at the end, with what has just been measured.
        let (now, step) = (unix_ms(), Duration::from_secs(15));
        match system.api.query_range(&fill(expression), now - 60_000, now, step) {
            Err(error) => wrong.push(error),
            Ok(found) if !found.is_empty() => answered += 1,
            // Without matchers of its own, what is there must be shown.
            Ok(_) => {
                let plain = !expression.contains(['~', '!', '>'])
                    && !expression.contains("operstate=")
                    && !expression.contains("mountpoint=");
                let is_all_there = metrics(expression).iter().all(|metric| names.contains(metric));
                if plain && is_all_there && !expression.contains("mode=\"nice\"") {
                    empty.push(expression);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(empty.is_empty(), "{empty:#?}");
    println!("{answered} of {} have data on this host", asked.len());
    assert!(answered > 80, "{answered} of {} have data", asked.len());
}
