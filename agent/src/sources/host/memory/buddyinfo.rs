//! `/proc/buddyinfo`: free blocks of memory by zone and size.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct BuddyInfo {
    file: KernelFile,
    /// By node, zone and size, a power of two.
    series: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
}

impl BuddyInfo {
    pub fn new(options: &HostOptions) -> Self {
        BuddyInfo {
            file: KernelFile::new(&options.procfs, "buddyinfo"),
            series: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for BuddyInfo {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)? {
            let malformed = || self.file.wrong(line, "is not a zone of a node and its free blocks");
            let (node, zone) = parse_zone(text).ok_or_else(malformed)?;
            for (size, word) in words(text).skip(4).enumerate() {
                let blocks = number(word).ok_or_else(malformed)?;
                self.key.clear();
                for part in [node, b" ", zone, b" ", &size.to_ne_bytes()] {
                    self.key.extend_from_slice(part);
                }
                let series = self.series.get_or_make(&self.key, |_| {
                    let (node, zone) = (String::from_utf8_lossy(node), String::from_utf8_lossy(zone));
                    let labels = [("node", &*node), ("zone", &*zone), ("size", &*size.to_string())];
                    cycle.series("node_buddyinfo_blocks", &labels)
                })?;
                cycle.push(series, blocks as f64);
            }
        }
        Ok(())
    }
}

/// Node and zone of `Node 0, zone DMA`.
pub fn parse_zone(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut words = words(text);
    if words.next() != Some(b"Node") {
        return None;
    }
    let node = words.next()?.strip_suffix(b",").filter(|node| number(node).is_some())?;
    (words.next() == Some(b"zone")).then(|| Some((node, words.next()?))).flatten()
}
