//! What containers use, from the control groups that hold them.
//!
//! A container is a control group whose name says so: 64 hexadecimal digits,
//! alone or in a systemd scope (`docker-<id>.scope`), or `lxc.payload.<name>`.
//! That holds for Docker, Podman, containerd, CRI-O and LXC, and needs neither
//! their socket nor their permission. Their names for containers are not in
//! the tree: `id` is the first twelve digits, as `docker ps` shows. Where the
//! settings name Docker's socket, [`Docker`] is asked for names, and for those
//! containers that do not run.

use std::path::PathBuf;

use super::docker::{Docker, Named};
use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

/// Containers beyond these are not shown.
pub const CONTAINER_COUNT_MAX: usize = 256;
/// Digits of an id that are shown.
pub const ID_DIGITS: usize = 12;
/// States of a container that has a control group, and all that Docker knows.
const GROUP_STATES: [&str; 2] = ["running", "paused"];
const DOCKER_STATES: [&str; 7] = ["running", "paused", "created", "restarting", "removing", "exited", "dead"];
/// Control groups that are looked at, and how deep they may be nested;
/// Kubernetes has its containers in the fourth level.
const GROUP_COUNT_MAX: usize = 8192;
const DEPTH_MAX: usize = 8;
/// A limit in version 1 that is none: the largest whole number of pages.
const UNLIMITED: f64 = (1u64 << 62) as f64;

pub struct Containers {
    root: PathBuf,
    docker: Option<Docker>,
}

impl Containers {
    pub fn new(options: &HostOptions) -> Self {
        let docker = options.docker_socket.clone().map(Docker::new);
        Containers { root: options.sysfs.join("fs/cgroup"), docker }
    }
}

impl Collect for Containers {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let hierarchy = Hierarchy::open(&self.root)?;
        let named = match &mut self.docker {
            Some(docker) => {
                let (named, trouble) = docker.containers(cycle.now);
                cycle.left_out.extend(trouble);
                named
            }
            None => &[],
        };
        let groups = hierarchy.containers();
        for Container { path, id, runtime } in &groups {
            let known = named.iter().find(|known| known.id == *id);
            let name = known.map_or("", |known| &known.name);
            let labels = [("id", &id[..]), ("runtime", &runtime[..]), ("name", name)];
            for Measure { name, value } in hierarchy.measure(path, buffer) {
                push(cycle, name, &labels, value)?;
            }
            let state = if hierarchy.is_paused(path, buffer) { "paused" } else { "running" };
            let states = if known.is_some() { &DOCKER_STATES[..] } else { &GROUP_STATES };
            push_states(cycle, labels, states, state)?;
        }
        let is_stopped = |known: &&Named| !groups.iter().any(|group| group.id == known.id);
        for Named { id, name, state } in named.iter().filter(is_stopped) {
            let labels = [("id", &id[..]), ("runtime", "docker"), ("name", &name[..])];
            push_states(cycle, labels, &DOCKER_STATES, state)?;
        }
        Ok(())
    }
}

/// 1 for the state at hand and 0 for the others.
fn push_states(
    cycle: &mut Cycle<'_>,
    [id, runtime, name]: [(&str, &str); 3],
    states: &[&str],
    current: &str,
) -> Result<(), Error> {
    for state in states {
        let labels = [id, runtime, name, ("state", state)];
        push(cycle, "lmagent_container_state", &labels, f64::from(u8::from(*state == current)))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Container {
    /// Below the root of a hierarchy.
    path: String,
    id: String,
    runtime: String,
}

struct Measure {
    name: &'static str,
    value: f64,
}

/// How the kernel at hand arranges control groups.
enum Hierarchy {
    /// One tree with all files.
    Unified(Directory),
    /// A tree for each controller, with the same groups in each.
    Split {
        cpu: Directory,
        cpuacct: Directory,
        memory: Directory,
        blkio: Directory,
        pids: Directory,
        freezer: Directory,
    },
}

impl Hierarchy {
    fn open(root: &std::path::Path) -> Result<Self, Error> {
        let directory = Directory::open(root)?;
        if directory.bytes("cgroup.controllers", &mut Vec::new()).is_some() {
            return Ok(Hierarchy::Unified(directory));
        }
        let of = |controller: &str| Directory::open(&root.join(controller));
        Ok(Hierarchy::Split {
            cpu: of("cpu")?,
            cpuacct: of("cpuacct")?,
            memory: of("memory")?,
            blkio: of("blkio")?,
            pids: of("pids")?,
            freezer: of("freezer")?,
        })
    }

    fn containers(&self) -> Vec<Container> {
        let root = match self {
            Hierarchy::Unified(root) => root,
            Hierarchy::Split { memory, .. } => memory,
        };
        let mut found = Vec::new();
        let mut groups = vec![(String::new(), 0)];
        let mut looked_at = 0;
        while let Some((path, depth)) = groups.pop() {
            let Some(group) = root.inside(if path.is_empty() { "." } else { &path }) else { continue };
            looked_at += 1;
            if looked_at > GROUP_COUNT_MAX || found.len() >= CONTAINER_COUNT_MAX {
                break;
            }
            for name in group.directory_names() {
                let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                let parent = path.rsplit('/').next().unwrap_or_default();
                match container(&name, parent) {
                    Some((id, runtime)) => found.push(Container { path: below, id, runtime }),
                    None if depth < DEPTH_MAX => groups.push((below, depth + 1)),
                    None => {}
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.truncate(CONTAINER_COUNT_MAX);
        found
    }

    fn measure(&self, path: &str, buffer: &mut Vec<u8>) -> Vec<Measure> {
        let file = |name: &str| format!("{path}/{name}");
        let mut all = Vec::new();
        let mut add =
            |name: &'static str, value: Option<f64>| all.extend(value.map(|value| Measure { name, value }));
        match self {
            Hierarchy::Unified(root) => {
                let cpu = root.text(&file("cpu.stat"), buffer).unwrap_or_default().into_owned();
                add(
                    "lmagent_container_cpu_seconds_total",
                    field(&cpu, "usage_usec").map(|micros| micros / 1e6),
                );
                let throttled = field(&cpu, "throttled_usec").map(|micros| micros / 1e6);
                add("lmagent_container_cpu_throttled_seconds_total", throttled);
                add("lmagent_container_memory_bytes", root.number(&file("memory.current"), buffer));
                add("lmagent_container_memory_limit_bytes", root.number(&file("memory.max"), buffer));
                let events = root.text(&file("memory.events"), buffer);
                add(
                    "lmagent_container_oom_kills_total",
                    events.and_then(|events| field(&events, "oom_kill")),
                );
                if let Some(io) = root.text(&file("io.stat"), buffer) {
                    add("lmagent_container_read_bytes_total", Some(sum_pairs(&io, "rbytes")));
                    add("lmagent_container_written_bytes_total", Some(sum_pairs(&io, "wbytes")));
                }
                add("lmagent_container_processes", root.number(&file("pids.current"), buffer));
            }
            Hierarchy::Split { cpu, cpuacct, memory, blkio, pids, .. } => {
                let used = cpuacct.number(&file("cpuacct.usage"), buffer);
                add("lmagent_container_cpu_seconds_total", used.map(|nanos| nanos / 1e9));
                let stat = cpu.text(&file("cpu.stat"), buffer);
                let throttled = stat.and_then(|stat| field(&stat, "throttled_time"));
                add("lmagent_container_cpu_throttled_seconds_total", throttled.map(|nanos| nanos / 1e9));
                add("lmagent_container_memory_bytes", memory.number(&file("memory.usage_in_bytes"), buffer));
                let limit = memory.number(&file("memory.limit_in_bytes"), buffer);
                add("lmagent_container_memory_limit_bytes", limit.filter(|limit| *limit < UNLIMITED));
                let events = memory.text(&file("memory.oom_control"), buffer);
                add(
                    "lmagent_container_oom_kills_total",
                    events.and_then(|events| field(&events, "oom_kill")),
                );
                if let Some(io) = blkio.text(&file("blkio.throttle.io_service_bytes_recursive"), buffer) {
                    add("lmagent_container_read_bytes_total", Some(sum_rows(&io, "Read")));
                    add("lmagent_container_written_bytes_total", Some(sum_rows(&io, "Write")));
                }
                add("lmagent_container_processes", pids.number(&file("pids.current"), buffer));
            }
        }
        all
    }

    fn is_paused(&self, path: &str, buffer: &mut Vec<u8>) -> bool {
        match self {
            Hierarchy::Unified(root) => {
                let events = root.text(&format!("{path}/cgroup.events"), buffer);
                events.and_then(|events| field(&events, "frozen")) == Some(1.0)
            }
            Hierarchy::Split { freezer, .. } => {
                freezer.bytes(&format!("{path}/freezer.state"), buffer) == Some(b"FROZEN")
            }
        }
    }
}

/// The id and the runtime of the container whose control group is `name`.
fn container(name: &str, parent: &str) -> Option<(String, String)> {
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some((name.to_owned(), "lxc".to_owned()));
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = name.rsplit_once('-').unwrap_or(("", name));
    if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let runtime = match (prefix, parent) {
        ("libpod", _) => "podman",
        ("cri-containerd", _) => "containerd",
        ("crio", _) => "cri-o",
        ("docker", _) | ("", "docker") => "docker",
        // Podman watches each container from a group of its own.
        ("libpod-conmon" | "crio-conmon", _) => return None,
        ("", _) => "",
        (other, _) => other,
    };
    Some((id[..ID_DIGITS].to_owned(), runtime.to_owned()))
}

/// The number of the line that begins with `key`.
fn field(text: &str, key: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse::<u64>().ok().map(|value| value as f64)
}

/// Of all devices in `8:0 rbytes=1 wbytes=2 rios=3`.
fn sum_pairs(text: &str, key: &str) -> f64 {
    let pairs = text.split_ascii_whitespace().filter_map(|word| word.split_once('='));
    pairs
        .filter(|(found, _)| *found == key)
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .map(|value| value as f64)
        .sum()
}

/// Of all devices in `8:0 Read 1`, a line each.
fn sum_rows(text: &str, key: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next()? == key).then(|| words.next()?.parse::<u64>().ok())?
    });
    values.map(|value| value as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_groups_are_containers() {
        let id = "0123456789abcdef".repeat(4);
        let check = |name: &str, parent: &str, expected: Option<(&str, &str)>| {
            let found = container(name, parent);
            let found = found.as_ref().map(|(id, runtime)| (&id[..], &runtime[..]));
            assert_eq!(found, expected, "{name}");
        };
        check(&format!("docker-{id}.scope"), "system.slice", Some(("0123456789ab", "docker")));
        check(&id, "docker", Some(("0123456789ab", "docker")));
        check(&format!("cri-containerd-{id}.scope"), "x", Some(("0123456789ab", "containerd")));
        check(&format!("crio-{id}.scope"), "x", Some(("0123456789ab", "cri-o")));
        check(&format!("libpod-{id}.scope"), "x", Some(("0123456789ab", "podman")));
        check(&format!("libpod-conmon-{id}.scope"), "x", None);
        check(&id, "pod1234", Some(("0123456789ab", "")));
        check("lxc.payload.web", "", Some(("web", "lxc")));
        check("system.slice", "", None);
        check(&id[1..], "docker", None);
        check("ssh.service", "system.slice", None);
    }
}
