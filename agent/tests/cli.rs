//! The command line with the real binary: what it prints and its exit codes.

mod support;

use support::{Place, code, run};

/// Nobody listens there.
const NOBODY: u16 = 9;

#[test]
fn defaults_and_version() {
    let defaults = run(&["--print-defaults"], None);
    assert_eq!(defaults.stdout, lm_agent::config::DEFAULTS.as_bytes());
    let version = run(&["--version"], None);
    assert!(version.stdout.starts_with(b"lm-agent "));
    assert_eq!(code(&["--no-such-flag"], None), 2);
    assert_eq!(code(&[], None), 2);
}

#[test]
fn every_mistake_of_a_configuration_is_printed() {
    let place = Place::new();
    let file = place.write("bad.toml", "agent_id = ''\n[queue]\nbyte_max = '1GB'\n");
    for mode in ["--check-config", "--once", "--daemon", "--flush"] {
        let output = run(&[mode], Some(&file));
        assert_eq!(output.status.code(), Some(78), "{mode}");
        let file = file.display();
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!(
                "{file}:1: agent_id is \"\"; expected 1 to 128 letters, digits, '.', '_' or '-'\n\
                 {file}:3: queue.byte_max is not a known key; did you mean \"bytes_max\"?\n"
            )
        );
    }
    let good = place.config(NOBODY, "");
    assert_eq!(code(&["--check-config"], Some(&good)), 0);
}

#[test]
fn a_heartbeat_is_encoded_without_queue_or_network() {
    let place = Place::new();
    let output = run(&[], Some(&place.config(NOBODY, "")));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("series: ") && text.contains("batches: 1\nbytes: "), "{text}");
    assert!(!place.path("queue").exists());
}

#[test]
fn without_a_collector_everything_stays_in_the_queue() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let file = place.config(NOBODY, "");
    let text = std::fs::read_to_string(&file).unwrap().replace("'8s'", "'300ms'");
    let file = place.write("agent.toml", &text);
    assert_eq!(code(&["--once"], Some(&file)), 69);
    assert_eq!(code(&["--flush"], Some(&file)), 69);
    let status = run(&["queue", "status"], Some(&file));
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("cluster: none yet\n"), "{text}");
    assert!(text.contains("\nlogs: 1 batches, 1 items, "), "{text}");
    assert!(text.ends_with("log files: 1\n"), "{text}");
}

#[test]
fn an_empty_queue_needs_no_collector() {
    let place = Place::new();
    assert_eq!(code(&["--flush"], Some(&place.config(NOBODY, ""))), 0);
}
