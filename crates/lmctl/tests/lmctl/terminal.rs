//! `lmctl` on a terminal: `top` and what `--watch` does there.

use crate::support::{Bench, Terminal};
use lm_schema::operator::{MeshStatus, SessionFacts};

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

fn mesh() -> Bench {
    let bench = Bench::new();
    let mut script = bench.script();
    script.sessions = ["web-1", "evil\x1b]0;title\x07\x1b[2J"]
        .iter()
        .zip(1001..)
        .map(|(identity, id)| SessionFacts {
            id,
            identity: (*identity).to_owned(),
            ..SessionFacts::default()
        })
        .collect();
    script.status = MeshStatus { version: "0.1.0".to_owned(), ..MeshStatus::default() };
    drop(script);
    bench
}

/// `lmctl ARGS`, its pid in a file, its exit code printed, and the settings of
/// the terminal compared.
fn shell(bench: &Bench, args: &str) -> String {
    format!(
        "before=$(stty -g); sh -c 'echo $$ >{pid}; exec {lmctl} {args} {connection}'; \
         echo code=$?; [ \"$before\" = \"$(stty -g)\" ] && echo settings=same",
        pid = bench.path("pid").display(),
        lmctl = env!("CARGO_BIN_EXE_lmctl"),
        connection = bench.connection("ops", "ca.pem").join(" "),
    )
}

#[track_caller]
fn is_restored(printed: &str, code: i32) {
    assert_eq!(printed.matches(LEFT).count(), 1, "{printed:?}");
    let after = printed.rsplit_once(LEFT).unwrap_or_else(|| panic!("never left: {printed:?}")).1;
    assert!(after.contains(&format!("code={code}\r\n")), "{after:?}");
    assert!(after.contains("settings=same"), "{after:?}");
}

#[test]
fn top_runs_until_q_and_gives_the_terminal_back() {
    let bench = mesh();
    let Some(mut terminal) = Terminal::run(&shell(&bench, "top --every 0.1")) else { return };
    terminal.until("sort: CALLS/S");
    assert!(terminal.printed().contains(ENTERED));
    terminal.press("\x1b[C");
    terminal.until("sort: IN/S");
    bench.script().sessions[0].identity = "renamed".to_owned();
    terminal.until("renamed");
    terminal.press("q");
    let printed = terminal.end();
    is_restored(&printed, 0);
    assert!(!printed.contains("\x1b]0;"), "{printed:?}");
    assert!(printed.contains("evil\\x1b]0"), "{printed:?}");
}

#[test]
fn top_gives_the_terminal_back_when_it_is_terminated() {
    let bench = mesh();
    let Some(terminal) = Terminal::run(&shell(&bench, "top")) else { return };
    terminal.until("sort: CALLS/S");
    let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
    assert!(std::process::Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
    is_restored(&terminal.end(), 143);
}

#[test]
fn top_waits_for_a_collector_that_goes_and_comes_back() {
    let mut bench = mesh();
    let Some(mut terminal) = Terminal::run(&shell(&bench, "top --every 0.1")) else { return };
    terminal.until("sort: CALLS/S");
    bench.stop();
    terminal.until("the session with the collector ended; reconnecting");
    bench.script().sessions[0].identity = "renamed".to_owned();
    bench.start_again();
    terminal.until("renamed");
    // Keys are heard while it waits too.
    bench.stop();
    terminal.press("q");
    is_restored(&terminal.end(), 0);
}

#[test]
fn a_watched_list_waits_for_a_collector_that_goes_and_comes_back() {
    let mut bench = mesh();
    let Some(mut terminal) = Terminal::run(&shell(&bench, "sessions --watch 0.1")) else { return };
    terminal.until("web-1");
    bench.stop();
    terminal.until("lmctl: the session with the collector ended; reconnecting");
    bench.script().sessions[0].identity = "renamed".to_owned();
    bench.start_again();
    terminal.until("renamed");
    // One who may not any more is told, and does not try for ever.
    bench.script().error = Some("revoked: by alice".to_owned());
    terminal.until("lmctl: revoked: by alice");
    terminal.press("\x03");
    terminal.end();
}

#[test]
fn top_gives_the_terminal_back_when_the_operator_loses_his_rights() {
    let bench = mesh();
    let Some(terminal) = Terminal::run(&shell(&bench, "top --every 0.1")) else { return };
    terminal.until("sort: CALLS/S");
    // Overload is for the moment; the last look stays.
    bench.script().error = Some("overloaded: 16 calls\x1b[2J".to_owned());
    terminal.until("overloaded: 16 calls\\x1b[2J");
    bench.script().error = None;
    bench.script().sessions[0].identity = "renamed".to_owned();
    terminal.until("renamed");
    bench.script().error = Some("revoked: by alice".to_owned());
    let printed = terminal.end();
    is_restored(&printed, 77);
    assert!(printed.contains("lmctl: revoked: by alice"), "{printed:?}");
}

#[test]
fn a_watched_table_is_redrawn_in_its_place() {
    let bench = mesh();
    let Some(mut terminal) = Terminal::run(&shell(&bench, "sessions --watch 0.1")) else { return };
    terminal.until("web-1");
    bench.script().sessions[0].identity = "renamed".to_owned();
    terminal.until("renamed");
    terminal.press("\x03");
    let printed = terminal.end();
    assert!(printed.matches("\x1b[H").count() > 1, "{printed:?}");
    assert!(!printed.contains("\x1b]0;"), "{printed:?}");
    let widest = printed.lines().filter(|line| line.contains("s1001")).map(|line| line.len()).max();
    assert!(widest.unwrap() < 90, "lines are cut to the terminal: {printed:?}");
}
