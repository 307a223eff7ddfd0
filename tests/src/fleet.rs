//! Hosts of their own on one network, as far as one machine can make them:
//! each has a network and a mount namespace, and directories of its own where
//! `/etc`, `/var/lib`, `/var/log`, `/run`, `/root` and `/usr/local` are.
//!
//! What a guide takes for granted stands in `/usr/local/sbin` of each, as
//! scripts: `ssh` and `scp` go from host to host without asking anybody, and
//! `systemctl` does what units say about users, directories, credentials and
//! commands, since there is no systemd here. Nothing outside the namespaces is
//! changed, and all of it ends with the [`Fleet`].

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::eventually;
use crate::namespace::find;
use crate::process::{Output, run};

/// How long a command on a host may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// Namespaces last as long as these processes, and not longer than this.
const HOLD_SECONDS: &str = "1800";
/// The network: no packet leaves it.
const NET: &str = "10.77.0";

/// What is needed beside root, and where Debian has it.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("useradd", "passwd"),
    ("setsid", "util-linux"),
    ("curl", "curl"),
];

/// Of `/etc`, for names and passwords; the rest is the host's own.
const ETC: [&str; 10] = [
    "passwd",
    "group",
    "shadow",
    "gshadow",
    "login.defs",
    "nsswitch.conf",
    "ld.so.cache",
    "default/useradd",
    "subuid",
    "subgid",
];

/// Directories of a host, and where it sees them.
const MOUNTS: [(&str, &str); 7] = [
    ("etc", "/etc"),
    ("lib", "/var/lib"),
    ("log", "/var/log"),
    ("run", "/run"),
    ("root", "/root"),
    ("bin", "/usr/local/bin"),
    ("../sbin", "/usr/local/sbin"),
];

/// Some hosts and the switch between them.
pub struct Fleet {
    hosts: Vec<String>,
    /// Hold the namespaces; the first is the switch.
    holders: Vec<Child>,
    dir: TempDir,
}

impl Fleet {
    /// These hosts, each known to all by its name; the first is also `alias`.
    /// `None` with a word on standard output where this cannot be had.
    ///
    /// # Panics
    ///
    /// When it should work and does not, or `LM_REQUIRE_ALL` is set.
    pub fn new(hosts: &[&str], alias: &str) -> Option<Fleet> {
        let missing = TOOLS.iter().find(|(tool, _)| find(tool).is_none());
        if !rustix::process::geteuid().is_root() {
            crate::tools::skipped("hosts in namespaces", "not root");
            return None;
        }
        if let Some((tool, package)) = missing {
            let why = format!("no {tool}; on Debian: apt-get install {package}");
            crate::tools::skipped("hosts in namespaces", &why);
            return None;
        }
        let dir = tempfile::Builder::new().prefix("lm-fleet-").tempdir().expect("we may write there");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut fleet = Fleet { hosts, holders: Vec::new(), dir };
        fleet.write_tools();
        let names =
            fleet.hosts.iter().enumerate().map(|(index, host)| format!("{} {host}\n", address(index)));
        let names = format!("{} {alias}\n{}", address(0), names.collect::<String>());
        fs::create_dir(fleet.path("switch")).expect("the directory is ours");
        fleet.hold("switch", "");
        fleet.on("switch", "ip link add br0 type bridge; ip link set br0 up; ip link set lo up");
        for index in 0..fleet.hosts.len() {
            fleet.add(index, &names);
        }
        Some(fleet)
    }

    fn add(&mut self, index: usize, names: &str) {
        let host = self.hosts[index].clone();
        for (inside, _) in &MOUNTS[..6] {
            fs::create_dir_all(self.path(&host).join(inside)).expect("the directory is ours");
        }
        let etc = self.path(&host).join("etc");
        fs::create_dir_all(etc.join("systemd/system")).expect("the directory is ours");
        fs::create_dir_all(etc.join("default")).expect("the directory is ours");
        for name in ETC {
            // Not every system has all of them.
            let _ = fs::copy(Path::new("/etc").join(name), etc.join(name));
        }
        fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n{names}")).expect("the directory is ours");
        let dir = self.path(&host).display().to_string();
        let mounts: String =
            MOUNTS.iter().map(|(inside, at)| format!("mount --bind {dir}/{inside} {at}; ")).collect();
        self.hold(&host, &mounts);
        let (switch, pid) = (self.holders[0].id(), self.holders[index + 1].id());
        let cable = format!("port{index}");
        let cable = format!("ip link add {cable} netns {switch} type veth peer name eth0 netns {pid}");
        self.on("switch", &cable);
        self.on("switch", &format!("ip link set port{index} master br0; ip link set port{index} up"));
        self.on(
            &host,
            &format!("ip addr add {}/24 dev eth0; ip link set eth0 up; ip link set lo up", address(index)),
        );
    }

    /// Makes the namespaces of `name`, in which `prepare` was done.
    fn hold(&mut self, name: &str, prepare: &str) {
        let ready = self.path(name).join("ready");
        let script = format!("set -e; {prepare} touch {}; exec sleep {HOLD_SECONDS}", ready.display());
        let child = Command::new(find("unshare").expect("it was looked for"))
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare runs");
        fs::write(self.path(name).join("pid"), child.id().to_string()).expect("the directory is ours");
        self.holders.push(child);
        eventually(&format!("{name} is there"), COMMAND_WITHIN, || {
            if ready.exists() { Ok(()) } else { Err("not ready".to_owned()) }
        });
    }

    fn write_tools(&self) {
        let sbin = self.dir.path().join("sbin");
        fs::create_dir(&sbin).expect("the directory is ours");
        let fleet = self.dir.path().display().to_string();
        for (name, text) in [
            ("enter", include_str!("fleet/enter.sh")),
            ("ssh", include_str!("fleet/ssh.sh")),
            ("scp", include_str!("fleet/scp.sh")),
            ("systemctl", include_str!("fleet/systemctl.sh")),
        ] {
            let path = sbin.join(name);
            fs::write(&path, text.replace("@FLEET@", &fleet)).expect("the directory is ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of a host: `log/app.log` is its `/var/log/app.log`.
    pub fn file(&self, host: &str, name: &str) -> PathBuf {
        self.path(host).join(name)
    }

    /// Runs a script as root on a host, in `/root`, up to its first failure.
    ///
    /// # Panics
    ///
    /// When it takes too long.
    #[track_caller]
    pub fn try_on(&self, host: &str, script: &str) -> Output {
        run(&self.dir.path().join("sbin/enter"), &[host, script], COMMAND_WITHIN)
    }

    /// As [`try_on`](Self::try_on); the script must succeed.
    #[track_caller]
    pub fn on(&self, host: &str, script: &str) -> Output {
        let output = self.try_on(host, script);
        output.expect_code(0);
        output
    }

    /// Pulls a host's cable out, or puts it in again.
    pub fn plug(&self, host: &str, is_in: bool) {
        let index = self.hosts.iter().position(|known| known == host).expect("the test names its hosts");
        let state = if is_in { "up" } else { "down" };
        self.on("switch", &format!("ip link set port{index} {state}"));
    }

    /// The ends of the logs of all units.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            for entry in fs::read_dir(self.file(host, "run/units")).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|kind| kind == "log") {
                    let log = fs::read(entry.path()).unwrap_or_default();
                    let log = String::from_utf8_lossy(&log);
                    let lines: Vec<_> = log.lines().collect();
                    let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                    text.push_str(&format!("==== {host} {:?}\n{tail}\n", entry.file_name()));
                }
            }
        }
        text
    }
}

fn address(index: usize) -> String {
    format!("{NET}.{}", index + 1)
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
        for host in &self.hosts {
            for entry in fs::read_dir(self.file(host, "run/units")).into_iter().flatten().flatten() {
                let pid = fs::read_to_string(entry.path()).ok().and_then(|text| text.trim().parse().ok());
                let is_pid = entry.path().extension().is_some_and(|kind| kind == "pid");
                if let Some(pid) = pid.filter(|_| is_pid).and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
