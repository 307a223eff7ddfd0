//! What a network does to a session: UDP that is blocked, addresses that
//! change, NATs that forget. A real agent in a network namespace of its own.

use std::time::{Duration, Instant};

use lm_tests::accounting::lines::LineWriter;
use lm_tests::config::text;
use lm_tests::namespace::{Namespace, find};
use lm_tests::process::{Service, binary, run};
use lm_tests::{System, eventually};
use serde_json::Value;

use crate::{SOON, expect_lines};

/// A system whose agent `a` lives in a namespace; `None` where there are none.
pub(crate) fn apart(settings: &[(&str, &str)]) -> Option<(System, Namespace)> {
    let namespace = Namespace::new()?;
    let mut system = System::new(&["a"]);
    let port = system.mesh_addr().port();
    system.collector_config.set_text("ingest.listen", format_args!("0.0.0.0:{port}"));
    let log = system.path("process-logs/agent-apart");
    let agent = &mut system.agents[0];
    let endpoint = text(format_args!("{}:{port}", namespace.ours));
    agent.config.set("collector.endpoints", format_args!("[{endpoint}]"));
    agent.config.set_text("collector.server_name", "localhost");
    for (key, value) in settings {
        agent.config.set_text(key, value);
    }
    let mut args: Vec<std::ffi::OsString> =
        ["netns", "exec", &namespace.name].into_iter().map(Into::into).collect();
    args.push(binary("lm-agent").into());
    args.extend(["--daemon".into(), agent.config_file.clone().into()]);
    agent.process = Service::new("agent-a", find("ip").expect("namespaces need it"), args, log);
    system.write_configs();
    system.start();
    Some((system, namespace))
}

/// The agent's session, as root sees it over the unix socket.
fn session(system: &System) -> Result<Value, String> {
    let socket = system.path("operator.sock").display().to_string();
    let args = ["sessions", "--output", "json", "--socket", &socket];
    let output = run(&binary("lmctl"), &args, SOON);
    let found: Value = serde_json::from_str(&output.stdout).map_err(|_| output.to_string())?;
    let sessions = found["sessions"].as_array().ok_or("no list")?;
    let mut of_agent = sessions.iter().filter(|session| session["role"] == "agent");
    let session = of_agent.next().ok_or("no session of the agent")?;
    if of_agent.next().is_some() { Err("two sessions".to_owned()) } else { Ok(session.clone()) }
}

#[track_caller]
fn expect_transport(system: &System, transport: &str, within: Duration) {
    eventually(&format!("the session runs over {transport}"), within, || {
        let session = session(system)?;
        if session["transport"] == transport { Ok(()) } else { Err(session["transport"].to_string()) }
    });
}

#[test]
fn blocked_udp_falls_back_to_tcp_and_returns() {
    let Some((system, namespace)) = apart(&[("collector.retry_quic_after", "1s")]) else { return };
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(100);
    expect_lines(&system.api, "a", writer.written(), SOON);
    expect_transport(&system, "quic", SOON);

    namespace.nft("add table inet lm");
    namespace.nft("add chain inet lm out { type filter hook output priority 0 ; }");
    namespace.nft("add rule inet lm out meta l4proto udp drop");
    let began = Instant::now();
    writer.write(100);
    // 4 s of silence, 3 s for QUIC, half a second of back-off at most.
    expect_transport(&system, "tcp", Duration::from_secs(10));
    println!("over TCP after {:?}", began.elapsed());
    writer.write(100);
    expect_lines(&system.api, "a", writer.written(), SOON);

    namespace.nft("delete table inet lm");
    let began = Instant::now();
    while session(&system).is_ok_and(|session| session["transport"] == "tcp") {
        assert!(began.elapsed() < SOON, "still over TCP");
        writer.write(20);
    }
    expect_transport(&system, "quic", SOON);
    println!("back on QUIC after {:?}", began.elapsed());
    writer.write(100);
    expect_lines(&system.api, "a", writer.written(), SOON);
    assert_eq!(system.api.account("a", "logs").unwrap(), (writer.written(), Default::default()));
}

#[test]
fn a_new_address_keeps_the_session() {
    let Some((system, namespace)) = apart(&[]) else { return };
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(50);
    expect_lines(&system.api, "a", writer.written(), SOON);
    let before = session(&system).unwrap();
    namespace.move_address(2, 3);
    writer.write(50);
    let after = eventually("the session has moved", SOON, || {
        let session = session(&system)?;
        let remote = session["remote"].as_str().unwrap_or_default();
        if remote.starts_with(&namespace.address(3)) { Ok(session) } else { Err(remote.to_owned()) }
    });
    assert_eq!((&after["id"], &after["transport"]), (&before["id"], &"quic".into()));
    assert_eq!((&before["migrations"], &after["migrations"]), (&0.into(), &1.into()));
    expect_lines(&system.api, "a", writer.written(), SOON);
    assert_eq!(session(&system).unwrap()["id"], before["id"]);
}

/// Every mapping gets a port at random and is forgotten after `seconds`; what
/// comes without one is dropped.
fn behind_a_nat(namespace: &Namespace, seconds: u32) {
    for rule in [
        "add table ip lm",
        "add chain ip lm post { type nat hook postrouting priority 100 ; }",
        "add rule ip lm post meta l4proto udp masquerade to :20000-60000 random",
        "add chain ip lm in { type filter hook input priority 0 ; }",
        "add rule ip lm in meta l4proto udp ct state new drop",
    ] {
        namespace.nft(rule);
    }
    for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
        namespace.sysctl(&format!("net/netfilter/{name}"), &seconds.to_string());
    }
}

/// The session after `beats` more heartbeats, one every ten seconds, and
/// nothing else to send.
#[track_caller]
fn after_heartbeats(system: &System, before: &Value, beats: i64) -> Value {
    let last = before["last_heartbeat_unix_ms"].as_i64().unwrap() + beats * 10_000 - 5_000;
    let within = Duration::from_secs(beats as u64 * 10 + 20);
    eventually("more heartbeats", within, || {
        let session = session(system)?;
        match session["last_heartbeat_unix_ms"].as_i64() {
            Some(at) if at > last => Ok(session),
            at => Err(format!("{at:?}")),
        }
    })
}

#[test]
fn a_nat_that_forgets_keeps_the_session() {
    // Nothing to send but heartbeats.
    let Some((system, namespace)) = apart(&[("metrics.interval", "1m")]) else { return };
    behind_a_nat(&namespace, 1);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(10);
    expect_lines(&system.api, "a", writer.written(), SOON);
    let before = session(&system).unwrap();
    // Over ten times the timeout, all of it idle.
    let after = after_heartbeats(&system, &before, 2);
    assert_eq!((&after["id"], &after["transport"]), (&before["id"], &"quic".into()));
    assert_ne!(after["remote"], before["remote"], "the NAT gave no other port");
    let moved = after["migrations"].as_u64().unwrap() - before["migrations"].as_u64().unwrap();
    assert!((1..=2).contains(&moved), "{moved} changes of address with 2 heartbeats");
    writer.write(10);
    expect_lines(&system.api, "a", writer.written(), SOON);
}

#[test]
fn keep_alives_alone_hold_a_nats_mapping() {
    let settings = [("metrics.interval", "10m"), ("collector.keep_alive", "500ms")];
    let Some((system, namespace)) = apart(&settings) else { return };
    // Heartbeats are five times as far apart.
    behind_a_nat(&namespace, 2);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(10);
    expect_lines(&system.api, "a", writer.written(), SOON);
    // The first measurements are out of the way.
    let before = after_heartbeats(&system, &session(&system).unwrap(), 1);
    let after = after_heartbeats(&system, &before, 2);
    let of =
        |session: &Value| (session["id"].clone(), session["remote"].clone(), session["migrations"].clone());
    assert_eq!(of(&after), of(&before), "the mapping was not held for ten times its timeout");
    let bytes = |key: &str| after[key].as_u64().unwrap() - before[key].as_u64().unwrap();
    println!(
        "two heartbeats and their keep-alives: {} B in, {} B out",
        bytes("bytes_received"),
        bytes("bytes_sent")
    );
    writer.write(10);
    expect_lines(&system.api, "a", writer.written(), SOON);
}

#[test]
fn other_users_are_refused_over_the_unix_socket() {
    use std::os::unix::fs::PermissionsExt;
    let Some(setpriv) = find("setpriv").filter(|_| rustix::process::geteuid().is_root()) else {
        assert!(std::env::var("LM_REQUIRE_ALL").as_deref() != Ok("1"), "not root, or no setpriv");
        return eprintln!("SKIPPED other users: not root, or no setpriv");
    };
    let mut system = System::new(&[]);
    // Where everybody may come, whatever the directories of the test allow.
    let open = tempfile::tempdir().unwrap();
    let allow = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(open.path(), 0o755);
    let (socket, lmctl) = (open.path().join("operator.sock"), open.path().join("lmctl"));
    std::fs::copy(binary("lmctl"), &lmctl).unwrap();
    system.collector_config.set_path("operator.socket", &socket);
    system.write_configs();
    system.collector.start();
    system.wait_collector();
    let as_nobody = || {
        let (lmctl, socket) = (lmctl.display().to_string(), socket.display().to_string());
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        run(&setpriv, &[&user[..], &[&lmctl, "sessions", "--socket", &socket]].concat(), SOON)
    };
    as_nobody().expect_code(69).expect_stderr(&["Permission denied"]);
    allow(&socket, 0o666);
    as_nobody().expect_code(77).expect_stderr(&["denied: uid 65534 is neither root nor"]);
    let own = run(&lmctl, &["sessions", "--socket", &socket.display().to_string()], SOON);
    own.expect_code(0);
}
