//! A host of its own for an agent: a network namespace with one cable to ours.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A namespace named after this process; gone on drop, panic or not.
pub struct Namespace {
    pub name: String,
    /// Our end of the cable.
    pub ours: String,
    cable: String,
    net: String,
}

impl Namespace {
    /// A new namespace, or `None` with a word on standard error where this
    /// cannot be had: it takes root, `ip` and `nft`.
    ///
    /// # Panics
    ///
    /// When it should work and does not, or `LM_REQUIRE_ALL` is `1`.
    pub fn new() -> Option<Namespace> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let missing = ["ip", "nft"].into_iter().find(|tool| find(tool).is_none());
        let why = match missing {
            _ if !rustix::process::geteuid().is_root() => Some("not root".to_owned()),
            Some(tool) => Some(format!("no {tool}; on Debian: apt-get install iproute2 nftables")),
            None => None,
        };
        if let Some(why) = why {
            assert!(std::env::var("LM_REQUIRE_ALL").as_deref() != Ok("1"), "{why}");
            eprintln!("SKIPPED network namespaces: {why}");
            return None;
        }
        let number = (std::process::id() % 8192) * 8 + NEXT.fetch_add(1, Ordering::Relaxed) % 8;
        let net = format!("10.{}.{}", 128 + (number >> 8) % 120, number & 255);
        let namespace = Namespace {
            name: format!("lm-{number}"),
            ours: format!("{net}.1"),
            cable: format!("lmv{number}"),
            net,
        };
        let Namespace { name, ours, cable, .. } = &namespace;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {cable} type veth peer name eth0 netns {name}"));
        ip(&format!("addr add {ours}/24 dev {cable}"));
        ip(&format!("link set {cable} up"));
        for command in ["link set lo up", "link set eth0 up"] {
            ip(&format!("-n {name} {command}"));
        }
        ip(&format!("-n {name} addr add {}/24 dev eth0", namespace.address(2)));
        Some(namespace)
    }

    /// An address of the other end: 2 is there from the beginning.
    pub fn address(&self, last: u8) -> String {
        format!("{}.{last}", self.net)
    }

    /// The other end leaves one address for another.
    pub fn move_address(&self, from: u8, to: u8) {
        let name = &self.name;
        ip(&format!("-n {name} addr add {}/24 dev eth0", self.address(to)));
        ip(&format!("-n {name} addr del {}/24 dev eth0", self.address(from)));
        // Deleting a primary address may take its secondaries with it.
        let _ = try_run("ip", &format!("-n {name} addr replace {}/24 dev eth0", self.address(to)));
    }

    /// Takes the cable out: nobody hears or says anything.
    pub fn unplug(&self) {
        ip(&format!("-n {} link set eth0 down", self.name));
    }

    pub fn plug_in(&self) {
        ip(&format!("-n {} link set eth0 up", self.name));
    }

    /// Gives nftables a command inside.
    pub fn nft(&self, command: &str) {
        run("ip", &format!("netns exec {} nft {command}", self.name));
    }

    /// Sets a kernel parameter inside.
    pub fn sysctl(&self, path: &str, value: &str) {
        let script = format!("echo {value} >/proc/sys/{path}");
        let status = Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", &script]).status();
        assert!(status.expect("ip runs").success(), "{path}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_run("ip", &format!("link del {}", self.cable));
        let _ = try_run("ip", &format!("netns del {}", self.name));
    }
}

/// Where a tool is.
pub fn find(tool: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .into_iter()
        .map(|dir| PathBuf::from(dir).join(tool))
        .find(|path| path.exists())
}

fn ip(command: &str) {
    run("ip", command);
}

fn run(tool: &str, command: &str) {
    assert!(try_run(tool, command), "{tool} {command}");
}

fn try_run(tool: &str, command: &str) -> bool {
    let Some(program) = find(tool) else { return false };
    Command::new(program)
        .args(command.split(' '))
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
