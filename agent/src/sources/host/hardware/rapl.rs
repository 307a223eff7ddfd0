//! Energy that packages, cores and memory used: `/sys/class/powercap`.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

pub struct Rapl {
    path: PathBuf,
}

impl Rapl {
    pub fn new(options: &HostOptions) -> Self {
        Rapl { path: options.sysfs.join("class/powercap") }
    }
}

impl Collect for Rapl {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        let mut unnumbered: HashMap<String, u32> = HashMap::new();
        for entry in class.names() {
            if !entry.starts_with("intel-rapl") {
                continue;
            }
            let Some(zone) = class.inside(&entry) else { continue };
            let Some(name) = zone.text("name", buffer).map(String::from) else { continue };
            let (name, index) = match numbered(&name) {
                Some(numbered) => numbered,
                None => {
                    let next = unnumbered.entry(name.clone()).or_default();
                    *next += 1;
                    (&name[..], *next - 1)
                }
            };
            // For root only, since power tells what is computed.
            let Some(microjoules) = zone.number("energy_uj", buffer) else { continue };
            let metric = format!("node_rapl_{}_joules_total", name.replace('-', "_"));
            let path = self.path.join(&entry);
            let labels = [("index", &index.to_string()[..]), ("path", &path.to_string_lossy())];
            push(cycle, &metric, &labels, microjoules / 1e6)?;
        }
        Ok(())
    }
}

/// `package` and 1 of `package-1`.
fn numbered(name: &str) -> Option<(&str, u32)> {
    let (name, index) = name.split_once('-')?;
    Some((name, index.parse().ok()?))
}
