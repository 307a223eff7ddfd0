//! How the commands behave for people and scripts: help that teaches, exit
//! codes, and nothing but text in pipes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lm_tests::System;
use lm_tests::process::{Output, binary, run};

use crate::SOON;

const PROGRAMS: [&str; 4] = ["lm-agent", "lm-collector", "lm-gateway", "lmctl"];

#[track_caller]
fn call(program: &str, args: &[&str]) -> Output {
    let output = run(&binary(program), args, SOON);
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains('\x1b'), "escapes in a pipe: {output}");
    }
    output
}

#[test]
fn help_teaches_with_examples_and_exit_codes() {
    for program in PROGRAMS {
        let help = call(program, &["--help"]);
        help.expect_code(0);
        for part in ["Usage: ", "\nExamples:\n", "\nExit codes:\n", "  78  "] {
            assert!(help.stdout.contains(part), "{part:?} is not in {help}");
        }
        let version = call(program, &["--version"]);
        assert!(version.expect_code(0).stdout.starts_with(&format!("{program} ")), "{version}");
    }
    for (program, args) in [
        ("lm-agent", &["setup", "--help"][..]),
        ("lm-collector", &["setup", "--help"]),
        ("lmctl", &["agent", "add", "--help"]),
    ] {
        assert!(call(program, args).expect_code(0).stdout.contains("\nExamples:\n"), "{program} {args:?}");
    }
}

#[test]
fn a_queue_is_told_to_programs_too() {
    let system = System::new(&["a"]);
    let file = system.agents[0].config_file.display().to_string();
    let told = call("lm-agent", &["queue", "status", &file, "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told.expect_code(0).stdout).unwrap();
    assert_eq!(told["streams"].as_array().unwrap().len(), 3, "{told}");
    assert_eq!((&told["cluster"], &told["streams"][0]["pending_items"]), (&"".into(), &0.into()), "{told}");
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let system = System::new(&[]);
    let path = |name: &str| system.path(name).display().to_string();
    let (ca, exposed, bundle) = (path("ca.pem"), path("exposed"), path("bundle"));
    fs::write(&exposed, "t".repeat(64)).unwrap();
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&bundle, "agent_id = \"a\"").unwrap();
    let nowhere = ["--collector", "127.0.0.1:1", "--transport", "tcp", "--ca", &ca, "--token-file"];
    let operator = path("operator-token");
    let rows: [(&str, Vec<&str>, i32, &str); 15] = [
        ("lm-agent", vec!["--nonsense"], 2, "Usage:"),
        ("lm-agent", vec!["/nonexistent"], 78, "/nonexistent:1: cannot read the file"),
        ("lm-agent", vec!["setup", "--bundle", "/nonexistent"], 1, "cannot read /nonexistent"),
        ("lm-agent", vec!["setup", "--bundle", &bundle, "--dir", &ca], 78, "bundle:1: token is missing"),
        ("lm-collector", vec![], 2, "Usage:"),
        ("lm-collector", vec!["setup"], 2, "--name"),
        ("lm-collector", vec!["setup", "--renew", "--name", "x"], 2, "cannot be used with"),
        ("lm-collector", vec!["/nonexistent"], 78, "/nonexistent:1: cannot read the file"),
        ("lm-gateway", vec![], 2, "Usage:"),
        ("lm-gateway", vec!["/nonexistent"], 78, "/nonexistent:1: cannot read the file"),
        ("lmctl", vec!["nonsense"], 2, "Usage:"),
        ("lmctl", vec!["status", "--socket", "/nonexistent"], 69, "lmctl: cannot reach"),
        ("lmctl", [&["status"][..], &nowhere, &[&operator]].concat(), 69, "Nothing answered there"),
        ("lmctl", [&["status"][..], &nowhere, &[&exposed]].concat(), 77, "can be read by others"),
        ("lmctl", vec!["agent", "list", "--dir", "/nonexistent"], 69, "lm-collector setup"),
    ];
    for (program, args, code, says) in rows {
        call(program, &args).expect_code(code).expect_stderr(&[says]);
    }
}
