//! That the deliberate faults are faults, and that without them a crash at any
//! write or sync costs nothing.

#![cfg(feature = "mutants")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use support::collector::Shared;
use support::{Place, code};

/// The most writes and syncs before everything is queued and delivered.
const SYNC_POINTS_MAX: u32 = 60;

/// Reads a file with a crash at the `n`-th write or sync, and again without;
/// `None` when there was no crash.
fn lines_after_crash(n: u32, mutant: Option<&str>) -> Option<usize> {
    let (place, shared) = (Place::new(), Shared::new("one"));
    let server = shared.listen(&place, 0);
    let file = place.config(server.local_addr().port(), "");
    place.append("a.log", &"line\n".repeat(100));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lm-agent"));
    command.arg("--once").arg(&file).env("LM_CRASH_AT", n.to_string());
    command.envs(mutant.map(|mutant| ("LM_MUTANT", mutant)));
    let status = command.status().unwrap();
    if status.signal() != Some(6) {
        assert!(status.success(), "{status}");
        return None;
    }
    assert_eq!(code(&["--once"], Some(&file)), 0);
    Some(shared.lines().len())
}

#[test]
fn a_crash_costs_no_line_unless_positions_are_stored_apart() {
    for mutant in [None, Some("cursor_apart")] {
        let crashes: Vec<_> = (1..SYNC_POINTS_MAX).map_while(|n| lines_after_crash(n, mutant)).collect();
        println!("{mutant:?}: lines after a crash at each point: {crashes:?}");
        assert!(crashes.len() > 5 && crashes.len() < SYNC_POINTS_MAX as usize - 1, "{}", crashes.len());
        let is_lossy = crashes.iter().any(|lines| *lines < 100);
        assert_eq!(is_lossy, mutant.is_some());
        assert!(crashes.iter().all(|lines| *lines <= 100));
    }
}
