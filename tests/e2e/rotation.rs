//! Rotated log files: each line exactly once, whoever runs meanwhile.

use lm_tests::System;
use lm_tests::accounting::lines::{LineWriter, Rotation};

use crate::{SOON, expect_lines};

#[test]
fn rotation_while_the_agent_runs() {
    let mut system = System::new(&["a"]);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(20);
    system.start();
    for round in 0..4 {
        // What was written right before the rename must not be missed ...
        writer.write(30);
        writer.rotate(Rotation::Rename);
        writer.write(30);
        // ... nor a line of which half is there.
        let api = system.api.clone();
        let written = writer.written();
        writer.write_in_halves(|| expect_lines(&api, "a", written, SOON));
        // A copy keeps only what was read before: wait for that.
        expect_lines(&system.api, "a", writer.written(), SOON);
        writer.rotate(Rotation::CopyTruncate);
        writer.write(10 + round * 40);
        expect_lines(&system.api, "a", writer.written(), SOON);
    }
    // Twice between two looks of the agent.
    writer.rotate(Rotation::Rename);
    writer.write(1);
    writer.rotate(Rotation::Rename);
    writer.write(1);
    expect_lines(&system.api, "a", writer.written(), SOON);
    assert_eq!(system.api.account("a", "logs").unwrap(), (writer.written(), Default::default()));
}

#[test]
fn rotation_while_the_agent_is_down() {
    let mut system = System::new(&["a"]);
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(50);
    system.start();
    expect_lines(&system.api, "a", writer.written(), SOON);
    // Renamed, with lines before and after; killed and stopped in turn. After
    // a copy the file is shorter than before, then longer.
    for (is_killed, rotation, lines) in [
        (false, Rotation::Rename, 20),
        (true, Rotation::Rename, 20),
        (false, Rotation::CopyTruncate, 5),
        (true, Rotation::CopyTruncate, 200),
        (false, Rotation::CopyTruncate, 300),
    ] {
        if is_killed {
            system.agents[0].process.kill();
        } else {
            assert!(system.agents[0].process.stop().success());
        }
        if rotation == Rotation::Rename {
            writer.write(10);
        }
        writer.rotate(rotation);
        writer.write(lines);
        system.agents[0].process.start();
        expect_lines(&system.api, "a", writer.written(), SOON);
    }
    assert_eq!(system.api.account("a", "logs").unwrap(), (writer.written(), Default::default()));
}

#[test]
fn odd_bytes_arrive() {
    let mut system = System::new(&["a"]);
    let log = system.agents[0].logs.join("app.log");
    let mut bytes = b"plain\r\n\n\xff\xfe not utf-8\nnul \0 and \x1b[31mescape\n".to_vec();
    bytes.extend_from_slice(&b"x".repeat(70_000));
    bytes.extend_from_slice(b"\nafter the long one\nunfinished");
    std::fs::write(&log, &bytes).unwrap();
    system.start();
    crate::expect_line(&system.api, "{instance=\"a\"}", "after the long one");
    let found = system.api.all_lines("{instance=\"a\"}", "").unwrap();
    let lines: Vec<_> = found.iter().map(|line| &line.line[..]).collect();
    assert!(lines.contains(&"\u{fffd}\u{fffd} not utf-8"), "{:?}", &lines[..3]);
    assert!(lines.contains(&"nul \0 and \u{1b}[31mescape"));
    assert!(lines.iter().any(|line| line.len() == 65_536), "the long line is cut");
    assert!(!lines.iter().any(|line| line.contains("unfinished")));
    crate::append(&log, " business\n");
    crate::expect_line(&system.api, "{instance=\"a\"}", "unfinished business");
}
