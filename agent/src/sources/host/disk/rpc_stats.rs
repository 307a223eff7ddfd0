//! Files in `/proc/net/rpc`: a keyword and numbers on each line.

use crate::sources::SeriesIndex;
use crate::sources::host::Error;
use crate::sources::host::collector::{Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};

/// One number of a line.
pub struct Column {
    pub line: &'static [u8],
    /// Counts from zero, the keyword not counted.
    pub at: usize,
    pub name: &'static str,
    pub labels: &'static [(&'static str, &'static str)],
}

/// A line that counts calls: how many methods the kernel knows, then a number
/// for each. An empty name is not shown. The kernel may know fewer.
pub struct Methods {
    pub line: &'static [u8],
    pub proto: &'static str,
    pub names: &'static [&'static str],
}

/// Methods of NFS version 2, in the order of their numbers (RFC 1094).
pub const VERSION_2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create",
    "Remove", "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
/// Methods of NFS version 3, in the order of their numbers (RFC 1813).
pub const VERSION_3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

pub struct RpcStats {
    file: KernelFile,
    columns: &'static [Column],
    /// Their name, and their lines.
    requests: (&'static str, &'static [Methods]),
    /// By the line and the number's place.
    series: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
    values: Vec<Option<u64>>,
}

impl RpcStats {
    pub fn new(
        file: KernelFile,
        columns: &'static [Column],
        requests: (&'static str, &'static [Methods]),
    ) -> Self {
        let (series, key, values) = (SeriesCache::default(), Vec::new(), Vec::new());
        RpcStats { file, columns, requests, series, key, values }
    }

    pub fn push_all(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)? {
            let malformed = || self.file.wrong(line, "is not a keyword and its counts");
            let mut words = words(text);
            let keyword = words.next().ok_or_else(malformed)?;
            self.values.clear();
            // Some columns are not counts; of those nothing is shown.
            self.values.extend(words.map(number));
            let value = |at: usize| self.values.get(at).copied().flatten();
            let mut push = |at: usize, value: u64, name: &str, labels: &[(&str, &str)]| {
                self.key.clear();
                self.key.extend_from_slice(keyword);
                self.key.extend_from_slice(&at.to_ne_bytes());
                let series = self.series.get_or_make(&self.key, |_| cycle.series(name, labels))?;
                cycle.push(series, value as f64);
                Ok(())
            };
            for column in self.columns.iter().filter(|column| column.line == keyword) {
                push(column.at, value(column.at).ok_or_else(malformed)?, column.name, column.labels)?;
            }
            let (name, lines) = self.requests;
            for methods in lines.iter().filter(|methods| methods.line == keyword) {
                let known = value(0).ok_or_else(malformed)? as usize;
                for (at, method) in (1..).zip(methods.names).filter(|(_, method)| !method.is_empty()) {
                    let calls = if at <= known { value(at).ok_or_else(malformed)? } else { 0 };
                    push(at, calls, name, &[("proto", methods.proto), ("method", method)])?;
                }
            }
        }
        Ok(())
    }
}
