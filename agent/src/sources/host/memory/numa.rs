//! `/sys/devices/system/node/node<n>`: memory of each NUMA node.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{Malformed, lines, number, words};
use crate::sources::host::tree::{Names, Tree};
use crate::sources::host::{Error, HostOptions};

use super::meminfo::{self, metric_suffix};

const NODES: &[u8] = b"devices/system/node";

pub struct NumaMemory {
    tree: Tree,
    nodes: Names,
    /// By the node and the field's name.
    series: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
}

impl NumaMemory {
    pub fn new(options: &HostOptions) -> Self {
        NumaMemory {
            tree: Tree::new(&options.sysfs),
            nodes: Names::default(),
            series: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for NumaMemory {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.tree.list(&[NODES], &mut self.nodes)?;
        for directory in self.nodes.iter() {
            let Some(node) = directory.strip_prefix(b"node").filter(|node| number(node).is_some()) else {
                continue;
            };
            for (file, parse, suffix) in FILES {
                let parts = [NODES, directory, file];
                self.tree.read_lines(&parts, buffer)?;
                for (line, text) in lines(buffer).map_err(|m| self.tree.malformed(&parts, m))? {
                    let (name, value) = parse(text).ok_or_else(|| {
                        self.tree.malformed(&parts, Malformed { line, reason: "is not a field of a node" })
                    })?;
                    self.key.clear();
                    self.key.extend_from_slice(node);
                    self.key.push(b' ');
                    self.key.extend_from_slice(name);
                    let series = self.series.get_or_make(&self.key, |key| {
                        let (node, name) = key.split_once(' ').unwrap_or_default();
                        let name = metric_suffix(&name.replace(')', ""));
                        cycle.series(&format!("node_memory_numa_{name}{suffix}"), &[("node", node)])
                    })?;
                    cycle.push(series, value);
                }
            }
        }
        Ok(())
    }
}

/// A line's name and value.
type Parse = fn(&[u8]) -> Option<(&[u8], f64)>;

const FILES: [(&[u8], Parse, &str); 2] =
    [(b"meminfo", memory_field, ""), (b"numastat", allocations, "_total")];

/// `Node 0 MemTotal:       134182340 kB`
fn memory_field(text: &[u8]) -> Option<(&[u8], f64)> {
    let mut all = words(text);
    if all.next() != Some(b"Node") {
        return None;
    }
    all.next()?;
    meminfo::parse_words(all).map(|field| (field.name, field.value()))
}

/// `numa_hit 193460335812`
fn allocations(text: &[u8]) -> Option<(&[u8], f64)> {
    let mut all = words(text);
    Some((all.next()?, number(all.next()?)? as f64))
}
