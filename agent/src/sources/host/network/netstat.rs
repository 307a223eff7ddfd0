//! `/proc/net/netstat`, `snmp` and `snmp6`: counters of the protocols.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, signed, words};
use crate::sources::host::{Error, HostOptions};

pub struct NetStat {
    files: [KernelFile; 2],
    version6: KernelFile,
    fields: Fields,
}

/// By protocol and name, as in `Tcp_MaxConn`.
struct Fields {
    filter: Filter,
    /// `None` of those that are not shown.
    known: SeriesCache<Option<SeriesIndex>>,
    key: Vec<u8>,
}

impl NetStat {
    pub fn new(options: &HostOptions) -> Self {
        let file = |name| KernelFile::new(&options.procfs, name);
        NetStat {
            files: [file("net/netstat"), file("net/snmp")],
            version6: file("net/snmp6"),
            fields: Fields {
                filter: options.filters.filter("netstat"),
                known: SeriesCache::default(),
                key: Vec::new(),
            },
        }
    }
}

impl Collect for NetStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for file in &self.files {
            // `Tcp: names` and then `Tcp: numbers`.
            let mut lines = file.read_lines(buffer)?;
            while let Some((line, names)) = lines.next() {
                let malformed = || file.wrong(line, "is not names followed by as many numbers");
                let (_, values) = lines.next().ok_or_else(malformed)?;
                let (mut names, mut values) = (words(names), words(values));
                let protocol = names.next().and_then(|word| word.strip_suffix(b":")).ok_or_else(malformed)?;
                if values.next().and_then(|word| word.strip_suffix(b":")) != Some(protocol) {
                    return Err(malformed());
                }
                for name in names {
                    let value = values.next().and_then(signed).ok_or_else(malformed)?;
                    self.fields.push(cycle, protocol, name, value)?;
                }
            }
        }
        // Absent where the kernel has no IPv6.
        if self.version6.read_if_there(buffer)? {
            for (line, text) in self.version6.read_lines(buffer)? {
                let mut words = words(text);
                let (Some(name), Some(value)) = (words.next(), words.next().and_then(signed)) else {
                    return Err(self.version6.wrong(line, "is not a name and a number"));
                };
                let Some(six) = name.iter().position(|byte| *byte == b'6') else { continue };
                let (protocol, name) = name.split_at(six + 1);
                self.fields.push(cycle, protocol, name, value)?;
            }
        }
        Ok(())
    }
}

impl Fields {
    fn push(&mut self, cycle: &mut Cycle<'_>, protocol: &[u8], name: &[u8], value: f64) -> Result<(), Error> {
        self.key.clear();
        for part in [protocol, b"_", name] {
            self.key.extend_from_slice(part);
        }
        let series = self.known.get_or_make(&self.key, |key| match self.filter.shows(key.as_bytes()) {
            true => cycle.series(&format!("node_netstat_{key}"), &[]).map(Some),
            false => Ok(None),
        })?;
        if let Some(series) = series {
            cycle.push(series, value);
        }
        Ok(())
    }
}
