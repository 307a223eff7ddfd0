//! `[metrics]`: how often the host is measured, and what of it.

use std::time::Duration;

use lm_settings::{Section, Value, nearest, units};

use super::seconds;
use crate::sources::host::HostOptions;
use crate::sources::host::filter::{self, FILTERS};
use crate::sources::host::registry::COLLECTORS;

/// More entries in a list are a mistake.
const LIST_LEN_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub interval: Duration,
    /// The `job` label of every series of this agent.
    pub job: String,
    pub host: bool,
    pub host_options: HostOptions,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            interval: Duration::from_secs(15),
            job: "node".to_owned(),
            host: true,
            host_options: HostOptions::default(),
        }
    }
}

impl Metrics {
    pub(super) fn take(&mut self, mut section: Section<'_, '_>) {
        section.read("interval", &mut self.interval, |v| units::duration(v, seconds(1)..=seconds(3600)));
        section.read("job", &mut self.job, units::text);
        section.read("host", &mut self.host, units::flag);
        let host = &mut self.host_options;
        section.read("procfs", &mut host.procfs, units::path);
        section.read("sysfs", &mut host.sysfs, units::path);
        section.read("rootfs", &mut host.rootfs, units::path);
        section.read("udev", &mut host.udev, units::path);
        take_collectors(section.section("collectors"), host);
        take_filters(section.section("filters"), host);
        take_options(section.section("options"), host);
        section.finish();
    }
}

fn take_collectors(mut section: Section<'_, '_>, host: &mut HostOptions) {
    let (mut enable, mut disable) = (Vec::new(), Vec::new());
    section.read_each("enable", &mut enable, LIST_LEN_MAX, |value, _| collector(value));
    section.read_each("disable", &mut disable, LIST_LEN_MAX, |value, _| collector(value));
    if let Some(both) = enable.iter().find(|name| disable.contains(name)) {
        section.complain_at("disable", &format!("disable has {both:?}, which is in enable too"));
    }
    host.collectors.extend(enable);
    host.collectors.retain(|name| !disable.contains(name));
    section.finish();
}

/// The name of a collector.
fn collector(value: &Value<'_>) -> Result<&'static str, String> {
    let names: Vec<_> = COLLECTORS.iter().map(|known| known.name).collect();
    let name = units::text(value).map_err(|_| "expected the name of a collector".to_owned())?;
    match names.iter().find(|known| **known == name) {
        Some(known) => Ok(known),
        None => Err(match nearest(&name, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("expected one of {}", names.join(", ")),
        }),
    }
}

/// A filter whose `include` alone is given has no `exclude`: the default was
/// for another purpose.
fn take_filters(mut section: Section<'_, '_>, host: &mut HostOptions) {
    for known in FILTERS {
        let mut filter = section.section(known.name);
        let (has_include, has_exclude) = (filter.has("include"), filter.has("exclude"));
        let keep = |is_kept: bool, default: &str| if is_kept { default.to_owned() } else { String::new() };
        let mut include = keep(!has_exclude || has_include, known.include);
        let mut exclude = keep(!has_include || has_exclude, known.exclude);
        filter.read("include", &mut include, expression);
        filter.read("exclude", &mut exclude, expression);
        filter.finish();
        host.filters.set(known.name, &include, &exclude).expect("expression() found no mistake");
    }
    section.finish();
}

/// A regular expression; an empty text is none.
fn expression(value: &Value<'_>) -> Result<String, String> {
    let Value::String(text) = value else { return Err("expected a regular expression".to_owned()) };
    match filter::expression(text) {
        Ok(_) => Ok(text.to_string()),
        Err(why) => Err(format!("expected a regular expression: {why}")),
    }
}

fn take_options(mut section: Section<'_, '_>, host: &mut HostOptions) {
    section.read("stat_softirqs", &mut host.stat_softirqs, units::flag);
    section.read("cpu_guest", &mut host.cpu_guest, units::flag);
    section.read("cpu_info", &mut host.cpu_info, units::flag);
    section.read("bcache_priority", &mut host.bcache_priority, units::flag);
    section.read("programs_max", &mut host.programs_max, |value| units::integer(value, 1..=100));
    section.read("docker_socket", &mut host.docker_socket, |value| match value {
        Value::String(path) if path.is_empty() => Ok(None),
        Value::String(path) if path.starts_with('/') => Ok(Some(path.as_ref().into())),
        _ => Err("expected an absolute path, or \"\" for none".to_owned()),
    });
    section.read("textfile", &mut host.textfile, super::patterns);
    section.read_each("sysctl", &mut host.sysctl, LIST_LEN_MAX, |value, _| {
        let setting = units::text(value).unwrap_or_default();
        let (name, names) = setting.split_once(':').unwrap_or((&setting, "x"));
        match is_sysctl(name) && names.split(',').all(is_word) {
            true => Ok(setting),
            false => Err("expected such as \"vm.swappiness\" or \"fs.file-nr:total,current,max\"".to_owned()),
        }
    });
    section.read_each("sysctl_info", &mut host.sysctl_info, LIST_LEN_MAX, |value, _| {
        let setting = units::text(value).unwrap_or_default();
        match is_sysctl(&setting) {
            true => Ok(setting),
            false => Err("expected such as \"kernel.seccomp.actions_avail\"".to_owned()),
        }
    });
    section.finish();
}

/// Names a file below `/proc/sys`, and none outside.
fn is_sysctl(name: &str) -> bool {
    name.split('.').all(is_word)
}

fn is_word(word: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !word.is_empty() && word.bytes().all(is_allowed)
}
