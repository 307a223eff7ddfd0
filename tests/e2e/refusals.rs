//! Wrong tokens, wrong certificates, exposed secrets: clear words, no way in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lm_mesh::{DialError, Granted};
use lm_tests::mesh::{MeshConfig, block_on};
use lm_tests::process::{binary, run};
use lm_tests::{System, eventually, http, system_options};

use crate::SOON;

const WITHIN: Duration = Duration::from_secs(20);

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[track_caller]
fn wait_for_log(log: impl Fn() -> String, parts: &[&str]) {
    eventually(&format!("the log says {parts:?}"), SOON, || {
        let text = log();
        if parts.iter().all(|part| text.contains(part)) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_wrong_token_is_refused_and_the_queue_kept() {
    let mut system = System::new(&["a"]);
    let token = system.path("token-a");
    let right = fs::read_to_string(&token).unwrap();
    write_secret(&token, &"0".repeat(64));
    system.collector.start();
    system.wait_collector();
    let once = ["--once".to_owned(), system.agents[0].config_file.display().to_string()];
    let refused = run(&binary("lm-agent"), &once, WITHIN);
    refused.expect_code(77).expect_stderr(&["denied"]);
    assert!(!refused.stderr.contains(&"0".repeat(64)), "a token is in the log: {refused}");
    // Nothing was lost by it.
    write_secret(&token, &right);
    let flush = ["--flush".to_owned(), system.agents[0].config_file.display().to_string()];
    run(&binary("lm-agent"), &flush, WITHIN).expect_code(0);
    system.gateway.start();
    system.wait_ready();
    assert!(system.api.account("a", "metrics").unwrap().0 > 100);
}

#[test]
fn an_exposed_token_is_refused() {
    let mut system = System::new(&["a"]);
    let token = system.path("token-a");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    system.collector.start();
    system.wait_collector();
    let once = ["--once".to_owned(), system.agents[0].config_file.display().to_string()];
    run(&binary("lm-agent"), &once, WITHIN)
        .expect_code(77)
        .expect_stderr(&["token-a can be read by others (mode 0644)", "chmod 600"]);

    // The collector refuses to start, and names every such file.
    for name in ["query-token", "ingest-tokens.toml"] {
        fs::set_permissions(system.path(name), fs::Permissions::from_mode(0o604)).unwrap();
    }
    system.collector.kill();
    run(&binary("lm-collector"), &[system.path("server.toml")], WITHIN)
        .expect_code(78)
        .expect_stderr(&["query-token can be read by others", "ingest-tokens.toml can be read by others"]);
    fs::set_permissions(system.path("gateway-token"), fs::Permissions::from_mode(0o604)).unwrap();
    run(&binary("lm-gateway"), &[system.path("gateway.toml")], WITHIN)
        .expect_code(78)
        .expect_stderr(&["gateway-token can be read by others"]);
}

#[test]
fn another_ca_is_not_believed() {
    let mut system = System::new(&["a"]);
    let other = System::new(&[]);
    let ca = other.path("ca.pem");
    system.agent("a").config.set_path("collector.tls_ca_cert_file", &ca);
    system.write_configs();
    system.collector.start();
    system.wait_collector();
    let once = ["--once".to_owned(), system.agents[0].config_file.display().to_string()];
    run(&binary("lm-agent"), &once, WITHIN)
        .expect_code(77)
        .expect_stderr(&["certificate", "does not vouch for"]);
    // A name that is not in the certificate.
    let right = system.path("ca.pem");
    let agent = system.agent("a");
    agent.config.set_path("collector.tls_ca_cert_file", &right);
    agent.config.set_text("collector.server_name", "collector.example.com");
    system.write_configs();
    run(&binary("lm-agent"), &once, WITHIN).expect_code(77).expect_stderr(&["certificate"]);
    let output = system.lmctl(&["sessions"]);
    output.expect_code(0);
    let mut wrong: Vec<String> = vec!["sessions".to_owned(), "--collector".to_owned()];
    wrong.extend([system.mesh_addr().to_string(), "--ca".to_owned(), ca.display().to_string()]);
    wrong.extend(["--token-file".to_owned(), system.path("operator-token").display().to_string()]);
    run(&binary("lmctl"), &wrong, WITHIN).expect_code(77).expect_stderr(&["certificate"]);
}

#[test]
fn a_daemon_that_is_refused_says_why_and_waits() {
    let mut system = System::new(&["a"]);
    write_secret(&system.path("token-a"), &"1".repeat(64));
    system.collector.start();
    system.wait_collector();
    system.agents[0].process.start();
    wait_for_log(|| system.agents[0].process.log_text(), &["WARN", "denied"]);
    assert!(system.agents[0].process.is_running());
    assert!(!system.agents[0].process.log_text().contains(&"1".repeat(64)));
    assert!(!system.collector.log_text().contains(&"1".repeat(64)));
}

#[test]
fn http_needs_the_right_token() {
    let mut system = System::new(&["a"]);
    system.start();
    let paths = [
        "/api/v1/query?query=up",
        "/api/v1/query_range?query=up&start=0&end=1&step=1",
        "/api/v1/labels",
        "/api/v1/label/job/values",
        "/api/v1/series?match[]=up",
        "/api/v1/status/buildinfo",
        "/api/v1/metadata",
        "/api/v1/logs",
        "/api/v1/losses",
        "/api/v1/live",
    ];
    let agent_token = fs::read_to_string(system.path("token-a")).unwrap();
    let write_token = fs::read_to_string(system.path("write-token")).unwrap();
    let gateway_token = fs::read_to_string(system.path("gateway-token")).unwrap();
    let wrong = "2".repeat(64);
    for path in paths {
        let status = |token: Option<&str>| {
            let response = http::get(system.api.addr, path, token).unwrap();
            (response.status, response)
        };
        let (code, response) = status(None);
        assert_eq!(code, 401, "{path} without a token: {response:?}");
        assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        for (token, wanted) in
            [(&wrong, 401), (&agent_token, 401), (&gateway_token, 401), (&write_token, 403)]
        {
            let (code, response) = status(Some(token.trim()));
            assert_eq!(code, wanted, "{path} with a token that may not read: {response:?}");
            assert!(!response.body.contains(token.trim()), "{path} tells the token");
        }
    }
    assert_eq!(system.api.get("/api/v1/query?query=up").unwrap().status, 200);
    for path in ["/livez", "/readyz", "/startupz", "/healthz"] {
        assert_eq!(http::get(system.api.addr, path, None).unwrap().status, 200, "{path} of the gateway");
        assert_eq!(
            http::get(system.health_addr(), path, None).unwrap().status,
            200,
            "{path} of the collector"
        );
    }
    assert_eq!(http::get(system.api.addr, "/nothing", None).unwrap().status, 404);
}

#[test]
fn a_login_grants_what_the_token_is_worth() {
    let mut system = System::with(system_options(&[], &["m"]));
    system.collector.start();
    system.wait_collector();
    let as_token = |name: &str| {
        let config = MeshConfig { token: system.path(name), ..MeshConfig::of(&system, "m") };
        block_on(async move {
            match config.dial(&[]).await {
                Ok(connected) => match connected.granted {
                    Granted::Agent(_) => "agent".to_owned(),
                    Granted::Gateway(_) => "gateway".to_owned(),
                    Granted::Operator(_) => "operator".to_owned(),
                },
                Err(DialError::Refused { message, .. }) => {
                    message.split(':').next().unwrap_or_default().to_owned()
                }
                Err(error) => panic!("{name}: {error}"),
            }
        })
    };
    assert_eq!(as_token("token-m"), "agent");
    assert_eq!(as_token("gateway-token"), "gateway");
    assert_eq!(as_token("operator-token"), "operator");
    assert_eq!(as_token("query-token"), "denied");
    assert_eq!(as_token("write-token"), "denied");
}
