//! Units of systemd and their states, as `systemctl` says them.
//!
//! systemd has no files for this, only D-Bus. A library for that is eight
//! packages with old ones among them (rustbus) or some thirty (zbus), and
//! asking for each property of each unit keeps process 1 busy; `systemctl` is
//! wherever systemd is, and asks three times for all. It takes more time than
//! all of our files together, so it is asked once a minute, and what it said
//! is repeated in between. The collector is off unless asked for.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lm_model::Timestamp;

use super::ask::ask;
use crate::sources::Measurement;
use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::filter::Filter;
use crate::sources::host::{Error, HostOptions};

/// For how long an answer is repeated.
const REPEATED_FOR: Duration = Duration::from_secs(60);
/// For how long measuring may be held up, three times.
const PATIENCE: Duration = Duration::from_secs(2);
/// Units beyond these are not counted.
const UNIT_COUNT_MAX: usize = 4096;

const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

const LIST: [&str; 6] = ["list-units", "--all", "--plain", "--no-legend", "--full", "--no-pager"];
const SHOW: [&str; 7] = [
    "show",
    "*.service",
    "*.socket",
    "*.timer",
    "--no-pager",
    "--timestamp=unix",
    "--property=Id,Type,NAccepted,NConnections,NRefused,LastTriggerUSec",
];
const MANAGER: [&str; 3] = ["show", "--no-pager", "--property=Version,Virtualization,SystemState"];

/// Counters of sockets.
const SOCKET: [(&str, &str); 3] = [
    ("NAccepted", "node_systemd_socket_accepted_connections_total"),
    ("NConnections", "node_systemd_socket_current_connections"),
    ("NRefused", "node_systemd_socket_refused_connections_total"),
];

pub struct Systemd {
    systemctl: PathBuf,
    units: Filter,
    asked_at: Option<Timestamp>,
    answer: Vec<Measurement>,
}

impl Systemd {
    pub fn new(options: &HostOptions) -> Self {
        Systemd {
            systemctl: options.systemctl.clone(),
            units: options.filters.filter("systemd_units"),
            asked_at: None,
            answer: Vec::new(),
        }
    }

    fn ask(&self, arguments: &[&str], buffer: &mut Vec<u8>) -> Result<(), Error> {
        let unreadable = |source: io::Error| Error::Read { path: self.systemctl.clone(), source };
        ask(&self.systemctl, arguments, PATIENCE, buffer).map_err(unreadable)
    }
}

impl Collect for Systemd {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let is_fresh = self.asked_at.is_some_and(|asked_at| {
            let age = cycle.now.as_nanos().saturating_sub(asked_at.as_nanos());
            (0..REPEATED_FOR.as_nanos() as i64).contains(&age)
        });
        if is_fresh {
            for measurement in &self.answer {
                cycle.push(measurement.series, measurement.value);
            }
            return Ok(());
        }
        let first = cycle.out.len();
        self.ask(&MANAGER, buffer)?;
        push_manager(cycle, &String::from_utf8_lossy(buffer))?;
        self.ask(&LIST, buffer)?;
        let list = String::from_utf8_lossy(buffer).into_owned();
        // Systemd before 248 cannot be asked in this way, and then types of
        // services and connections of sockets are not there.
        let properties = match self.ask(&SHOW, buffer) {
            Ok(()) => parse_properties(&String::from_utf8_lossy(buffer)),
            Err(error) => {
                cycle.left_out.push(error);
                BTreeMap::new()
            }
        };
        push_units(cycle, &list, &properties, &self.units)?;
        self.answer.clear();
        self.answer.extend_from_slice(&cycle.out[first..]);
        self.asked_at = Some(cycle.now);
        Ok(())
    }
}

/// Of one unit, or of systemd itself.
type Properties = BTreeMap<String, String>;

/// Lines of `key=value`, with an empty line between units; by the unit's name.
fn parse_properties(text: &str) -> BTreeMap<String, Properties> {
    let units = text.split("\n\n").take(UNIT_COUNT_MAX).map(|unit| {
        let lines = unit.lines().filter_map(|line| line.split_once('='));
        lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Properties>()
    });
    units.filter_map(|mut unit| Some((unit.remove("Id")?, unit))).collect()
}

fn push_manager(cycle: &mut Cycle<'_>, text: &str) -> Result<(), Error> {
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "Version" => {
                // `252 (252.38-1~deb12u1)` or `252.38-1~deb12u1`
                let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
                let number = value[..end].parse::<f64>().unwrap_or(0.0);
                push(cycle, "node_systemd_version", &[("version", value)], number)?;
            }
            "Virtualization" => {
                let kind = if value.is_empty() { "none" } else { value };
                let labels = [("virtualization_type", kind)];
                push(cycle, "node_systemd_virtualization_info", &labels, 1.0)?;
            }
            "SystemState" => {
                let is_running = f64::from(u8::from(value == "running"));
                push(cycle, "node_systemd_system_running", &[], is_running)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lines such as `ssh.service loaded active running OpenBSD Secure Shell server`.
fn push_units(
    cycle: &mut Cycle<'_>,
    list: &str,
    properties: &BTreeMap<String, Properties>,
    shown: &Filter,
) -> Result<(), Error> {
    let mut counts = [0u32; STATES.len()];
    for line in list.lines().take(UNIT_COUNT_MAX) {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(load), Some(active)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Some(at) = STATES.iter().position(|state| *state == active) else { continue };
        counts[at] += 1;
        if load != "loaded" || !shown.shows(name.as_bytes()) {
            continue;
        }
        let of = |key: &str| properties.get(name).and_then(|unit| unit.get(key)).map(String::as_str);
        let kind = of("Type").filter(|_| name.ends_with(".service")).unwrap_or_default();
        for state in STATES {
            let labels = [("name", name), ("state", state), ("type", kind)];
            push(cycle, "node_systemd_unit_state", &labels, f64::from(u8::from(state == active)))?;
        }
        if name.ends_with(".socket") {
            for (key, metric) in SOCKET {
                if let Some(count) = of(key).and_then(|count| count.parse::<u64>().ok()) {
                    push(cycle, metric, &[("name", name)], count as f64)?;
                }
            }
        } else if name.ends_with(".timer") {
            // `@1700000000`, or nothing for one that never was triggered.
            let seconds = of("LastTriggerUSec").map(|time| time.trim_start_matches('@').parse::<f64>());
            if let Some(seconds) = seconds {
                let labels = [("name", name)];
                push(cycle, "node_systemd_timer_last_trigger_seconds", &labels, seconds.unwrap_or(0.0))?;
            }
        }
    }
    for (state, count) in STATES.into_iter().zip(counts) {
        push(cycle, "node_systemd_units", &[("state", state)], f64::from(count))?;
    }
    Ok(())
}
