//! Tools that make a host go wrong on purpose: a wrong clock, failing system
//! calls, a small disk. A test without its tool says `SKIPPED` and passes,
//! unless `LM_REQUIRE_ALL` is set.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Notes that a test cannot run here.
///
/// # Panics
///
/// When `LM_REQUIRE_ALL` is set.
#[track_caller]
pub fn skipped(what: &str, why: &str) {
    println!("SKIPPED {what}: {why}");
    assert!(std::env::var_os("LM_REQUIRE_ALL").is_none(), "{what} is required by LM_REQUIRE_ALL, but {why}");
}

/// Gives processes a clock of their own, by libfaketime. Monotonic clocks and
/// times of files stay as they are.
pub struct FakeTime {
    library: PathBuf,
}

impl FakeTime {
    /// `None` when the library is not installed.
    #[track_caller]
    pub fn find() -> Option<FakeTime> {
        let dirs = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library =
            dirs.map(|dir| dir.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file());
        if library.is_none() {
            skipped("a test with a wrong clock", "libfaketime is not installed");
        }
        library.map(|library| FakeTime { library })
    }

    /// A clock that is off by `offset` ("+2d", "-1d").
    pub fn fixed(&self, offset: &str) -> Vec<(String, String)> {
        self.env("FAKETIME", offset)
    }

    /// A clock that is off by what the file says, at any time.
    pub fn movable(&self, clock: &MovableClock) -> Vec<(String, String)> {
        let mut env = self.env("FAKETIME_TIMESTAMP_FILE", &clock.file.display().to_string());
        env.push(("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()));
        env
    }

    fn env(&self, name: &str, value: &str) -> Vec<(String, String)> {
        let library = self.library.display().to_string();
        [
            ("LD_PRELOAD", &library[..]),
            (name, value),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// A clock that a test moves.
pub struct MovableClock {
    file: PathBuf,
}

impl MovableClock {
    /// A clock that is right, at first.
    pub fn new(file: PathBuf) -> MovableClock {
        let clock = MovableClock { file };
        clock.set("+0");
        clock
    }

    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn set(&self, offset: &str) {
        // Renamed into place: it is read all the time.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n")).expect("the directory is ours");
        fs::rename(&new, &self.file).expect("the directory is ours");
    }
}

/// Makes system calls of a process fail, by strace.
pub struct Strace {
    program: PathBuf,
}

impl Strace {
    /// `None` when it is not installed or may not trace.
    #[track_caller]
    pub fn find() -> Option<Strace> {
        let program = Path::new("/usr/bin/strace");
        let works = Command::new(program).args(["-o", "/dev/null", "-D", "/bin/true"]).status();
        if works.is_ok_and(|status| status.success()) {
            return Some(Strace { program: program.to_owned() });
        }
        skipped("a test with failing system calls", "strace is not installed or may not trace");
        None
    }

    /// What to put before a command, so that `calls` fail as `fault` says.
    /// With `path`, only those that concern this file.
    pub fn inject(&self, calls: &str, fault: &str, path: Option<&Path>, log: &Path) -> Vec<OsString> {
        let mut wrapper: Vec<OsString> = vec![self.program.clone().into()];
        // The tracer is a grandchild: the process is our own child, to be killed as ever.
        wrapper.extend(["-D", "-f", "--seccomp-bpf", "-y", "-qq", "-o"].map(OsString::from));
        wrapper.push(log.into());
        if let Some(path) = path {
            wrapper.extend(["-P".into(), path.into()]);
        }
        wrapper.push(format!("--trace={calls}").into());
        wrapper.push(format!("--inject={calls}:{fault}").into());
        wrapper
    }
}

/// A small disk of its own; unmounted on drop.
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty disk at `dir`; `None` when we may not.
    ///
    /// # Panics
    ///
    /// When the directory cannot be made.
    #[track_caller]
    pub fn mount(dir: &Path, bytes: u64) -> Option<SmallDisk> {
        fs::create_dir_all(dir).expect("the directory is ours");
        let options = format!("size={bytes},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "lm-test"]).arg(dir).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk { dir: dir.to_owned() });
        }
        skipped("a test with a full disk", "this user may not mount");
        None
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Takes all room.
    ///
    /// # Panics
    ///
    /// When it fails for another reason than a full disk.
    pub fn fill(&self) {
        use std::io::{ErrorKind, Write};
        let mut file = fs::File::create(self.filler()).expect("the disk is ours");
        for size in [1 << 16, 1 << 12, 1] {
            while match file.write(&vec![1; size]) {
                Ok(count) => count > 0,
                Err(error) if error.kind() == ErrorKind::StorageFull => false,
                Err(error) => panic!("cannot fill the disk: {error}"),
            } {}
        }
    }

    /// Gives it back.
    ///
    /// # Panics
    ///
    /// When there is nothing to give back.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process may not have ended yet.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
