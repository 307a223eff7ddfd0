//! What commands print, what they ask, and how they end.

use std::process::Stdio;

use crate::support::{Bench, Lines, Output, minutes_ago, run, unix_ms, wait};
use lm_schema::operator::{
    AdmissionFacts, CallFacts, CapabilityFacts, Denial, MeshStatus, ReloadedPart, SessionFacts, Tap, TapCost,
};

/// A mesh with an agent, a gateway and somebody with a hostile name.
fn mesh() -> Bench {
    let bench = Bench::new();
    let mut script = bench.script();
    let session = |id: u64, role: &str, identity: &str| SessionFacts {
        id,
        role: role.to_owned(),
        identity: identity.to_owned(),
        product: format!("lm-{role}"),
        version: "0.1.0".to_owned(),
        hostname: identity.to_owned(),
        remote: format!("10.0.0.{id}:4000"),
        transport: "quic".to_owned(),
        connected_unix_ms: minutes_ago(90),
        rtt_micros: 1200,
        capabilities: 2,
        ..SessionFacts::default()
    };
    script.sessions = vec![
        SessionFacts {
            last_heartbeat_unix_ms: minutes_ago(5),
            queue_pending_bytes: 3 << 20,
            queue_pending_batches: 7,
            batches: 40,
            items: 12_345,
            bytes_received: 1 << 20,
            bytes_sent: 2048,
            congestion_window_bytes: 14_520,
            mtu_bytes: 1452,
            lost_packets: 3,
            migrations: 1,
            calls: 55,
            admission: AdmissionFacts { exports: 4, read_pauses: 9, ..AdmissionFacts::default() },
            ..session(1002, "agent", "web-1")
        },
        session(1003, "gateway", "gateway"),
    ];
    let capability = |id, grantor, session, holder: &str, interface: &str| CapabilityFacts {
        id,
        grantor,
        session,
        holder: holder.to_owned(),
        interface: interface.to_owned(),
        granted_unix_ms: minutes_ago(90),
        ..CapabilityFacts::default()
    };
    script.capabilities = vec![
        CapabilityFacts {
            scope: "agent=web-1".to_owned(),
            calls: 30,
            bytes_received: 4096,
            last_method: "heartbeat".to_owned(),
            last_use_unix_ms: minutes_ago(5),
            ..capability(11, 0, 1002, "web-1", "AgentSession")
        },
        capability(12, 0, 1003, "gateway", "GatewaySession"),
        CapabilityFacts {
            calls: 25,
            errors: 1,
            in_flight: 2,
            ..capability(13, 11, 1002, "web-1", "BatchSink")
        },
        CapabilityFacts {
            expires_unix_ms: unix_ms() + 5 * 60_000 + 30_000,
            ..capability(14, 12, 1003, "alice", "Reader")
        },
    ];
    let call = |method: &str, micros| CallFacts {
        capability: 13,
        session: 1002,
        holder: "web-1".to_owned(),
        interface: "BatchSink".to_owned(),
        method: method.to_owned(),
        started_unix_ms: minutes_ago(5),
        micros,
        parameter_bytes: 2048,
        ..CallFacts::default()
    };
    script.slow_after_micros = 100_000;
    script.calls = vec![
        CallFacts { is_in_flight: true, is_waiting: true, ..call("next", 4_000_000) },
        CallFacts { is_in_flight: true, ..call("push", 250_000) },
        CallFacts { is_in_flight: true, ..call("push", 5_000) },
        CallFacts { error: "quota".to_owned(), ..call("define", 150_000) },
    ];
    script.taps = [Tap {
        calls: vec![call("push", 850), CallFacts { error: "invalid".to_owned(), ..call("push", 1500) }],
        missed: 17,
        cost: TapCost { seen: 100, matched: 19, nanos: 1_500_000 },
    }]
    .into();
    script.taps[0].calls[0].started_unix_ms = 45_296_789;
    script.taps[0].calls[1].started_unix_ms = 45_297_000;
    script.status = MeshStatus {
        version: "0.1.0".to_owned(),
        cluster_id: vec![0xab; 4],
        uptime_ms: 19_830_000,
        sessions: 3,
        capabilities: 5,
        calls: 1234,
        calls_in_flight: 3,
        calls_refused: 6,
        sessions_ended_by_limit: 1,
        panics: 0,
        budget_bytes: 16 << 20,
        budget_bytes_max: 64 << 20,
        budget_waits: 8,
        logins_refused: 9,
        handshakes_refused: 10,
        denials: 1,
        unix_ms: unix_ms(),
    };
    script.denials = vec![Denial {
        identity: "old-host".to_owned(),
        reason: "token leaked".to_owned(),
        by: "ops".to_owned(),
        unix_ms: minutes_ago(200),
    }];
    script.parts = vec![
        ReloadedPart {
            name: "tokens".to_owned(),
            changes: "2 added, 1 removed".to_owned(),
            ..ReloadedPart::default()
        },
        ReloadedPart { name: "certificate".to_owned(), ..ReloadedPart::default() },
    ];
    drop(script);
    bench
}

/// Compares with `tests/lmctl/golden/NAME.txt`; `LM_BLESS=1` writes it instead.
#[track_caller]
fn golden(bench: &Bench, args: &[&str], name: &str) {
    let output = bench.lmctl(args);
    assert_eq!(output.stderr, "");
    is_golden(&output, name);
}

#[track_caller]
fn is_golden(output: &Output, name: &str) {
    output.expect(0);
    let path = format!("{}/tests/lmctl/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LM_BLESS").is_some() {
        std::fs::write(&path, &output.stdout).unwrap();
    }
    assert_eq!(output.stdout, std::fs::read_to_string(&path).unwrap(), "{path}");
}

#[test]
fn lists_are_tables() {
    let bench = mesh();
    golden(&bench, &["sessions"], "sessions");
    golden(&bench, &["sessions", "--wide"], "sessions-wide");
    golden(&bench, &["caps"], "caps");
    golden(&bench, &["caps", "--tree"], "caps-tree");
    golden(&bench, &["calls"], "calls");
    golden(&bench, &["calls", "--over", "10ms"], "calls-over");
    golden(&bench, &["calls", "--slow"], "calls-slow");
    golden(&bench, &["denials"], "denials");
    golden(&bench, &["status"], "status");
    golden(&bench, &["reload"], "reload");
    golden(&bench, &["describe"], "describe");
    golden(&bench, &["describe", "batchsink"], "describe-batch-sink");
}

#[test]
fn json_is_one_document_with_every_field() {
    let bench = mesh();
    let sessions = bench.lmctl(&["sessions", "--output", "json"]).json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "our own session is left out");
    assert_eq!(sessions["sessions"][0]["migrations"], 1);
    assert_eq!(sessions["sessions"][0]["admission"]["read_pauses"], 9);
    let capabilities = bench.lmctl(&["caps", "--output", "json"]).json();
    assert_eq!(capabilities["capabilities"][2]["grantor"], 11);
    let calls = bench.lmctl(&["--output=json", "calls", "--slow"]).json();
    assert_eq!(calls["slow_after_micros"], 100_000);
    assert_eq!(calls["calls"][1]["error"], "quota");
    assert_eq!(bench.lmctl(&["denials", "--output", "json"]).json()["denials"][0]["by"], "ops");
    assert_eq!(bench.lmctl(&["status", "--output", "json"]).json()["cluster_id"], "abababab");
    assert_eq!(
        bench.lmctl(&["reload", "--output", "json"]).json()["parts"][0]["changes"],
        "2 added, 1 removed"
    );
    let described = bench.lmctl(&["describe", "Reader", "--output", "json"]).json();
    assert_eq!(described["interfaces"][0]["id"], "0xbe7d16a93146fd56");
    assert_eq!(described["interfaces"][0]["methods"][0]["name"], "query");
}

#[test]
fn capabilities_are_asked_for_by_session_interface_and_holder() {
    let bench = mesh();
    let ids = |args: &[&str]| -> Vec<u64> {
        let mut all = vec!["caps", "--output", "json"];
        all.extend(args);
        let json = bench.lmctl(&all).json();
        json["capabilities"].as_array().unwrap().iter().map(|c| c["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&["--session", "s1002"]), [11, 13]);
    assert_eq!(ids(&["--session", "1002", "--interface", "BatchSink"]), [13]);
    assert_eq!(ids(&["--holder", "alice"]), [14]);
    assert_eq!(ids(&["--holder", "nobody"]), [0; 0]);
}

#[test]
fn lists_are_read_page_by_page() {
    let bench = mesh();
    bench.script().page = 1;
    assert_eq!(bench.lmctl(&["sessions", "--output", "json"]).json()["sessions"][1]["id"], 1003);
    assert_eq!(bench.lmctl(&["caps", "--output", "json"]).json()["capabilities"][3]["id"], 14);
    bench.script().is_endless = true;
    for list in ["sessions", "caps"] {
        bench.lmctl(&[list]).refused(1, &["does not come to an end"]);
    }
}

#[test]
fn a_watched_list_comes_again() {
    let bench = mesh();
    for args in
        [&["sessions", "--output", "json"][..], &["caps", "--tree"], &["calls"], &["status"], &["denials"]]
    {
        let mut all = args.to_vec();
        all.extend(["--watch", "0.1"]);
        let mut child = bench.command(&all, "ops", "ca.pem").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = Lines::of(&mut child);
        let first = lines.next();
        let again = loop {
            let line = lines.next();
            assert!(!line.contains('\x1b'), "not a terminal: {line:?}");
            if line == first {
                break line;
            }
        };
        if args.contains(&"json") {
            let json: serde_json::Value = serde_json::from_str(&again).unwrap();
            assert_eq!(json["sessions"][0]["identity"], "web-1");
        }
        // It ends when nobody reads on, without a word.
        drop(lines);
        assert_eq!(wait(&mut child).code(), Some(0), "{args:?}");
    }
    bench.lmctl(&["sessions", "--watch", "0"]).refused(2, &["at least 100ms"]);
}

#[test]
fn watching_outlasts_an_overload() {
    let bench = mesh();
    let mut child = bench
        .command(&["sessions", "--output", "json", "--watch", "0.1"], "ops", "ca.pem")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Lines::of(&mut child);
    lines.next();
    bench.script().error = Some("overloaded: 16 calls".to_owned());
    let mut errors = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut error = String::new();
    std::io::BufRead::read_line(&mut errors, &mut error).unwrap();
    assert_eq!(error, "lmctl: overloaded: 16 calls\n");
    bench.script().sessions[0].identity = "renamed".to_owned();
    bench.script().error = None;
    while !lines.next().contains("renamed") {}
    bench.script().error = Some("revoked: by alice".to_owned());
    assert_eq!(wait(&mut child).code(), Some(77));
}

#[test]
fn a_tap_shows_calls_and_what_it_costs() {
    let bench = mesh();
    let taps = bench.script().taps.clone();
    let output = bench.lmctl(&["tap", "--count", "2"]);
    is_golden(&output, "tap");
    assert_eq!(
        output.stderr,
        "2 shown, 17 missed; the tap looked at 100 calls, 19 matched, and took 1.5ms of the collector's \
         processor time\n"
    );

    bench.script().taps = taps;
    let output = bench.lmctl(&["tap", "--output", "json", "--duration", "500ms"]);
    output.expect(0);
    let lines: Vec<serde_json::Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["missed"], 17);
    assert_eq!(lines[1]["call"]["micros"], 850);
    assert_eq!(lines[2]["call"]["error"], "invalid");
    assert_eq!(lines.last().unwrap()["cost"]["nanos"], 0, "the last answer's");
    assert_eq!(lines.len(), 4, "our own calls are not shown");
}

#[test]
fn a_tap_passes_its_filter_on() {
    let bench = mesh();
    let line = "tap --session s3 --cap c17 --holder web-1 --interface BatchSink --method push --errors \
                --sample 10 --duration 200ms";
    bench.lmctl(&line.split_whitespace().collect::<Vec<_>>()).expect(0);
    assert_eq!(
        bench.script().done,
        ["tap TapFilter { session: 3, capability: 17, holder: \"web-1\", interface: \"BatchSink\", \
          method: \"push\", errors_only: true, sample_every: 10 }"]
    );
    bench.lmctl(&["tap", "--sample", "0"]).refused(2, &["--sample"]);
    bench.lmctl(&["tap", "--cap", "s3"]).refused(2, &["c17 or 17"]);
}

#[test]
fn a_tap_that_is_interrupted_says_what_it_cost() {
    let bench = mesh();
    let mut child = bench
        .command(&["tap"], "ops", "ca.pem")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Lines::of(&mut child);
    while !lines.next().contains("invalid") {}
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.starts_with("2 shown, 17 missed"), "{text}");
}

#[test]
fn revoking_says_what_ended() {
    let bench = mesh();
    for (target, shown) in [
        ("c13", "revoked capability c13: 1 capability ended\n"),
        ("13", "revoked capability c13: 1 capability ended\n"),
        ("s1002", "revoked session s1002: 2 capabilities and 1 session ended\n"),
    ] {
        let output = bench.lmctl(&["revoke", target, "--reason", " leaked "]);
        assert_eq!(output.expect(0).stdout, shown);
    }
    assert_eq!(
        bench.script().done,
        ["revoke Capability(13): leaked", "revoke Capability(13): leaked", "revoke Session(1002): leaked"]
    );
    let json = bench.lmctl(&["revoke", "c13", "--reason", "x", "--output", "json"]).json();
    assert_eq!(
        json,
        serde_json::json!({ "target": "c13", "was_found": true, "capabilities": 1, "sessions": 0 })
    );

    bench
        .lmctl(&["revoke", "c99", "--reason", "x"])
        .refused(1, &["there is no capability c99", "lmctl caps"]);
    bench.lmctl(&["revoke", "s99", "--reason", "x"]).refused(1, &["there is no session s99"]);
    let output = bench.lmctl(&["revoke", "c99", "--reason", "x", "--output", "json"]);
    assert!(output.expect(1).stdout.contains("\"was_found\":false"), "{output:?}");
    let asked = bench.script().done.len();
    for wrong in
        [&["revoke", "c13"][..], &["revoke", "c13", "--reason", " "], &["revoke", "x1", "--reason", "x"]]
    {
        bench.lmctl(wrong).refused(2, &["error:"]);
    }
    assert_eq!(bench.script().done.len(), asked, "nothing was asked of the collector");
}

#[test]
fn denying_holds_until_it_is_allowed() {
    let bench = mesh();
    let output = bench.lmctl(&["deny", "web-1", "--reason", "stolen"]);
    assert_eq!(
        output.expect(0).stdout,
        "denied web-1: 2 capabilities and 1 session ended\nIt stays out until 'lmctl allow web-1'.\n"
    );
    assert!(bench.lmctl(&["denials"]).stdout.contains("stolen"));
    let output = bench.lmctl(&["allow", "web-1"]);
    assert_eq!(output.expect(0).stdout, "allowed web-1: it may log in again\n");
    bench.lmctl(&["allow", "web-1"]).refused(1, &["web-1 was not denied", "lmctl denials"]);
    assert_eq!(
        bench.lmctl(&["allow", "old-host", "--output", "json"]).json(),
        serde_json::json!({ "identity": "old-host", "was_denied": true })
    );
    bench.lmctl(&["deny", "ops", "--reason", "x"]).refused(1, &["ops is who you are"]);
    bench.lmctl(&["deny", "web-1"]).refused(2, &["--reason"]);
    bench.lmctl(&["deny", "", "--reason", "x"]).refused(2, &["IDENTITY"]);
    assert_eq!(bench.script().done, ["deny web-1: stolen"]);
}

#[test]
fn a_reload_that_fails_in_part_says_so() {
    let bench = mesh();
    bench.script().parts[1].error = "chain.pem: no certificate".to_owned();
    let output = bench.lmctl(&["reload"]);
    output.expect(78);
    assert!(output.stdout.contains("certificate  kept as it was  chain.pem: no certificate"), "{output:?}");
    assert!(output.stderr.contains("keeps working as it was"), "{output:?}");
}

/// Everything that a peer or the collector chose, in every command.
#[test]
fn hostile_words_reach_no_terminal() {
    let bench = mesh();
    let hostile = "\x1b[2J\x1b]8;;http://evil\x07\u{9b}31m\u{202e}\u{2066}\x7f\r\nx";
    {
        let mut script = bench.script();
        let text = || hostile.to_owned();
        for s in &mut script.sessions {
            (s.identity, s.role, s.product, s.version) = (text(), text(), text(), text());
            (s.hostname, s.remote, s.transport) = (text(), text(), text());
        }
        for c in &mut script.capabilities {
            (c.holder, c.interface, c.scope, c.last_method) = (text(), text(), text(), text());
        }
        for c in &mut script.calls {
            (c.holder, c.interface, c.method, c.error) = (text(), text(), text(), text());
        }
        for c in &mut script.taps[0].calls {
            (c.holder, c.interface, c.method, c.error) = (text(), text(), text(), text());
        }
        for d in &mut script.denials {
            (d.identity, d.reason, d.by) = (text(), text(), text());
        }
        for p in &mut script.parts {
            (p.name, p.changes) = (text(), text());
        }
        script.status.version = text();
    }
    let taps = bench.script().taps.clone();
    let commands = [
        &["sessions", "--wide"][..],
        &["caps"],
        &["caps", "--tree"],
        &["calls"],
        &["calls", "--slow"],
        &["denials"],
        &["reload"],
        &["status"],
        &["tap", "--count", "2"],
        &["deny", hostile, "--reason", hostile],
        &["allow", hostile],
        &["allow", hostile],
        &["describe", hostile],
    ];
    for args in commands {
        for format in ["table", "json"] {
            bench.script().taps = taps.clone();
            let mut all = args.to_vec();
            all.extend(["--output", format]);
            assert_harmless(&bench.lmctl(&all));
        }
    }
    for code in ["invalid", "denied", "other"] {
        bench.script().error = Some(format!("{code}: {hostile}"));
        let output = bench.lmctl(&["sessions"]);
        assert_harmless(&output);
        assert!(output.stderr.contains("\\x1b[2J"), "shown, not hidden: {output:?}");
    }
}

#[track_caller]
fn assert_harmless(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let steers = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!text.chars().any(steers), "{text:?}");
        assert!(!text.contains("\nx"), "a line of somebody else's making: {text:?}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let bench = mesh();
    run(bench.command(&["sessions"], "web-1", "ca.pem"))
        .refused(77, &["the token of web-1 is not an operator's", "--token-file"]);
    run(bench.command(&["sessions"], "wrong", "ca.pem")).refused(77, &["denied:", "Check --token-file"]);
    run(bench.command(&["sessions"], "ops", "other-ca.pem")).refused(77, &["does not vouch for", "--ca"]);
    run(bench.command(&["sessions"], "missing", "ca.pem")).refused(77, &["missing.token"]);
    bench.lmctl(&["describe", "Nothing"]).refused(1, &["no interface \"Nothing\"", "lmctl describe"]);
    bench.lmctl(&["top"]).refused(2, &["top needs a terminal"]);
    bench.lmctl(&["nothing"]).refused(2, &["unrecognized subcommand"]);

    let codes = [
        ("denied: you were denied", 77, "lmctl allow"),
        ("revoked: by alice", 77, "took this session"),
        ("expired: long ago", 77, "new token"),
        ("overloaded: 16 calls", 75, "Try again"),
        ("quota: 4 taps", 75, "bound"),
        ("invalid: holder", 1, "argument"),
        ("the disk is gone", 1, "lmctl: the disk is gone"),
    ];
    let commands = [
        &["sessions"][..],
        &["caps"],
        &["calls"],
        &["tap"],
        &["describe"],
        &["revoke", "c1", "--reason", "x"],
        &["deny", "a", "--reason", "x"],
        &["allow", "a"],
        &["denials"],
        &["reload"],
        &["status"],
    ];
    for (index, args) in commands.iter().enumerate() {
        let (said, code, advice) = codes[index % codes.len()];
        bench.script().error = Some(said.to_owned());
        bench.lmctl(args).expect(code);
        let output = bench.lmctl(args);
        assert!(output.stderr.starts_with(&format!("lmctl: {said}\n")), "{output:?}");
        assert!(output.stderr.contains(advice), "{output:?}");
    }
    bench.script().is_old = true;
    bench.lmctl(&["caps"]).refused(1, &["the collector does not know this command", "older"]);
}

#[test]
fn a_collector_that_is_not_there_is_said_to_be() {
    let mut bench = mesh();
    bench.stop();
    bench.lmctl(&["sessions"]).refused(69, &["cannot reach 127.0.0.1:", "Is the collector running"]);
    bench.lmctl(&["sessions", "--watch"]).refused(69, &["cannot reach 127.0.0.1:"]);
}

#[test]
fn watching_outlasts_a_restart_of_the_collector() {
    let mut bench = mesh();
    let mut watching = bench
        .command(&["status", "--watch", "0.2"], "ops", "ca.pem")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Lines::of(&mut watching);
    lines.next();
    bench.stop();
    bench.script().status.version = "9.9.9".to_owned();
    bench.start_again();
    while !lines.next().contains("9.9.9") {}
    watching.kill().unwrap();
    watching.wait().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut watching.stderr.take().unwrap(), &mut text).unwrap();
    assert_eq!(text, "lmctl: the session with the collector ended; reconnecting\n");
}
