//! Series as node_exporter and an instrumented service have them, for measuring: counters of CPU time, operations and
//! bytes, gauges, constants, classic histograms.

use lm_fs::fault::random;
use lm_model::Labels;

/// What a series is; its numbers name the rows of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Constant,
    Operations,
    CpuSeconds,
    PageGauge,
    DecimalGauge,
    Bytes,
    Bucket,
    BucketSum,
}

pub struct Series {
    pub labels: Labels,
    pub class: Class,
    pub values: Vec<f64>,
}

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        (random(&mut self.0) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        mean + deviation * radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 30.0 {
            return self.normal(mean, mean.sqrt()).round().max(0.0);
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0.0);
        while product > limit {
            product *= self.unit();
            count += 1.0;
        }
        count
    }
}

/// A metric's name and its own labels to all of its labels.
type MakeLabels<'a> = dyn Fn(&str, &[(&str, String)]) -> Labels + 'a;

const BOUNDS: [&str; 12] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
const SHARES: [f64; 12] = [0.05, 0.1, 0.2, 0.25, 0.2, 0.1, 0.05, 0.03, 0.01, 0.005, 0.003, 0.002];
const MIDDLES: [f64; 12] = [0.003, 0.007, 0.02, 0.04, 0.08, 0.17, 0.4, 0.7, 1.7, 3.5, 7.0, 12.0];

/// All series of `hosts` hosts in order of labels, each with `scrapes` values 30 s apart.
pub fn series(hosts: usize, scrapes: usize) -> Vec<Series> {
    let mut rng = Random(1);
    let mut all = Vec::new();
    for host in 0..hosts {
        one_host(host, scrapes, &mut rng, &mut all);
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// Times of scrapes.
pub fn times(scrapes: usize) -> Vec<i64> {
    (0..scrapes as i64).map(|at| 1_700_000_000_123 + at * 30_000).collect()
}

fn one_host(host: usize, scrapes: usize, rng: &mut Random, all: &mut Vec<Series>) {
    let instance = format!("node-{host:04}.dc{}.example.net:9100", host % 4);
    let base = [
        ("instance", instance),
        ("job", "node".to_owned()),
        ("dc", format!("dc{}", host % 4)),
        ("env", ["prod", "stage", "dev"][host % 3].to_owned()),
    ];
    let labels = |name: &str, more: &[(&str, String)]| {
        let own = more.iter().cloned().chain([("__name__", name.to_owned())]);
        Labels::from_pairs(base.iter().cloned().chain(own))
    };
    let mut add = |rng: &mut Random, class, scale: f64, name: &str, more: &[(&str, String)]| {
        let values = values(class, scale, scrapes, rng);
        all.push(Series { labels: labels(name, more), class, values });
    };
    let modes = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
    for cpu in 0..16 {
        for (mode, scale) in modes.iter().zip([20.0, 0.3, 0.0, 0.01, 0.2, 0.0, 2.0, 6.0]) {
            let more = [("cpu", cpu.to_string()), ("mode", (*mode).to_owned())];
            add(rng, Class::CpuSeconds, scale, "node_cpu_seconds_total", &more);
        }
    }
    for disk in 0..8 {
        let more = [("device", format!("nvme{disk}n1"))];
        for name in ["read_bytes_total", "written_bytes_total"] {
            add(rng, Class::Bytes, 3e6, &format!("node_disk_{name}"), &more);
        }
        for name in ["reads_completed", "writes_completed", "reads_merged", "writes_merged"] {
            add(rng, Class::Operations, 200.0, &format!("node_disk_{name}_total"), &more);
        }
        for name in ["io_time", "read_time", "write_time", "io_time_weighted"] {
            add(rng, Class::CpuSeconds, 3.0, &format!("node_disk_{name}_seconds_total"), &more);
        }
        add(rng, Class::DecimalGauge, 2.0, "node_disk_io_now", &more);
        let serial = format!("S64HNE0R{:06}", host * 8 + disk);
        let more = [more[0].clone(), ("model", "SAMSUNG MZQL23T8HCLS".to_owned()), ("serial", serial)];
        add(rng, Class::Constant, 1.0, "node_disk_info", &more);
    }
    for at in 0..12 {
        let more = [
            ("device", format!("/dev/mapper/vg-{at}")),
            ("mountpoint", format!("/data/{at}")),
            ("fstype", "xfs".to_owned()),
        ];
        for name in ["size_bytes", "files", "readonly", "device_error"] {
            add(rng, Class::Constant, 1e12, &format!("node_filesystem_{name}"), &more);
        }
        for name in ["avail_bytes", "free_bytes", "files_free"] {
            add(rng, Class::PageGauge, 1e9, &format!("node_filesystem_{name}"), &more);
        }
    }
    for at in 0..10 {
        let device =
            if at < 4 { format!("eth{at}") } else { format!("veth{:08x}", (host * 16 + at) * 0x9e37_79b9) };
        let more = [("device", device)];
        let (bytes, packets) = if at < 2 { (5e6, 5000.0) } else { (2e3, 5.0) };
        for way in ["receive", "transmit"] {
            add(rng, Class::Bytes, bytes, &format!("node_network_{way}_bytes_total"), &more);
            add(rng, Class::Operations, packets, &format!("node_network_{way}_packets_total"), &more);
        }
        for at in 0..12 {
            add(rng, Class::Constant, 1.0, &format!("node_network_quiet_{at:02}_total"), &more);
        }
    }
    for at in 0..18 {
        add(rng, Class::PageGauge, 1e8, &format!("node_memory_moving_{at:02}_bytes"), &[]);
    }
    for at in 0..8 {
        add(rng, Class::Constant, 6.7e10, &format!("node_memory_fixed_{at:02}_bytes"), &[]);
    }
    for name in ["load1", "load5", "load15", "time_seconds"] {
        add(rng, Class::DecimalGauge, 4.0, &format!("node_{name}"), &[]);
    }
    for at in 0..153 {
        let scale = [0.0, 3.0, 800.0][at % 3];
        add(rng, Class::Operations, scale, &format!("node_vmstat_stat{at:03}"), &[]);
    }
    for handler in 0..8 {
        for method in ["GET", "POST"] {
            service(handler, method, scrapes, rng, all, &labels);
        }
    }
}

fn service(
    handler: usize,
    method: &str,
    scrapes: usize,
    rng: &mut Random,
    all: &mut Vec<Series>,
    labels: &MakeLabels<'_>,
) {
    let rate = 4.0 * (1 + handler) as f64;
    let more = [
        ("handler", format!("/api/v1/h{handler}")),
        ("method", method.to_owned()),
        ("job_app", "api".to_owned()),
    ];
    let mut counts = [1000.0; 12];
    let (mut sum, mut columns, mut sums) = (0.0, vec![Vec::new(); 12], Vec::new());
    for _ in 0..scrapes {
        let mut cumulative = 0.0;
        for bucket in 0..12 {
            let more = rng.poisson(rate * 10.0 * SHARES[bucket]);
            counts[bucket] += more;
            sum += more * MIDDLES[bucket];
            cumulative += counts[bucket];
            columns[bucket].push(cumulative);
        }
        sums.push((sum * 1000.0_f64).round() / 1000.0);
    }
    let name = "http_request_duration_seconds";
    all.push(Series { labels: labels(&format!("{name}_sum"), &more), class: Class::BucketSum, values: sums });
    let count = columns[11].clone();
    all.push(Series { labels: labels(&format!("{name}_count"), &more), class: Class::Bucket, values: count });
    for (bound, values) in BOUNDS.iter().zip(columns) {
        let with_bound: Vec<(&str, String)> =
            more.iter().cloned().chain([("le", (*bound).to_owned())]).collect();
        all.push(Series {
            labels: labels(&format!("{name}_bucket"), &with_bound),
            class: Class::Bucket,
            values,
        });
    }
    for (code, scale) in [("200", rate), ("404", 0.3), ("500", 0.02)] {
        let with_code: Vec<(&str, String)> =
            more.iter().cloned().chain([("code", code.to_owned())]).collect();
        let values = values(Class::Operations, scale, scrapes, rng);
        all.push(Series {
            labels: labels("http_requests_total", &with_code),
            class: Class::Operations,
            values,
        });
    }
}

fn values(class: Class, scale: f64, scrapes: usize, rng: &mut Random) -> Vec<f64> {
    let share = rng.unit() * 0.5 + 0.75;
    let mut value = match class {
        Class::PageGauge => (scale * 50.0 / 4096.0).floor() * 4096.0,
        Class::Constant => scale,
        _ => (scale * 1000.0).floor(),
    };
    let cents = |value: f64| (value * 100.0).round() / 100.0;
    (0..scrapes)
        .map(|_| {
            value = match class {
                Class::Operations => value + rng.poisson(scale * share),
                Class::CpuSeconds => cents(value + rng.normal(scale, scale * 0.2).max(0.0) * share),
                Class::PageGauge if rng.unit() < 0.7 => {
                    (value + rng.normal(0.0, scale * 0.01 / 4096.0).round() * 4096.0).max(0.0)
                }
                Class::DecimalGauge => cents(rng.normal(scale, scale * 0.2).abs()),
                Class::Bytes => value + (rng.normal(scale, scale * 0.3).max(0.0) * 30.0 * share).round(),
                _ => value,
            };
            value
        })
        .collect()
}
