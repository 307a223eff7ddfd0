//! Users with roles and scopes, agents with labels, and taking rights away
//! while everything runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lm_tests::api::{Api, unix_ms};
use lm_tests::process::{binary, run};
use lm_tests::{System, http};

use crate::{SOON, append, eventually, expect_line};

const WITHIN: Duration = Duration::from_secs(20);
/// How long after a reload somebody may still be let in.
const AT_ONCE: Duration = Duration::from_secs(1);

pub fn write(system: &System, name: &str, text: &str) {
    fs::write(system.path(name), text).unwrap();
    fs::set_permissions(system.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn token(name: &str) -> String {
    format!("{name}-").repeat(8)
}

pub fn user(name: &str, role: &str, more: &str) -> String {
    format!("[[users]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken = \"{}\"\n{more}\n", token(name))
}

pub fn api(system: &System, name: &str) -> Api {
    Api { token: token(name), ..system.api.clone() }
}

/// Two agents, of which one is labelled as production, and these users.
fn system(users: &str) -> System {
    let mut system = System::new(&["web-1", "db-1"]);
    write(&system, "users.toml", users);
    let path = system.path("users.toml");
    system.collector_config.set_path("users.tokens_file", &path);
    system.write_configs();
    let tokens = fs::read_to_string(system.path("ingest-tokens.toml")).unwrap();
    let entry = "agent_id = \"web-1\"\n";
    write(
        &system,
        "ingest-tokens.toml",
        &tokens.replace(entry, &format!("{entry}labels = {{ env = \"prod\" }}\n")),
    );
    system
}

#[test]
fn a_scoped_viewer_sees_its_part() {
    let users = user("ann", "viewer", "scope = '{env=\"prod\"}'")
        + &user("old", "viewer", "expires = 2020-01-01T00:00:00Z");
    let mut system = system(&users);
    system.start();
    for agent in ["web-1", "db-1"] {
        append(&system.agent(agent).logs.join("a.log"), &format!("hello from {agent}\n"));
        expect_line(&system.api, &format!("{{instance=\"{agent}\"}}"), "hello");
    }
    let ann = api(&system, "ann");
    let instances = |api: &Api, expression: &str| {
        let found = api.query(expression, unix_ms()).unwrap();
        found.iter().map(|series| series.labels["instance"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(instances(&system.api, "sort(lmagent_up)").len(), 2);
    assert_eq!(instances(&ann, "lmagent_up"), ["web-1"]);
    assert_eq!(instances(&ann, "lmagent_up{env=\"prod\"} or lmagent_up{instance=\"db-1\"}"), ["web-1"]);
    assert_eq!(ann.all_lines("", "hello").unwrap().len(), 1);
    let values = ann.get("/api/v1/label/instance/values").unwrap();
    assert_eq!(values.json()["data"], serde_json::json!(["web-1"]));
    let losses = ann.get("/api/v1/losses").unwrap().body;
    assert!(losses.contains("web-1") && !losses.contains("db-1"), "{losses}");
    assert_eq!(api(&system, "old").get("/api/v1/labels").unwrap().status, 401, "expired");
    // What the collector was given is found again after a restart.
    system.collector.kill();
    system.collector.start();
    system.wait_ready();
    eventually("the spool gives the labels back", SOON, || {
        let found = ann.all_lines("{env=\"prod\"}", "hello from web-1")?;
        if found.len() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn what_is_taken_away_is_gone_at_once() {
    let mut system = system(&(user("ann", "viewer", "") + &user("wil", "writer", "")));
    system.start();
    let (ann, ben) = (api(&system, "ann"), api(&system, "ben"));
    assert_eq!(ann.get("/api/v1/labels").unwrap().status, 200);
    assert_eq!(ben.get("/api/v1/labels").unwrap().status, 401);
    let writer = api(&system, "wil").get("/api/v1/labels").unwrap();
    assert!(writer.status == 403 && writer.body.contains("viewer"), "{writer:?}");

    // A broken file changes nothing, and says so.
    write(&system, "users.toml", &user("ann", "viwer", ""));
    system.collector.hang_up();
    eventually("the log names the line", SOON, || {
        let log = system.collector.log_text();
        if log.contains("users.toml:3: ") && log.contains("the last good state holds") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert!(!system.collector.log_text().contains(&token("ann")));
    assert_eq!(ann.get("/api/v1/labels").unwrap().status, 200);
    eventually("the failure is a figure", SOON, || {
        let body = http::get(system.health_addr(), "/metrics", None).map_err(|error| error.to_string())?.body;
        let wanted = "lmcollector_config_last_reload_successful{part=\"tokens\"} 0";
        if body.contains(wanted) { Ok(()) } else { Err(body) }
    });

    // Ann goes, Ben comes, and so does an agent's session end.
    write(&system, "users.toml", &user("ben", "viewer", ""));
    let tokens = fs::read_to_string(system.path("ingest-tokens.toml")).unwrap();
    let (web, rest): (Vec<_>, Vec<_>) = tokens.split("[[tokens]]").partition(|entry| entry.contains("web-1"));
    assert_eq!(web.len(), 1);
    write(&system, "ingest-tokens.toml", &rest.join("[[tokens]]"));
    system.collector.hang_up();
    eventually("Ann is refused", AT_ONCE, || match ann.get("/api/v1/labels")?.status {
        401 => Ok(()),
        status => Err(status.to_string()),
    });
    eventually("Ben is let in", AT_ONCE, || match ben.get("/api/v1/labels")?.status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    let log = eventually("the agent is told", SOON, || {
        let log = system.agents[0].process.log_text();
        if log.contains("revoked: the credential was changed or removed") { Ok(log) } else { Err(log) }
    });
    assert!(!log.contains("panicked"));
    let sessions = system.lmctl(&["sessions"]);
    assert!(sessions.stdout.contains("db-1") && !sessions.stdout.contains("web-1"), "{sessions}");
}

#[test]
fn a_new_certificate_ends_no_session() {
    let mut system = System::new(&["web-1"]);
    system.start();
    let session =
        |system: &System| system.lmctl(&["sessions", "--output", "json"]).expect_code(0).stdout.clone();
    let before: serde_json::Value = serde_json::from_str(&session(&system)).unwrap();
    let old_ca = fs::read_to_string(system.path("ca.pem")).unwrap();

    // A key that does not fit: the last good ones stay.
    let other = System::new(&[]);
    let key = fs::read_to_string(system.path("tls/key.pem")).unwrap();
    write(&system, "tls/key.pem", &fs::read_to_string(other.path("tls/key.pem")).unwrap());
    system.collector.hang_up();
    eventually("the mismatch is told", SOON, || {
        let log = system.collector.log_text();
        if log.contains("do not fit") { Ok(()) } else { Err(log) }
    });
    assert_eq!(system.lmctl(&["sessions"]).expect_code(0).code, Some(0));
    write(&system, "tls/key.pem", &key);

    // A pair of another authority: only who trusts that gets in now.
    for name in ["tls/key.pem", "tls/fullchain.pem"] {
        write(&system, name, &fs::read_to_string(other.path(name)).unwrap());
    }
    system.collector.hang_up();
    eventually("the certificate is renewed", SOON, || {
        let log = system.collector.log_text();
        if log.contains("reloaded: renewed") { Ok(()) } else { Err(log) }
    });
    system.lmctl(&["sessions"]).expect_code(77);
    write(&system, "ca.pem", &fs::read_to_string(other.path("ca.pem")).unwrap());
    let after: serde_json::Value = serde_json::from_str(&session(&system)).unwrap();
    let ids = |of: &serde_json::Value| {
        let sessions = of.as_array().or_else(|| of["sessions"].as_array()).unwrap().clone();
        let lasting = sessions.iter().filter(|session| session["role"] != "operator");
        lasting.map(|session| session["id"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(ids(&after).len(), 2);
    assert_ne!(old_ca, fs::read_to_string(system.path("ca.pem")).unwrap());
}

#[test]
fn the_check_names_every_mistake() {
    let system = system("[[users]]\nnam = \"ann\"\nrole = \"viewer\"\nscope = \"{\"\n");
    let check = ["--check-config".into(), system.path("server.toml")];
    let found = run(&binary("lm-collector"), &check, WITHIN);
    found.expect_code(78).expect_stderr(&[
        "users.toml:2: users.nam is not a known key; did you mean \"name\"?",
        "users.toml:4: users.scope",
        "users.toml:1: users.token is missing",
    ]);
}
