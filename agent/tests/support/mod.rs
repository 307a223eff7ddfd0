//! A collector in memory, and agents to point at it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod collector;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A directory with certificates, a token, log files and a configuration.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        place.write("cert.pem", &issued.cert.pem());
        place.write("key.pem", &issued.signing_key.serialize_pem());
        place.write("token", TOKEN);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn append(&self, name: &str, text: &str) {
        use std::io::Write;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// A configuration; `extra` is put at its end.
    pub fn config(&self, port: u16, extra: &str) -> PathBuf {
        let dir = self.dir.path().display();
        let text = format!(
            "agent_id = 'web-1'\nupload_timeout = '8s'\nshutdown_timeout = '2s'\n\
             [collector]\nendpoints = ['127.0.0.1:{port}']\nserver_name = 'localhost'\n\
             tls_ca_cert_file = '{dir}/cert.pem'\nauth_token_file = '{dir}/token'\n\
             [metrics]\ninterval = '1s'\n\
             [logs]\nfiles = ['{dir}/*.log']\nfrom = 'start'\n\
             [queue]\ndir = '{dir}/queue'\nbytes_max = '16MiB'\nsegment_bytes = '256KiB'\n{extra}"
        );
        self.write("agent.toml", &text)
    }
}

/// Runs the agent to its end.
pub fn run(arguments: &[&str], file: Option<&Path>) -> Output {
    let output = agent(arguments, file).output().unwrap();
    println!("lm-agent {arguments:?} {file:?}: {}", output.status);
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output
}

pub fn code(arguments: &[&str], file: Option<&Path>) -> i32 {
    run(arguments, file).status.code().unwrap()
}

fn agent(arguments: &[&str], file: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lm-agent"));
    command.args(arguments).args(file);
    command
}

/// A running `--daemon`; killed when dropped.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(file: &Path) -> Self {
        Daemon(agent(&["--daemon"], Some(file)).stdout(Stdio::inherit()).spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        eventually("the end of the agent", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `is_so`, which must become true within twenty seconds.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
