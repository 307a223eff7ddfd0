//! Which devices, fields and mount points a collector shows.
//!
//! A filter has node_exporter's two regular expressions, include and exclude.
//! They are searched for anywhere in a name, as node_exporter does; `^` and
//! `$` tie them to its ends. [`FILTERS`] lists every filter with
//! node_exporter's defaults: a new one is a line there.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};

/// A compiled expression may not be larger, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A filter and its default; an empty text is no expression.
#[derive(Debug)]
pub struct KnownFilter {
    pub name: &'static str,
    pub include: &'static str,
    pub exclude: &'static str,
}

/// Sorted by name.
pub const FILTERS: &[KnownFilter] = &[
    known("arp", "", ""),
    // Nothing, until an include expression replaces this.
    known("cpu_bugs", "", ".*"),
    known("cpu_flags", "", ".*"),
    known("diskstats", "", r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"),
    known(
        "filesystem_mount_points",
        "",
        "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
    ),
    known(
        "filesystem_types",
        "",
        concat!(
            "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|",
            "mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|",
            "tracefs)$"
        ),
    ),
    known("hwmon_chips", "", ""),
    known("hwmon_sensors", "", ""),
    known("interrupts", "", ""),
    known("netclass", "", ""),
    known("netdev", "", ""),
    known(
        "netstat",
        concat!(
            "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|",
            "TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|",
            "Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|",
            "Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
        ),
        "",
    ),
    known("powersupplyclass", "", ""),
    known("qdisc", "", ""),
    known("slabinfo", "", ""),
    known("systemd_units", "", r"\.(automount|device|mount|scope|slice)$"),
    known("thermal_zone", "", ""),
    known("vmstat", "^(oom_kill|pgpg|pswp|pg.*fault).*", ""),
];

const fn known(name: &'static str, include: &'static str, exclude: &'static str) -> KnownFilter {
    KnownFilter { name, include, exclude }
}

/// Shows what `include` finds and `exclude` does not; without `include`, all.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Filter {
    /// # Errors
    ///
    /// What is wrong with an expression. An empty one is none.
    pub fn new(include: &str, exclude: &str) -> Result<Self, String> {
        Ok(Filter { include: expression(include)?, exclude: expression(exclude)? })
    }

    pub fn shows(&self, name: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(name))
    }
}

/// Compiles `text`; `None` when it is empty.
///
/// # Errors
///
/// What is wrong with it, on one line.
pub fn expression(text: &str) -> Result<Option<Regex>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    // Names are bytes, and `\d` is `[0-9]`, as in node_exporter's language.
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(COMPILED_BYTES_MAX);
    builder.build().map(Some).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression is too large".to_owned(),
        // The message draws the expression over several lines; its last says what is wrong.
        error => {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").trim().to_owned()
        }
    })
}

/// The expressions that are not the defaults of [`FILTERS`].
///
/// Kept as text and compiled for collectors that run, because most filters
/// belong to a collector that a host does not need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    chosen: BTreeMap<&'static str, (String, String)>,
}

impl Filters {
    /// Replaces both expressions of the filter `name`.
    ///
    /// # Errors
    ///
    /// What is wrong with an expression.
    ///
    /// # Panics
    ///
    /// When [`FILTERS`] has no `name`.
    pub fn set(&mut self, name: &str, include: &str, exclude: &str) -> Result<(), String> {
        let known = find(name);
        Filter::new(include, exclude)?;
        match (include, exclude) == (known.include, known.exclude) {
            true => self.chosen.remove(known.name),
            false => self.chosen.insert(known.name, (include.to_owned(), exclude.to_owned())),
        };
        Ok(())
    }

    /// The filter `name` for use.
    ///
    /// # Panics
    ///
    /// When [`FILTERS`] has no `name`.
    pub fn filter(&self, name: &str) -> Filter {
        let known = find(name);
        let chosen = self.chosen.get(name).map(|(include, exclude)| (&**include, &**exclude));
        let (include, exclude) = chosen.unwrap_or((known.include, known.exclude));
        Filter::new(include, exclude).expect("set() takes what compiles, and a test compiles the defaults")
    }
}

fn find(name: &str) -> &'static KnownFilter {
    FILTERS.iter().find(|known| known.name == name).expect("collectors name filters of the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_compiles_and_is_in_order() {
        for known in FILTERS {
            Filters::default().filter(known.name);
        }
        assert!(FILTERS.is_sorted_by_key(|known| known.name));
    }

    #[test]
    fn partitions_and_memory_devices_are_ignored() {
        let filter = Filters::default().filter("diskstats");
        for device in ["ram0", "zram1", "loop12", "fd0", "sda1", "hdb2", "vdc33", "xvda1", "nvme0n1p2"] {
            assert!(!filter.shows(device.as_bytes()), "{device}");
        }
        for device in ["sda", "sdaa1", "dm-0", "nvme0n1", "nvme0n", "nvmen1p1", "mmcblk0p1", "md0", "sr0", ""]
        {
            assert!(filter.shows(device.as_bytes()), "{device}");
        }
    }

    #[test]
    fn include_and_exclude_together() {
        let filter = Filter::new("eth", "1$").unwrap();
        assert!(filter.shows(b"eth0") && filter.shows(b"veth2"));
        assert!(!filter.shows(b"eth1") && !filter.shows(b"lo"));
        assert!(Filter::new("", "").unwrap().shows(b"\xff"));
    }

    #[test]
    fn a_wrong_expression_says_why_on_one_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(expression(text).unwrap_err(), expected, "{text}");
        };
        check("(", "unclosed group");
        check("a{1000}{1000}{1000}", "the expression is too large");
    }
}
