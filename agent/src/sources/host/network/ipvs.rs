//! `/proc/net/ip_vs_stats` and `ip_vs`: the kernel's load balancer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, FixedSeries, SeriesCache};
use crate::sources::host::read::{KernelFile, hexadecimal, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct Ipvs {
    stats: KernelFile,
    services: KernelFile,
    totals: FixedSeries<5>,
    /// By service and backend, as the file writes them.
    backends: SeriesCache<[SeriesIndex; 3]>,
    key: Vec<u8>,
}

impl Ipvs {
    pub fn new(options: &HostOptions) -> Self {
        let totals = [
            "node_ipvs_connections_total",
            "node_ipvs_incoming_packets_total",
            "node_ipvs_outgoing_packets_total",
            "node_ipvs_incoming_bytes_total",
            "node_ipvs_outgoing_bytes_total",
        ];
        Ipvs {
            stats: KernelFile::new(&options.procfs, "net/ip_vs_stats"),
            services: KernelFile::new(&options.procfs, "net/ip_vs"),
            totals: FixedSeries::new(totals),
            backends: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for Ipvs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let totals = parse_totals(&self.stats, buffer)?;
        self.totals.push(cycle, totals)?;

        let mut service: Option<Service<'_>> = None;
        for (line, text) in self.services.read_lines(buffer)?.skip(3) {
            let malformed = || self.services.wrong(line, "is not a service or a backend");
            let mut all = words(text);
            match all.next() {
                Some(b"->") => {
                    let service = service.as_ref().ok_or_else(malformed)?;
                    let remote = all.next().ok_or_else(malformed)?;
                    all.next(); // how packets are forwarded
                    let mut next = || all.next().and_then(number).ok_or_else(malformed);
                    let values = [next()?, next()?, next()?];
                    self.key.clear();
                    for part in [service.proto, b" ", service.local, b" ", remote] {
                        self.key.extend_from_slice(part);
                    }
                    let series = match self.backends.get(&self.key) {
                        Some(series) => series,
                        None => {
                            let labels = backend_labels(service, remote).ok_or_else(malformed)?;
                            self.backends.get_or_make(&self.key, |_| backend_series(cycle, &labels))?
                        }
                    };
                    for (series, value) in series.into_iter().zip(values) {
                        cycle.push(series, value as f64);
                    }
                }
                Some(proto) => {
                    service = Some(Service { proto, local: all.next().ok_or_else(malformed)? });
                }
                None => return Err(malformed()),
            }
        }
        Ok(())
    }
}

/// Two lines of column names, then the numbers since boot.
fn parse_totals(file: &KernelFile, buffer: &mut Vec<u8>) -> Result<[f64; 5], Error> {
    let mut lines = file.read_lines(buffer)?.skip(2);
    let (line, text) = lines.next().ok_or_else(|| file.wrong(0, "lacks the line of totals"))?;
    let mut values = words(text).map_while(hexadecimal);
    let mut totals = [0.0; 5];
    for total in &mut totals {
        let value = values.next().ok_or_else(|| file.wrong(line, "is not five hexadecimal counts"))?;
        *total = value as f64;
    }
    Ok(totals)
}

/// `TCP C0A80016:0CEA`, or `FWM 10001000` of a firewall mark.
struct Service<'a> {
    proto: &'a [u8],
    local: &'a [u8],
}

const NAMES: [&str; 3] = [
    "node_ipvs_backend_weight",
    "node_ipvs_backend_connections_active",
    "node_ipvs_backend_connections_inactive",
];

fn backend_series(
    cycle: &mut Cycle<'_>,
    labels: &[(&'static str, String); 6],
) -> Result<[SeriesIndex; 3], Error> {
    let labels: [(&str, &str); 6] = std::array::from_fn(|at| (labels[at].0, &*labels[at].1));
    cycle.series_each(NAMES, &labels)
}

fn backend_labels(service: &Service<'_>, remote: &[u8]) -> Option<[(&'static str, String); 6]> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (address, port, mark) = match service.proto {
        b"FWM" => (String::new(), "0".to_owned(), text(service.local)),
        _ => {
            let (address, port) = parse_endpoint(service.local)?;
            (address.to_string(), port.to_string(), String::new())
        }
    };
    let (remote_address, remote_port) = parse_endpoint(remote)?;
    Some([
        ("local_address", address),
        ("local_port", port),
        ("local_mark", mark),
        ("remote_address", remote_address.to_string()),
        ("remote_port", remote_port.to_string()),
        ("proto", text(service.proto)),
    ])
}

/// `C0A80016:0CEA`, or `[2620:0000:0000:0000:0000:0000:0000:0001]:0050`.
fn parse_endpoint(word: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = std::str::from_utf8(word).ok()?.rsplit_once(':')?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(version6) => IpAddr::V6(version6.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?)),
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |word: &str, expected: Option<(&str, u16)>| {
            let found = parse_endpoint(word.as_bytes()).map(|(address, port)| (address.to_string(), port));
            assert_eq!(found, expected.map(|(address, port)| (address.to_owned(), port)), "{word}");
        };
        check("C0A80016:0CEA", Some(("192.168.0.22", 3306)));
        check("[2620:0000:0000:0000:0000:0000:0000:0001]:0050", Some(("2620::1", 80)));
        check("C0A800160:0CEA", None);
        check("C0A80016", None);
        check("[::1:0050", None);
    }
}
