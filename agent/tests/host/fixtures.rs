//! node_exporter's test host.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What node_exporter exposes on its test host.
pub const EXPECTED: &str = include_str!("../../../tests/fixtures/node_exporter/e2e-output.txt");

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/node_exporter/fixtures.tar.gz");

/// Changes when what is done to the archive's files changes.
const PREPARATION: u32 = 2;

const OS_RELEASE: &str = "\
NAME=\"Ubuntu\"
VERSION=\"20.04.2 LTS (Focal Fossa)\"
ID=ubuntu
ID_LIKE=debian
PRETTY_NAME=\"Ubuntu 20.04.2 LTS\"
VERSION_ID=\"20.04\"
HOME_URL=\"https://www.ubuntu.com/\"
VERSION_CODENAME=focal
UBUNTU_CODENAME=focal
";

/// The folder that holds the test host's `proc`, `sys` and `udev`; only to be
/// read. Unpacked once for all tests and runs, since it has 2,202 files.
pub fn test_host() -> PathBuf {
    let archive = std::fs::read(ARCHIVE).unwrap();
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = all.join(format!("node_exporter-{:08x}-{PREPARATION}", crc32c::crc32c(&archive)));
    if !place.exists() {
        let dir = tempfile::tempdir_in(all).unwrap();
        let status = Command::new("tar").arg("xzf").arg(ARCHIVE).arg("-C").arg(dir.path()).status();
        assert!(status.expect("tar is part of every Debian").success());
        end_last_lines(&dir.path().join("proc"));
        // In the output, and not in the archive.
        let release = dir.path().join("usr/lib/os-release");
        std::fs::create_dir_all(release.parent().unwrap()).unwrap();
        std::fs::write(release, OS_RELEASE).unwrap();
        // Whoever comes first: the others find it in place and drop theirs.
        if std::fs::rename(dir.path(), &place).is_ok() {
            let _ = dir.keep();
        }
    }
    place
}

/// An editor took the last line feed from some files. The kernel never leaves
/// it out, and we refuse a table without it because it was cut.
fn end_last_lines(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            end_last_lines(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.last().is_some_and(|byte| *byte != b'\n') {
            bytes.push(b'\n');
            std::fs::write(&path, bytes).unwrap();
        }
    }
}
