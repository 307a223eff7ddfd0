//! A host like those that node_exporter describes, with an application on it:
//! 922 series whose values move as such series do. The shapes are those of the
//! remote-write generator `tests/bench/gen.py`, so that native and remote-write
//! figures speak of the same data.

use lm_model::Labels;

use crate::random::Random;

const MODES: [(&str, f64); 8] = [
    ("idle", 20.0),
    ("iowait", 0.3),
    ("irq", 0.0),
    ("nice", 0.01),
    ("softirq", 0.2),
    ("steal", 0.0),
    ("system", 2.0),
    ("user", 6.0),
];
const BOUNDS: [&str; 12] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
/// How requests spread over the buckets, and their mean time in each.
const SPREAD: [(f64, f64); 12] = [
    (0.05, 0.003),
    (0.1, 0.007),
    (0.2, 0.02),
    (0.25, 0.04),
    (0.2, 0.08),
    (0.1, 0.17),
    (0.05, 0.4),
    (0.03, 0.7),
    (0.01, 1.7),
    (0.005, 3.5),
    (0.003, 7.0),
    (0.002, 12.0),
];

/// How a value moves in 30 s.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Constant,
    /// Whole numbers.
    Counter,
    /// Hundredths of a second.
    Seconds,
    /// Multiples of 4096.
    Pages,
    /// Two decimals.
    Gauge,
    Bytes,
    /// Bucket `n` of a histogram whose count and sum follow the last one.
    Bucket(usize),
    Count,
    Sum,
}

/// The series of one host and their present values.
pub struct Node {
    pub labels: Vec<Labels>,
    pub values: Vec<f64>,
    kinds: Vec<(Kind, f64)>,
    /// This host's part of what others do.
    share: Vec<f64>,
    random: Random,
}

impl Node {
    /// Host number `host`; the same number gives the same host.
    pub fn new(host: usize) -> Node {
        let mut node = Node {
            labels: Vec::new(),
            values: Vec::new(),
            kinds: Vec::new(),
            share: Vec::new(),
            random: Random::new(host as u64),
        };
        let base = [
            ("instance", format!("node-{host:04}.dc{}.example.net:9100", host % 4)),
            ("dc", format!("dc{}", host % 4)),
            ("env", ["prod", "stage", "dev"][host % 3].to_owned()),
            ("job", "node".to_owned()),
        ];
        node.add_all(&base, host);
        node
    }

    fn add_all(&mut self, base: &[(&str, String)], host: usize) {
        use Kind::*;
        let mut add = |name: &str, kind: Kind, scale: f64, labels: &[(&str, String)]| {
            let own = [("__name__", name.to_owned())];
            let pairs = base.iter().chain(labels).chain(&own);
            self.labels.push(Labels::from_pairs(pairs.map(|(name, value)| (*name, value.clone()))));
            self.kinds.push((kind, scale));
            self.share.push(0.75 + self.random.between(0, 1000) as f64 / 2000.0);
            self.values.push(match kind {
                Constant => scale,
                Pages => (scale * 50.0 / 4096.0).floor() * 4096.0,
                _ => (scale * 1000.0).floor(),
            });
        };
        for cpu in 0..16 {
            for (mode, scale) in MODES {
                let labels = [("cpu", cpu.to_string()), ("mode", mode.to_owned())];
                add("node_cpu_seconds_total", Seconds, scale, &labels);
            }
        }
        for disk in 0..8 {
            let device = [("device", format!("nvme{disk}n1"))];
            for name in ["read_bytes_total", "written_bytes_total"] {
                add(&format!("node_disk_{name}"), Bytes, 3e6, &device);
            }
            for name in [
                "reads_completed_total",
                "writes_completed_total",
                "reads_merged_total",
                "writes_merged_total",
            ] {
                add(&format!("node_disk_{name}"), Counter, 200.0, &device);
            }
            for name in [
                "io_time_seconds_total",
                "read_time_seconds_total",
                "write_time_seconds_total",
                "io_time_weighted_seconds_total",
            ] {
                add(&format!("node_disk_{name}"), Seconds, 3.0, &device);
            }
            add("node_disk_io_now", Gauge, 2.0, &device);
            let [(_, name)] = device;
            let serial = format!("S64HNE0R{:06}", host * 8 + disk);
            let info = [("device", name), ("model", "SAMSUNG MZQL23T8HCLS".to_owned()), ("serial", serial)];
            add("node_disk_info", Constant, 1.0, &info);
        }
        for mount in 0..12 {
            let labels = [
                ("device", format!("/dev/mapper/vg-{mount}")),
                ("mountpoint", format!("/data/{mount}")),
                ("fstype", "xfs".to_owned()),
            ];
            for name in ["size_bytes", "files", "readonly", "device_error"] {
                add(&format!("node_filesystem_{name}"), Constant, 1e12, &labels);
            }
            for name in ["avail_bytes", "free_bytes", "files_free"] {
                add(&format!("node_filesystem_{name}"), Pages, 1e9, &labels);
            }
        }
        for card in 0..10 {
            let is_physical = card < 4;
            let name = if is_physical { format!("eth{card}") } else { format!("veth{host:04x}{card:04x}") };
            let device = [("device", name)];
            for name in ["receive_bytes_total", "transmit_bytes_total"] {
                add(&format!("node_network_{name}"), Bytes, if card < 2 { 5e6 } else { 2e3 }, &device);
            }
            for name in ["receive_packets_total", "transmit_packets_total"] {
                add(&format!("node_network_{name}"), Counter, if card < 2 { 5000.0 } else { 5.0 }, &device);
            }
            for name in [
                "receive_errs_total",
                "transmit_errs_total",
                "receive_drop_total",
                "transmit_drop_total",
                "receive_fifo_total",
                "transmit_fifo_total",
                "receive_frame_total",
                "transmit_colls_total",
                "transmit_carrier_total",
                "up",
                "mtu_bytes",
                "speed_bytes",
            ] {
                add(&format!("node_network_{name}"), Constant, 1.0, &device);
            }
        }
        for name in [
            "MemFree",
            "MemAvailable",
            "Buffers",
            "Cached",
            "SwapCached",
            "Active",
            "Inactive",
            "Dirty",
            "Writeback",
            "AnonPages",
            "Mapped",
            "Shmem",
            "Slab",
            "SReclaimable",
            "SUnreclaim",
            "KernelStack",
            "PageTables",
            "Committed_AS",
        ] {
            add(&format!("node_memory_{name}_bytes"), Pages, 1e8, &[]);
        }
        for name in ["MemTotal", "SwapTotal", "HugePages_Total", "CommitLimit", "VmallocTotal"] {
            add(&format!("node_memory_{name}_bytes"), Constant, 6.7e10, &[]);
        }
        for name in ["load1", "load5", "load15"] {
            add(&format!("node_{name}"), Gauge, 4.0, &[]);
        }
        for name in ["context_switches_total", "intr_total", "forks_total"] {
            add(&format!("node_{name}"), Counter, 9000.0, &[]);
        }
        add("node_boot_time_seconds", Constant, 1.7e9, &[]);
        add("node_time_seconds", Gauge, 1.0, &[]);
        let uname = [
            ("release", "6.1.0-18-amd64".to_owned()),
            ("nodename", format!("node-{host:04}")),
            ("machine", "x86_64".to_owned()),
        ];
        add("node_uname_info", Constant, 1.0, &uname);
        for number in 0..150 {
            add(&format!("node_vmstat_stat{number:03}"), Counter, [0.0, 3.0, 800.0][number % 3], &[]);
        }
        for handler in 0..8 {
            for method in ["GET", "POST"] {
                let rate = 4.0 * (1 + handler) as f64;
                let labels = [
                    ("handler", format!("/api/v1/h{handler}")),
                    ("method", method.to_owned()),
                    ("job_app", "api".to_owned()),
                ];
                let with = |name: &'static str, value: &str| {
                    let more = [(name, value.to_owned())];
                    labels.iter().cloned().chain(more).collect::<Vec<_>>()
                };
                for (index, bound) in BOUNDS.into_iter().enumerate() {
                    let labels = with("le", bound);
                    add("http_request_duration_seconds_bucket", Bucket(index), rate, &labels);
                }
                add("http_request_duration_seconds_count", Count, rate, &labels);
                add("http_request_duration_seconds_sum", Sum, rate, &labels);
                for (code, rate) in [("200", rate), ("404", 0.3), ("500", 0.02)] {
                    add("http_requests_total", Counter, rate, &with("code", code));
                }
            }
        }
    }

    /// Goes on by `seconds`.
    pub fn step(&mut self, seconds: f64) {
        let part = seconds / 30.0;
        let (mut requests, mut time) = (0.0, 0.0);
        for index in 0..self.values.len() {
            let (kind, scale) = self.kinds[index];
            let share = self.share[index];
            let value = self.values[index];
            self.values[index] = match kind {
                Kind::Constant => value,
                Kind::Counter => value + self.poisson(scale * part * share),
                Kind::Seconds => {
                    let spent = (scale + self.normal() * scale * 0.2).max(0.0) * part * share;
                    ((value + spent) * 100.0).round() / 100.0
                }
                Kind::Pages if self.random.percent(70) => {
                    (value + (self.normal() * scale * 0.01 / 4096.0).round() * 4096.0).max(0.0)
                }
                Kind::Pages => value,
                Kind::Gauge => ((scale + self.normal() * scale * 0.2).abs() * 100.0).round() / 100.0,
                Kind::Bytes => {
                    value + ((scale + self.normal() * scale * 0.3).max(0.0) * seconds * share).round()
                }
                Kind::Bucket(bucket) => {
                    if bucket == 0 {
                        (requests, time) = (0.0, 0.0);
                    }
                    let (part_of_all, mean) = SPREAD[bucket];
                    let new = self.poisson(scale * part * 10.0 * part_of_all);
                    requests += new;
                    time += new * mean;
                    value + requests
                }
                Kind::Count => value + requests,
                Kind::Sum => ((value + time) * 1000.0).round() / 1000.0,
            };
        }
    }

    /// Roughly normal: the sum of four uniform numbers.
    fn normal(&mut self) -> f64 {
        let number = self.random.number();
        let sum: u64 = (0..4).map(|part| number >> (16 * part) & 0xffff).sum();
        (sum as f64 / 65_536.0 - 2.0) * 1.732
    }

    /// Roughly of Poisson's distribution.
    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 20.0 {
            return (mean + self.normal() * mean.sqrt()).round().max(0.0);
        }
        let limit = (-mean).exp();
        let (mut count, mut product) = (0.0, 1.0);
        loop {
            product *= (self.random.number() >> 11) as f64 / (1u64 << 53) as f64;
            if product <= limit {
                return count;
            }
            count += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_host_has_922_series_and_its_counters_only_grow() {
        let mut node = Node::new(7);
        assert_eq!(node.labels.len(), 922);
        assert_eq!(node.labels.iter().collect::<BTreeSet<_>>().len(), 922);
        let before = node.values.clone();
        node.step(30.0);
        let moved = node.values.iter().zip(&before).filter(|(now, before)| now != before).count();
        assert!((400..800).contains(&moved), "{moved}");
        for ((labels, now), before) in node.labels.iter().zip(&node.values).zip(&before) {
            assert!(!labels.metric_name().ends_with("_total") || now >= before, "{labels}");
        }
    }
}
