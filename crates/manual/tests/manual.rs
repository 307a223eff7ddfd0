//! The real program, and what a shell and a reader make of its files.

use std::fs;
use std::process::Command;

#[test]
fn every_command_has_pages_and_completions() {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_lm-manual")).arg(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for name in ["lm-agent", "lm-collector", "lm-gateway", "lmctl"] {
        let page = fs::read_to_string(dir.path().join(format!("man1/{name}.1"))).unwrap();
        for part in [".SH NAME", ".SH SYNOPSIS", "Examples:", "Exit codes:"] {
            assert!(page.contains(part), "{part} is not in {name}.1:\n{page}");
        }
        for file in [format!("bash/{name}.bash"), format!("zsh/_{name}"), format!("fish/{name}.fish")] {
            let text = fs::read_to_string(dir.path().join(&file)).unwrap();
            assert!(text.contains(name), "{file}");
        }
        let bash = dir.path().join(format!("bash/{name}.bash"));
        assert!(Command::new("bash").arg("-n").arg(bash).status().unwrap().success(), "{name}");
    }
    assert!(dir.path().join("man1/lmctl-agent-add.1").exists(), "subcommands have pages too");
    let agent = fs::read_to_string(dir.path().join("bash/lm-agent.bash")).unwrap();
    assert!(agent.contains("--check-config") && agent.contains("reassign"), "{agent}");

    let refused = Command::new(env!("CARGO_BIN_EXE_lm-manual")).arg("/dev/null/x").output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("cannot make /dev/null/x/man1"), "{text}");
}
