//! Whole-system tests with real binaries: run `cargo build` first.

mod agents;
mod backlog;
mod clocks;
mod commands;
mod connections;
mod contract;
mod control;
mod dashboards;
mod disks;
mod emptied;
mod enrol;
mod hosts;
mod https;
mod install;
mod live;
mod manners;
mod messages;
mod node_dashboard;
mod observability;
mod operator;
mod parameters;
mod path;
mod queue;
mod refusals;
mod restarts;
mod rights;
mod rotation;
mod scope;
mod scrape;
mod side_by_side;
mod systemd;
mod transport;
mod writes;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use lm_tests::accounting::{Violations, lines};
use lm_tests::api::Api;
use lm_tests::{eventually, try_eventually};

/// Enough for anything that should happen soon, on a busy machine too.
const SOON: Duration = Duration::from_secs(15);

/// Appends to a file of a test.
#[track_caller]
fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Waits until all numbered lines of producer 0 were found, then demands that
/// each is there exactly once.
#[track_caller]
fn expect_lines(api: &Api, agent: &str, written: u64, within: Duration) {
    let selector = format!("{{instance=\"{agent}\"}}");
    let found = try_eventually(within, || {
        let found = api.all_lines(&selector, "p=0")?;
        if (found.len() as u64) < written {
            Err(format!("{} of {written} lines", found.len()))
        } else {
            Ok(found)
        }
    });
    let found = found.or_else(|_| api.all_lines(&selector, "p=0")).unwrap();
    let mut violations = Violations::default();
    lines::check(&found, 0, written, &mut violations);
    assert!(violations.is_empty(), "{:#?}", violations.into_vec());
}

/// Waits until a line with `text` is found, and answers how often it is.
#[track_caller]
fn expect_line(api: &Api, selector: &str, text: &str) -> usize {
    eventually(&format!("{text:?} is found"), SOON, || {
        let found = api.all_lines(selector, text)?;
        if found.is_empty() { Err("no such line".to_owned()) } else { Ok(found.len()) }
    })
}
