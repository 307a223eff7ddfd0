//! Processes that end with the test.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Where one of our binaries is: beside the test's own, or in `LM_BIN_DIR`.
///
/// # Panics
///
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("LM_BIN_DIR").map_or_else(
        || {
            let own = std::env::current_exe().expect("Linux knows the path of every process");
            // target/<profile>/deps/<test>, or beside a program of ours.
            let dir = own.parent().expect("a program is in a directory");
            if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
        },
        PathBuf::from,
    );
    binary_in(&dir, name)
}

/// One of our binaries in `dir`.
///
/// # Panics
///
/// When it is not there.
pub fn binary_in(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing: these tests run real binaries, so run `cargo build` first \
         (with --release for release tests), or name their directory in LM_BIN_DIR",
        path.display()
    );
    path
}

/// What a command that ended by itself said.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Output {
    /// Demands an exit code.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Demands that standard error contains all of `parts`.
    #[track_caller]
    pub fn expect_stderr(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in the standard error of {self}");
        }
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { code, stdout, stderr, command } = self;
        write!(f, "{command}\nexit code: {code:?}\nstandard output:\n{stdout}\nstandard error:\n{stderr}")
    }
}

/// Runs a command to its end.
///
/// # Panics
///
/// When it cannot be started or takes longer than `within`.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: &Path, args: &[S], within: Duration) -> Output {
    let dir = tempfile::tempdir().expect("the temporary directory is writable");
    let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let create = |path: &Path| File::create(path).expect("the temporary directory is writable");
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(create(&out)).stderr(create(&err));
    let shown = show(program, args);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let status = wait(&mut child, within);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |path: &Path| {
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    };
    let (stdout, stderr) = (read(&out), read(&err));
    let output = Output { code: status.and_then(|status| status.code()), stdout, stderr, command: shown };
    assert!(status.is_some(), "still running after {within:?}: {output}");
    output
}

fn show<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> String {
    let mut shown = program.display().to_string();
    for arg in args {
        let _ = write!(shown, " {}", arg.as_ref().to_string_lossy());
    }
    shown
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A long-running process; killed on drop.
pub struct Service {
    pub name: String,
    program: PathBuf,
    args: Vec<OsString>,
    /// A command that starts the program; empty for none.
    wrapper: Vec<OsString>,
    env: Vec<(String, String)>,
    log: PathBuf,
    /// Bytes that were in the log at the last start.
    run_began: u64,
    child: Option<Child>,
}

/// How long a process may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(25);

impl Service {
    pub fn new(name: &str, program: PathBuf, args: Vec<OsString>, log: PathBuf) -> Self {
        Service {
            name: name.to_owned(),
            program,
            args,
            wrapper: Vec::new(),
            env: Vec::new(),
            log,
            run_began: 0,
            child: None,
        }
    }

    /// Environment of the next start.
    pub fn set_env(&mut self, env: Vec<(String, String)>) {
        self.env = env;
    }

    /// From the next start on, the program is started by this command. The
    /// child must stay the program itself.
    pub fn set_wrapper(&mut self, wrapper: Vec<OsString>) {
        self.wrapper = wrapper;
    }

    /// Runs another binary from the next start on.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// # Panics
    ///
    /// When it runs already or cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut log =
            OpenOptions::new().create(true).append(true).open(&self.log).expect("logs are writable");
        self.run_began = log.metadata().map_or(0, |metadata| metadata.len());
        let env: String = self.env.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let mut line = self.wrapper.clone();
        line.push(self.program.clone().into());
        line.extend(self.args.iter().cloned());
        let _ = writeln!(log, "--- {env}{}", show(Path::new(&line[0]), &line[1..]));
        let again = log.try_clone().expect("a file can be shared");
        let child = Command::new(&line[0])
            .args(&line[1..])
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        self.child = Some(child);
    }

    /// Its process id while it was started and not yet ended by us.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The exit status, once it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        self.note(&format!("ended: {status}"));
        Some(status)
    }

    /// SIGHUP: what can be read again is.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
        self.note("SIGHUP");
    }

    /// SIGSTOP: it hangs, and its sockets stay.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.note("SIGSTOP");
    }

    /// SIGCONT, after [`pause`](Self::pause).
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn go_on(&mut self) {
        self.signal(Signal::CONT);
        self.note("SIGCONT");
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        let _ = kill_process(Pid::from_child(child), signal);
    }

    /// Its resident memory, in KiB; 0 when it does not run.
    pub fn memory_kib(&self) -> u64 {
        self.status("VmRSS:").and_then(|text| text.strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
    }

    /// What the kernel says of it under `name`, while it runs.
    fn status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned())
    }

    /// The process around it that traces it.
    fn tracer(&self) -> Option<Pid> {
        if self.wrapper.is_empty() { None } else { Pid::from_raw(self.status("TracerPid:")?.parse().ok()?) }
    }

    /// CPU time that it has used, user and system, in clock ticks' resolution.
    pub fn cpu_time(&self) -> Duration {
        let Some(child) = &self.child else { return Duration::ZERO };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        // The name may hold anything, up to the last parenthesis.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// SIGTERM, without waiting for what follows.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        self.note("SIGTERM");
    }

    /// SIGTERM, and the exit status.
    ///
    /// # Panics
    ///
    /// When it does not run, or does not end in time.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        self.note("SIGTERM");
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        match wait(&mut child, STOP_WITHIN) {
            Some(status) => {
                self.note(&format!("ended: {status}"));
                status
            }
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} still runs {STOP_WITHIN:?} after SIGTERM; its log:\n{}", self.name, self.tail());
            }
        }
    }

    /// SIGKILL; harmless when it does not run.
    pub fn kill(&mut self) {
        let tracer = self.tracer();
        if let Some(mut child) = self.child.take() {
            self.note("SIGKILL");
            let _ = child.kill();
            // One that delays a call would not let it end before.
            if let Some(tracer) = tracer {
                let _ = kill_process(tracer, Signal::KILL);
            }
            let _ = child.wait();
        }
    }

    /// What it wrote since its last start.
    pub fn log_of_run(&self) -> String {
        let mut at = self.run_began;
        self.log_since(&mut at)
    }

    /// Everything that it has written.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What it has written since `at` bytes, which grows by that.
    pub fn log_since(&self, at: &mut u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut log) = File::open(&self.log)
            && log.seek(SeekFrom::Start(*at)).is_ok()
            && log.read_to_end(&mut bytes).is_ok()
        {
            *at += bytes.len() as u64;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn note(&self, text: &str) {
        if let Ok(mut log) = OpenOptions::new().append(true).open(&self.log) {
            let _ = writeln!(log, "--- {text}");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}
