//! A host gets its token: from `lm-collector setup` over `lmctl agent add` to
//! `lm-agent setup`, as real commands, and the way back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lm_tests::ports::Port;
use lm_tests::process::{Output, Service, binary, run};
use lm_tests::{System, eventually};

use crate::SOON;

/// `lmctl agent ...` for the collector of this system.
fn lmctl(system: &System, args: &[&str]) -> Output {
    let dir = system.dir.display().to_string();
    let socket = system.path("operator.sock").display().to_string();
    let all = [&["agent", "--dir", &dir, "--socket", &socket], args].concat();
    run(&binary("lmctl"), &all, SOON)
}

/// `lm-agent setup` into a directory, with a bundle on standard input.
fn lm_agent_setup(dir: &Path, bundle: &Path) -> (Option<i32>, String) {
    let done = Command::new(binary("lm-agent"))
        .args(["setup", "--bundle", "-", "--dir"])
        .arg(dir)
        .stdin(Stdio::from(fs::File::open(bundle).unwrap()))
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn an_agent_is_added_while_the_collector_runs_and_removed_again() {
    let mut system = System::new(&[]);
    fs::write(system.path("endpoint"), format!("{}\n", system.mesh_addr())).unwrap();
    system.start();
    let bundle = system.path("web-1.bundle");
    let file = bundle.display().to_string();
    let added = lmctl(&system, &["add", "web-1", "--bundle", &file]);
    added.expect_code(0);
    let commands: Vec<_> = added.stdout.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(commands, ["  lm-agent setup --bundle web-1.bundle", "  systemctl enable --now lm-agent"]);

    let home = system.path("web-1");
    assert_eq!(lm_agent_setup(&home, &bundle), (Some(0), String::new()));
    let token = fs::read_to_string(home.join("token")).unwrap();
    for shown in
        [&added.stdout, &added.stderr, &fs::read_to_string(system.path("ingest-tokens.toml")).unwrap()]
    {
        assert!(!shown.contains(token.trim()), "the token is told");
    }
    let config = home.join("agent.toml");
    let mut agent = Service::new(
        "agent-web-1",
        binary("lm-agent"),
        vec!["--daemon".into(), config.into()],
        system.path("process-logs/agent-web-1"),
    );
    agent.start();
    system.wait_samples("web-1");

    lmctl(&system, &["add", "web-1", "--bundle", "-"]).expect_code(1).expect_stderr(&["has a token already"]);
    lmctl(&system, &["add", "web 2", "--bundle", "-"])
        .expect_code(78)
        .expect_stderr(&["cannot be an agent's name"]);
    lmctl(&system, &["add", "web-2", "--bundle", &file]).expect_code(1).expect_stderr(&["is there already"]);
    let listed = lmctl(&system, &["list", "--output", "json"]);
    assert_eq!(listed.stdout, "{\"agents\":[{\"name\":\"web-1\"}]}\n");

    lmctl(&system, &["remove", "web-1"]).expect_code(0);
    eventually("the agent is told", SOON, || {
        let log = agent.log_text();
        if log.contains("revoked") { Ok(()) } else { Err(log) }
    });
    lmctl(&system, &["remove", "web-1"]).expect_code(1).expect_stderr(&["there is no agent \"web-1\""]);
}

#[test]
fn a_host_is_one_agent() {
    let system = System::new(&[]);
    let home = system.path("host");
    let bundle = |name: &str| {
        let file = system.path(name);
        let args = ["add", name, "--bundle", &file.display().to_string()];
        lmctl(&system, &args).expect_code(0).expect_stderr(&["no collector answers here"]);
        file
    };
    let (web, db) = (bundle("web-1"), bundle("db-1"));
    assert_eq!(lm_agent_setup(&home, &web).0, Some(0));
    let before = fs::read(home.join("token")).unwrap();
    let (code, stderr) = lm_agent_setup(&home, &db);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("this host is agent \"web-1\" already"), "{stderr}");
    assert_eq!(fs::read(home.join("token")).unwrap(), before);
    let (code, stderr) = lm_agent_setup(&home, Path::new("/dev/null"));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("standard input:1: token is missing"), "{stderr}");
}

#[test]
fn what_setup_writes_runs_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mesh, http) = (Port::reserve(), Port::reserve());
    let args = [
        "setup",
        "--name",
        "localhost",
        "--dir",
        &dir.path().display().to_string(),
        "--listen",
        &format!("127.0.0.1:{}", mesh.number),
        "--gateway-listen",
        &format!("127.0.0.1:{}", http.number),
    ];
    let made = run(&binary("lm-collector"), &args, SOON);
    made.expect_code(0);
    for (program, file) in [("lm-collector", "server.toml"), ("lm-gateway", "gateway.toml")] {
        let file = dir.path().join(file).display().to_string();
        assert!(made.stdout.contains(&format!("  {program} {file}")), "{made}");
        run(&binary(program), &["--check-config", &file], SOON).expect_code(0);
    }
    let again = run(&binary("lm-collector"), &args, SOON);
    assert!(again.stdout.starts_with("everything is there\n"), "{again}");
    let renewed =
        run(&binary("lm-collector"), &["setup", "--renew", "--dir", &dir.path().display().to_string()], SOON);
    assert!(renewed.expect_code(0).stdout.ends_with("fullchain.pem: not due\n"), "{renewed}");
    run(&binary("lm-collector"), &["setup", "--renew", "--dir", "/nonexistent"], SOON)
        .expect_code(78)
        .expect_stderr(&["lm-collector setup --name HOST makes one"]);
}
