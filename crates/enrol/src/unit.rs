//! The systemd units of `config/systemd`, with the paths of this host.

use std::path::Path;

use crate::{Access, CONFIG_DIR, Error, Files};

/// Where a host's own units are.
pub const UNIT_DIR: &str = "/etc/systemd/system";

/// Where the units of `config/systemd` expect the binaries.
const BIN_DIR: &str = "/usr/local/bin";

/// A unit as it stands in `config/systemd`.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    pub name: &'static str,
    pub template: &'static str,
}

impl Unit {
    /// The unit for binaries in `bin_dir` and a configuration in `config_dir`.
    pub fn text(&self, bin_dir: &Path, config_dir: &Path) -> String {
        let text = self.template.replace(BIN_DIR, &bin_dir.display().to_string());
        text.replace(CONFIG_DIR, &config_dir.display().to_string())
    }

    /// Writes the unit into `unit_dir` unless one is there.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn install(&self, unit_dir: &Path, config_dir: &Path, files: &mut Files) -> Result<(), Error> {
        let own = std::env::current_exe().ok();
        let bin_dir = own.as_deref().and_then(Path::parent).unwrap_or(Path::new(BIN_DIR));
        let text = self.text(bin_dir, config_dir);
        files.write_missing(&unit_dir.join(self.name), &text, Access::Everyone).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_host() {
        let unit = Unit {
            name: "x.service",
            template: "ExecStart=/usr/local/bin/lm-agent --daemon /etc/lightmetrics/agent.toml\n",
        };
        let text = unit.text(Path::new("/opt/lm"), Path::new("/srv/lm"));
        assert_eq!(text, "ExecStart=/opt/lm/lm-agent --daemon /srv/lm/agent.toml\n");
    }
}
