//! Golden screens in `testdata`; `LM_BLESS=1` writes them instead.

use super::*;

const T0: i64 = 1_763_647_200_000;

fn session(id: u64, role: &str, identity: &str) -> SessionFacts {
    SessionFacts {
        id,
        role: role.to_owned(),
        identity: identity.to_owned(),
        transport: "quic".to_owned(),
        remote: format!("192.0.2.{id}:40001"),
        connected_unix_ms: T0 - 5_400_000,
        rtt_micros: 300 * id,
        capabilities: 2,
        ..SessionFacts::default()
    }
}

/// Two looks, two seconds apart.
fn view() -> View {
    let call = |method: &str, micros| CallFacts {
        capability: 17,
        holder: "web-1".to_owned(),
        interface: "BatchSink".to_owned(),
        method: method.to_owned(),
        micros,
        is_in_flight: true,
        ..CallFacts::default()
    };
    let before = Sample {
        at: Duration::from_secs(10),
        unix_ms: T0,
        status: MeshStatus {
            version: "0.1.0".to_owned(),
            uptime_ms: 19_830_000,
            capabilities: 12,
            calls: 1000,
            calls_refused: 4,
            logins_refused: 3,
            denials: 1,
            budget_bytes: 16 << 20,
            budget_bytes_max: 64 << 20,
            budget_waits: 2,
            ..MeshStatus::default()
        },
        sessions: vec![
            session(1, "agent", "web-1"),
            session(2, "agent", "web-2"),
            session(3, "gateway", "gateway"),
        ],
        calls: Vec::new(),
    };
    let mut now = before.clone();
    now.at = Duration::from_secs(12);
    now.unix_ms += 2000;
    now.status.calls += 300;
    let busy = &mut now.sessions[1];
    (busy.calls, busy.bytes_received, busy.bytes_sent) = (250, 3 << 20, 4096);
    (busy.calls_in_flight, busy.queue_pending_bytes, busy.lost_packets) = (2, 5 << 20, 7);
    now.sessions[2].calls = 5;
    now.sessions.push(session(4, "agent", "a-new-host\x1b[2J\u{202e}with-a-rather-long-name.example.com"));
    now.sessions.extend((5..20).map(|id| session(id, "agent", &format!("host-{id}"))));
    now.calls = vec![
        call("push", 850),
        CallFacts { is_waiting: true, ..call("next", 30_000_000) },
        CallFacts { is_in_flight: false, error: "quota".to_owned(), ..call("define", 9_000_000) },
        call("push", 1_500_000),
    ];
    let mut view = View::new("127.0.0.1:4433", before);
    view.handle_sample(now);
    view
}

fn press(view: &mut View, code: KeyCode) -> bool {
    view.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn text(view: &View, columns: usize, rows: usize) -> String {
    let lines = view.render(columns, rows);
    assert_eq!(lines.len(), rows);
    for line in &lines {
        assert!(width(&line.text) <= columns, "{line:?}");
        assert!(line.text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line:?}");
    }
    lines.iter().map(|line| format!("{}\n", line.text.trim_end())).collect()
}

#[track_caller]
fn golden(name: &str, found: &str) {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LM_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap(), "{path}");
}

#[test]
fn the_screen_is_as_it_was() {
    golden("top-80x24.txt", &text(&view(), 80, 24));
    golden("top-200x50.txt", &text(&view(), 200, 50));
}

#[test]
fn every_size_is_filled_exactly() {
    let view = view();
    for (columns, rows) in [(1, 1), (10, 2), (20, 5), (40, 10), (80, 11), (139, 24), (140, 12), (500, 200)] {
        text(&view, columns, rows);
    }
}

#[test]
fn arrows_choose_the_order() {
    let mut view = view();
    let first = |view: &View| {
        let text = text(view, 80, 24);
        text.lines().nth(6).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(first(&view), "s2", "most calls first");
    // Left of CALLS/S stand ROLE, IDENTITY, SESSION.
    for wanted in ["s1", "s4", "s1"] {
        assert!(!press(&mut view, KeyCode::Left));
        assert_eq!(first(&view), wanted);
    }
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(first(&view), "s19");
    press(&mut view, KeyCode::Left);
    assert!(text(&view, 80, 24).contains("sort: PATH, reversed"), "around the corner");
}

#[test]
fn scrolling_stays_within_the_list() {
    let mut view = view();
    press(&mut view, KeyCode::Up);
    assert!(text(&view, 80, 24).contains(" 1-11 of 19"));
    press(&mut view, KeyCode::Down);
    assert!(text(&view, 80, 24).contains(" 2-12 of 19"));
    press(&mut view, KeyCode::End);
    assert!(text(&view, 80, 24).contains(" 9-19 of 19"));
    let few = Sample { sessions: vec![session(1, "agent", "web-1")], ..Sample::default() };
    view.handle_sample(few);
    assert!(text(&view, 80, 24).contains("web-1"));
}

#[test]
fn q_escape_and_control_c_end_it() {
    let mut view = view();
    assert!(press(&mut view, KeyCode::Char('q')) && press(&mut view, KeyCode::Esc));
    assert!(view.handle_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(!press(&mut view, KeyCode::Char('c')));
}

#[test]
fn a_collector_that_started_anew_has_no_negative_rates() {
    let mut view = view();
    let mut now = view.now.clone();
    now.at += Duration::from_secs(1);
    now.status.calls = 0;
    now.sessions[1].calls = 0;
    view.handle_sample(now);
    assert!(text(&view, 80, 24).contains("calls 0/s"));
}

#[test]
fn rates_and_bars_are_short() {
    assert_eq!(
        [rate(0.0), rate(0.5), rate(12.4), rate(32_100.0), rate(2.5e7)],
        ["0", "0.5", "12", "32.1k", "25.0M"]
    );
    assert_eq!(bar(0, 0), "-".repeat(20));
    assert_eq!(bar(u64::MAX, 1), "#".repeat(20));
    assert_eq!(bar(1, 4), format!("{}{}", "#".repeat(5), "-".repeat(15)));
}
