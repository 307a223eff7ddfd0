//! Command lines: what they print and how they end.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lm_tests::process::{Output, binary, run};
use lm_tests::{System, system_options};

use crate::append;

const WITHIN: Duration = Duration::from_secs(20);

fn lm_agent(args: &[&str]) -> Output {
    run(&binary("lm-agent"), args, WITHIN)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

#[test]
fn print_defaults_is_the_documented_file() {
    for (program, file) in
        [("lm-agent", "agent.toml"), ("lm-collector", "server.toml"), ("lm-gateway", "gateway.toml")]
    {
        let output = run(&binary(program), &["--print-defaults"], WITHIN);
        output.expect_code(0);
        let documented = fs::read_to_string(repository().join("config").join(file)).unwrap();
        assert_eq!(output.stdout, documented, "{program} and config/{file} differ");
        let version = run(&binary(program), &["--version"], WITHIN);
        version.expect_code(0);
        assert!(version.stdout.starts_with(&format!("{program} ")), "{version}");
        run(&binary(program), &["--no-such-flag"], WITHIN).expect_code(2);
    }
}

#[test]
fn check_config_prints_every_mistake_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let check = |program: &str, args: &[&str], text: &str, expected: &[&str]| {
        let file = dir.path().join(format!("{program}.toml"));
        fs::write(&file, text).unwrap();
        let shown = file.display().to_string();
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.push(shown.clone());
        let output = run(&binary(program), &args, WITHIN);
        output.expect_code(78);
        let said = format!("{}{}", output.stdout, output.stderr);
        for expected in expected {
            let expected = expected.replace("FILE", &shown);
            assert!(said.contains(&expected), "{expected:?} is not in {output}");
        }
    };
    check(
        "lm-agent",
        &["--check-config"],
        "agent_id = \"\"\nagent_idd = \"x\"\n[queue]\nbytes_max = \"1B\"\non_full = \"perhaps\"\n[metrics]\ninterval = 5\n",
        &["FILE:1:", "FILE:2:", "did you mean \"agent_id\"", "FILE:4:", "FILE:5:", "drop_oldest", "FILE:7:"],
    );
    check(
        "lm-collector",
        &["--check-config"],
        "[ingest]\nlisten = 5\nmax_series_per_batch = 106\n[storage]\nretenion = \"6h\"\n[nothing]\n",
        &["FILE:2:", "FILE:3:", "FILE:5:", "did you mean \"retention\"", "FILE:6:"],
    );
    check(
        "lm-gateway",
        &["--check-config"],
        "listen = 5\n[collector]\nendpoint = [\"a:1\"]\n[limits]\nrequests_max = 0\nuser_cache = \"5 parsecs\"\n",
        &["FILE:1:", "FILE:3:", "endpoints", "FILE:5:", "FILE:6:"],
    );
    // Not TOML at all, and not there at all.
    for (program, args) in [
        ("lm-agent", &["--check-config"][..]),
        ("lm-collector", &["--check-config"]),
        ("lm-gateway", &["--check-config"]),
    ] {
        check(program, args, "a = 1\nb = = 2\n", &["FILE:2:"]);
        let missing = [args[0], "/nonexistent/x.toml"];
        run(&binary(program), &missing, WITHIN).expect_code(78).expect_stderr(&["/nonexistent/x.toml"]);
        // Running with it says the same.
        let file = dir.path().join(format!("{program}.toml")).display().to_string();
        let start: Vec<&str> = if program == "lm-agent" { vec!["--daemon", &file] } else { vec![&file] };
        run(&binary(program), &start, WITHIN).expect_code(78).expect_stderr(&[".toml:2:"]);
    }
}

#[test]
fn good_configurations_are_good() {
    let system = System::new(&["a"]);
    for (program, file) in [
        ("lm-agent", system.agents[0].config_file.clone()),
        ("lm-collector", system.path("server.toml")),
        ("lm-gateway", system.path("gateway.toml")),
    ] {
        run(&binary(program), &["--check-config", &file.display().to_string()], WITHIN).expect_code(0);
    }
    // A public address without encryption is refused.
    let open = system.path("open.toml");
    fs::write(&open, "listen = \"0.0.0.0:18080\"\n").unwrap();
    run(&binary("lm-gateway"), &["--check-config", &open.display().to_string()], WITHIN)
        .expect_code(78)
        .expect_stderr(&["open.toml:1:", "loopback"]);
}

#[test]
fn the_agents_other_ways_to_run() {
    let mut system = System::new(&["a"]);
    system.agent("a").config.set_text("upload_timeout", "2s");
    system.write_configs();
    let file = system.agents[0].config_file.display().to_string();
    append(&system.agents[0].logs.join("app.log"), "for later\n");
    // Checks and encodes, and touches nothing.
    let encoded = lm_agent(&[&file]);
    encoded.expect_code(0);
    assert!(encoded.stdout.contains("series: ") && encoded.stdout.contains("bytes: "), "{encoded}");
    assert!(!system.agents[0].queue.exists(), "no queue was asked for");
    // No collector: what was collected stays.
    lm_agent(&["--once", &file]).expect_code(69);
    let status = lm_agent(&["queue", "status", &file]);
    status.expect_code(0);
    assert!(status.stdout.contains("logs: 1 batches, 1 items"), "{status}");
    // The collector came and went: something is left.
    lm_agent(&["--flush", &file]).expect_code(69);
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
    lm_agent(&["--flush", &file]).expect_code(0);
    assert_eq!(crate::expect_line(&system.api, "{instance=\"a\"}", "for later"), 1);
    lm_agent(&["--flush", &file]).expect_code(0);
    let before = system.api.account("a", "metrics").unwrap().0;
    append(&system.agents[0].logs.join("app.log"), "once\n");
    lm_agent(&["--once", &file]).expect_code(0);
    assert_eq!(crate::expect_line(&system.api, "{instance=\"a\"}", "once"), 1);
    assert!(system.api.account("a", "metrics").unwrap().0 > before);
    assert_eq!(system.api.all_lines("{instance=\"a\"}", "").unwrap().len(), 2);
    // One agent a queue.
    system.agents[0].process.start();
    system.wait_agent("a");
    lm_agent(&["--once", &file]).expect_code(75).expect_stderr(&["queue"]);
    lm_agent(&["queue", "reassign", &file]).expect_code(75);
    assert_eq!(system.agents[0].process.stop().code(), Some(0));
}

#[test]
fn a_collector_that_does_not_answer_leaves_items_behind() {
    // Something listens and is silent, as a stopped process would.
    let mut system = System::new(&["a"]);
    system.agent("a").config.set_text("upload_timeout", "1s");
    system.write_configs();
    let _silent = UdpSocket::bind(system.mesh_addr()).unwrap();
    let file = system.agents[0].config_file.display().to_string();
    let output = lm_agent(&["--once", &file]);
    assert!(matches!(output.code, Some(69 | 75)), "{output}");
    let status = lm_agent(&["queue", "status", &file]);
    assert!(!status.stdout.contains("metrics: 0 batches"), "{status}");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let system = System::with(system_options(&[], &["m"]));
    let server = system.path("server.toml");
    let mesh = UdpSocket::bind(system.mesh_addr()).unwrap();
    let output = run(&binary("lm-collector"), &[&server], WITHIN);
    assert_ne!(output.code, Some(0));
    output.expect_stderr(&["lm-collector: ", &system.mesh_addr().to_string(), "in use"]);
    drop(mesh);
    let health = TcpListener::bind(system.health_addr()).unwrap();
    let output = run(&binary("lm-collector"), &[&server], WITHIN);
    assert_ne!(output.code, Some(0));
    output.expect_stderr(&[&system.health_addr().to_string(), "in use"]);
    drop(health);
    let http = TcpListener::bind(system.api.addr).unwrap();
    run(&binary("lm-gateway"), &[system.path("gateway.toml")], WITHIN)
        .expect_code(69)
        .expect_stderr(&[&system.api.addr.to_string(), "in use"]);
    drop(http);
}

#[test]
fn a_data_directory_has_one_collector() {
    let mut system = System::with(system_options(&[], &["m"]));
    system.collector.start();
    system.wait_collector();
    let other = System::with(system_options(&[], &["m"]));
    let mut config = other.collector_config.clone();
    config.set_path("storage.dir", &system.path("collector"));
    let file = other.path("server.toml");
    config.write(&file);
    let output = run(&binary("lm-collector"), &[&file], WITHIN);
    assert_ne!(output.code, Some(0), "{output}");
    output.expect_stderr(&[&system.path("collector").display().to_string()]);
}
