//! Faults of the processors that the kernel knows, and what it does about
//! them: `/sys/devices/system/cpu/vulnerabilities`.

use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const NAME: &str = "node_cpu_vulnerabilities_info";

pub struct CpuVulnerabilities {
    path: PathBuf,
}

impl CpuVulnerabilities {
    pub fn new(options: &HostOptions) -> Self {
        CpuVulnerabilities { path: options.sysfs.join("devices/system/cpu/vulnerabilities") }
    }
}

impl Collect for CpuVulnerabilities {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let faults = Directory::open(&self.path)?;
        for codename in faults.names() {
            let Some(text) = faults.text(&codename, buffer) else { continue };
            let (state, mitigation) = parse(&text);
            push(cycle, NAME, &[("codename", &codename), ("state", state), ("mitigation", mitigation)], 1.0)?;
        }
        Ok(())
    }
}

/// The state and what is done: `Mitigation: Retpolines, IBPB: conditional`.
fn parse(text: &str) -> (&'static str, &str) {
    let states =
        [("Mitigation", "mitigation"), ("Vulnerable", "vulnerable"), ("Not affected", "not affected")];
    let found = states.into_iter().find_map(|(word, state)| Some((state, text.strip_prefix(word)?)));
    let (state, rest) = found.unwrap_or(("unknown", ""));
    (state, rest.trim_start_matches([':', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_what_is_done() {
        assert_eq!(parse("Mitigation: PTI"), ("mitigation", "PTI"));
        assert_eq!(parse("Vulnerable: No microcode"), ("vulnerable", "No microcode"));
        assert_eq!(parse("Vulnerable"), ("vulnerable", ""));
        assert_eq!(parse("Not affected"), ("not affected", ""));
        assert_eq!(parse("Processor is odd"), ("unknown", ""));
    }
}
