//! Dashboards: what is built in shows something, and mistakes are found.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use lm_tests::System;
use lm_tests::api::unix_ms;
use lm_tests::http::escape;
use lm_tests::process::{binary, run};
use serde_json::Value;

use crate::{SOON, append, eventually};

const WITHIN: Duration = Duration::from_secs(20);

/// Those that Grafana can show; the other has log lines alone.
const FOR_GRAFANA: [&str; 5] = ["fleet", "host", "lightmetrics", "queues", "sessions"];

/// A whole custom definition.
const CUSTOM: &str = r#"id = "up"
title = "Up"
[[rows]]
[[rows.panels]]
title = "Agents"
kind = "stat"
queries = [{ expr = "sum(lmagent_up)", legend = "all" }]
thresholds = [{ from = 0, level = "critical" }, { from = 0.5, level = "ok" }]
[[rows.panels]]
title = "Lines"
description = "a\nb"
kind = "logs"
width = 12
logs = { selector = '{instance=~"web.*"}', contains = ["a b"], exclude = ["c"], regex = "d$" }
"#;

/// The entries of a list, which is never empty here.
#[track_caller]
fn list<'v>(of: &'v Value, key: &str) -> &'v Vec<Value> {
    let found = of[key].as_array().unwrap_or_else(|| panic!("no {key} in {of}"));
    assert!(!found.is_empty(), "{key} of {of}");
    found
}

#[track_caller]
fn text<'v>(of: &'v Value, key: &str) -> &'v str {
    of[key].as_str().unwrap_or_else(|| panic!("no {key} in {of}"))
}

/// Variables replaced as somebody would who shows the dashboard for all hosts.
fn fill(text: &str) -> String {
    text.replace("$instance", ".+")
        .replace("$job", ".+")
        .replace("$__rate_interval", "10s")
        .replace("$__range", "1m")
}

/// Names of series in an expression: ours all have a known beginning.
fn series_names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let known = ["node_", "process_", "lmagent_", "lmcollector_", "lmgateway_"];
    words
        .filter(|word| *word == "up" || known.iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn all_that_built_in_dashboards_name_exists() {
    let mut system = System::new(&["web-1"]);
    append(&system.agents[0].logs.join("app.log"), "an error, in a line\n");
    system.start();
    let answer = system.api.get("/api/v1/dashboards").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let data = answer.json()["data"].take();
    let ids: Vec<_> = list(&data, "dashboards").iter().map(|one| text(one, "id")).collect();
    assert_eq!(ids, ["fleet", "host", "lightmetrics", "logs", "queues", "sessions"]);
    let mut names = BTreeSet::new();
    for dashboard in list(&data, "dashboards") {
        assert_eq!(dashboard["builtin"], true);
        for variable in dashboard["variables"].as_array().expect("a list, which may be empty") {
            let (label, selector) = (text(variable, "label"), text(variable, "selector"));
            let values = format!("/api/v1/label/{label}/values?match[]={}", escape(selector));
            let values = system.api.get(&values).unwrap().json();
            let expected = if label == "job" { "node" } else { "web-1" };
            assert!(list(&values, "data").iter().any(|value| value == expected), "{variable}: {values}");
        }
        let panels = list(dashboard, "rows").iter().flat_map(|row| list(row, "panels"));
        for panel in panels {
            if panel["kind"] == "logs" {
                let (selector, regex) = (text(&panel["logs"], "selector"), text(&panel["logs"], "regex"));
                let path =
                    format!("/api/v1/logs?selector={}&regex={}", escape(&fill(selector)), escape(regex));
                eventually(&format!("{panel} shows the line"), SOON, || {
                    let found = system.api.get(&path)?.json();
                    let is_found = found["data"]["lines"][0]["line"] == "an error, in a line";
                    if is_found { Ok(()) } else { Err(found.to_string()) }
                });
                continue;
            }
            for query in list(panel, "queries") {
                let expression = text(query, "expr");
                let found = series_names(expression);
                assert!(!found.is_empty(), "{expression}");
                names.extend(found);
                eventually(&format!("{expression} has an answer"), SOON, || {
                    let found = system.api.query(&fill(expression), unix_ms())?;
                    if found.is_empty() { Err("no series".to_owned()) } else { Ok(()) }
                });
            }
        }
    }
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let found = system.api.get(&format!("/api/v1/series?match[]={name}")).unwrap().json();
        assert!(found["data"].as_array().is_some_and(|found| !found.is_empty()), "{name}: {found}");
    }
}

#[test]
fn custom_dashboards_are_served_to_readers() {
    let mut system = System::new(&[]);
    let dir = system.path("dashboards.d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("up.toml"), CUSTOM).unwrap();
    fs::write(system.path("logs.toml"), CUSTOM.replace("\"up\"", "\"logs\"\noverrides_builtin = true"))
        .unwrap();
    // Both are relative to the settings.
    system.collector_config.set("dashboards.definition_dirs", "[\"dashboards.d\"]");
    system.collector_config.set("dashboards.definition_files", "[\"logs.toml\"]");
    system.write_configs();
    system.start();
    let get = |path: &str| system.api.get(path).unwrap();
    let all = get("/api/v1/dashboards").json()["data"].take();
    let seen: Vec<_> =
        list(&all, "dashboards").iter().map(|one| (text(one, "id"), one["builtin"] == true)).collect();
    let builtin = ["fleet", "host", "lightmetrics", "queues", "sessions"].map(|id| (id, true));
    let mut expected = [&builtin[..], &[("logs", false), ("up", false)]].concat();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert_eq!(
        get("/api/v1/dashboards/up").body,
        concat!(
            r#"{"status":"success","data":{"id":"up","title":"Up","description":"","tags":[],"builtin":false,"#,
            r#""range_seconds":3600,"refresh_seconds":0,"variables":[],"rows":[{"title":"","panels":["#,
            r#"{"title":"Agents","description":"","kind":"stat","unit":"none","width":6,"#,
            r#""thresholds":[{"from":0,"level":"critical"},{"from":0.5,"level":"ok"}],"#,
            r#""queries":[{"expr":"sum(lmagent_up)","legend":"all"}]},"#,
            r#"{"title":"Lines","description":"a\nb","kind":"logs","unit":"none","width":12,"thresholds":[],"#,
            r#""logs":{"selector":"{instance=~\"web.*\"}","contains":["a b"],"exclude":["c"],"regex":"d$"}}]}]}}"#
        )
    );
    for path in ["/api/v1/dashboards/nothing", "/api/v1/dashboards/up/x", "/api/v1/dashboards/%2e%2e"] {
        let missing = get(path);
        assert_eq!(missing.status, 404, "{path}: {}", missing.body);
        assert_eq!(missing.json()["errorType"], "not_found");
    }
    for path in ["/api/v1/dashboards", "/api/v1/dashboards/up"] {
        assert_eq!(lm_tests::http::get(system.api.addr, path, None).unwrap().status, 401);
        assert_eq!(system.api_with("write-token").get(path).unwrap().status, 403);
        assert_eq!(system.api_with("operator-token").get(path).unwrap().status, 200);
    }
}

#[test]
fn check_config_finds_every_mistake_of_dashboards() {
    let mut system = System::new(&[]);
    let dir = system.path("dashboards.d");
    fs::create_dir(&dir).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("a.toml", CUSTOM);
    write("b.toml", CUSTOM);
    write("c.toml", &CUSTOM.replace("\"up\"", "\"host\""));
    write("d.toml", &CUSTOM.replace("\"up\"", "\"d\"").replace("sum(", "sun("));
    write("e.toml", &CUSTOM.replace("\"up\"", "\"e\"").replace("kind", "knid"));
    write("f.toml", "id = \n");
    system.collector_config.set("dashboards.definition_dirs", "[\"dashboards.d\",\n\"gone\"]");
    // What is wrong elsewhere is said in the same run.
    fs::remove_file(system.path("query-token")).unwrap();
    system.write_configs();
    let server = system.path("server.toml").display().to_string();
    let line_of_dirs = fs::read_to_string(&server)
        .unwrap()
        .lines()
        .position(|line| line.starts_with("definition_dirs"))
        .expect("the line was set above")
        + 1;
    let expected = [
        &format!("{server}:{}: dashboards.definition_dirs: cannot read ", line_of_dirs + 1)[..],
        "dashboards.d/b.toml:1: id \"up\" is taken by ",
        "dashboards.d/a.toml:1; each dashboard needs its own",
        "dashboards.d/c.toml:1: id \"host\" is that of a built-in dashboard; choose another, or say \
         overrides_builtin = true",
        "dashboards.d/d.toml:7: rows.panels.queries.expr is \"sun(lmagent_up)\"; 1:1: parse error: unknown function",
        "dashboards.d/e.toml:6: rows.panels.knid is not a known key; did you mean \"kind\"?",
        "dashboards.d/f.toml:1: ",
        "query-token",
    ];
    for args in [&["--check-config", &server][..], &[&server]] {
        run(&binary("lm-collector"), args, WITHIN).expect_code(78).expect_stderr(&expected);
    }
    // An unknown key of the settings themselves.
    system.collector_config.set("dashboards.definition_dir", "[]");
    system.write_configs();
    run(&binary("lm-collector"), &["--check-config", &server], WITHIN)
        .expect_code(78)
        .expect_stderr(&["dashboards.definition_dir is not a known key; did you mean \"definition_dirs\"?"]);
}

/// The files for Grafana are what the gateway makes of the definitions;
/// `LM_BLESS=1` writes them.
#[test]
fn the_grafana_kit_is_what_the_gateway_answers() {
    let mut system = System::new(&[]);
    system.start();
    for id in FOR_GRAFANA {
        let answer = system.api.get(&format!("/api/v1/dashboards/{id}?format=grafana")).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let file = format!("{}/../config/grafana/dashboards/{id}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("LM_BLESS").is_some() {
            fs::write(&file, &answer.body).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(answer.body == kept, "{file} is old: run this test with LM_BLESS=1");
    }
    let refused = system.api.get("/api/v1/dashboards/host?format=kibana").unwrap();
    assert_eq!((refused.status, refused.json()["errorType"].as_str()), (400, Some("bad_data")));
}
