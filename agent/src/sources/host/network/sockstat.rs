//! `/proc/net/sockstat` and `sockstat6`: sockets by protocol.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, signed, words};
use crate::sources::host::{Error, HostOptions};

pub struct SockStat {
    version4: KernelFile,
    version6: KernelFile,
    series: Series,
}

/// By protocol and name; the second is that of bytes, where a value is in pages.
struct Series {
    known: SeriesCache<(SeriesIndex, Option<SeriesIndex>)>,
    key: Vec<u8>,
    page_bytes: f64,
}

impl SockStat {
    pub fn new(options: &HostOptions) -> Self {
        SockStat {
            version4: KernelFile::new(&options.procfs, "net/sockstat"),
            version6: KernelFile::new(&options.procfs, "net/sockstat6"),
            series: Series {
                known: SeriesCache::default(),
                key: Vec::new(),
                page_bytes: rustix::param::page_size() as f64,
            },
        }
    }
}

impl Collect for SockStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.series.push_all(cycle, &self.version4, buffer)?;
        // Absent where the kernel has no IPv6.
        match self.version6.read_if_there(buffer)? {
            true => self.series.push_all(cycle, &self.version6, buffer),
            false => Ok(()),
        }
    }
}

impl Series {
    /// Lines of `TCP: inuse 4 orphan 0`.
    fn push_all(
        &mut self,
        cycle: &mut Cycle<'_>,
        file: &KernelFile,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        for (line, text) in file.read_lines(buffer)? {
            let malformed = || file.wrong(line, "is not a protocol and pairs of names and numbers");
            let mut words = words(text);
            let protocol = words.next().and_then(|word| word.strip_suffix(b":")).ok_or_else(malformed)?;
            while let Some(name) = words.next() {
                let value = words.next().and_then(signed).ok_or_else(malformed)?;
                self.key.clear();
                for part in [protocol, b"_", name] {
                    self.key.extend_from_slice(part);
                }
                let (series, bytes) = self.known.get_or_make(&self.key, |key| {
                    let full_name = format!("node_sockstat_{key}");
                    let bytes = match name {
                        b"mem" => Some(cycle.series(&format!("{full_name}_bytes"), &[])?),
                        _ => None,
                    };
                    Ok((cycle.series(&full_name, &[])?, bytes))
                })?;
                cycle.push(series, value);
                if let Some(bytes) = bytes {
                    cycle.push(bytes, value * self.page_bytes);
                }
            }
        }
        Ok(())
    }
}
