//! `lm-collector setup`: what a first installation of collector and gateway
//! needs: a certificate authority, a server certificate, tokens, settings and
//! systemd units.
//!
//! What is there is kept, so that it can be run again at any time. The
//! authority's key stays in the directory, readable by its owner alone; the
//! collector itself never opens it. Read [`setup`] first, then [`renew`].

mod certificates;
mod settings;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lm_enrol::{AGENTS_FILE, Access, AgentsTable, CONFIG_DIR, ENDPOINT_FILE, Files, Unit};

pub use certificates::Certificate;

/// The user and group that the collector's unit runs as.
pub const SERVICE_USER: &str = "lightmetrics";

const TOKENS: [&str; 4] = ["gateway-token", "query-token", "write-token", "operator-token"];

const UNITS: [Unit; 4] = [
    Unit {
        name: "lm-collector.service",
        template: include_str!("../../../config/systemd/lm-collector.service"),
    },
    Unit { name: "lm-gateway.service", template: include_str!("../../../config/systemd/lm-gateway.service") },
    Unit {
        name: "lm-collector-renew.service",
        template: include_str!("../../../config/systemd/lm-collector-renew.service"),
    },
    Unit {
        name: "lm-collector-renew.timer",
        template: include_str!("../../../config/systemd/lm-collector-renew.timer"),
    },
];

/// What `users.toml` begins with: how to go on.
const USERS_EXAMPLE: &str = "\
# People and applications with HTTP tokens of their own. server.toml names this
# file in [users].tokens_file; SIGHUP reads it again. An entry:
#
# [[users]]
# name = \"ann\"
# role = \"viewer\"                     # or writer, operator
# token_sha256 = \"...\"                # printf %s TOKEN | sha256sum; or token = \"...\"
# scope = '{env=\"prod\"}'              # viewers: the series and lines they see
# expires = 2027-01-31T18:00:00Z
";

/// What to make.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    pub dir: PathBuf,
    /// Names and addresses that the server certificate carries; the first is
    /// where agents are told to connect.
    pub names: Vec<String>,
    /// Agents that get a token in a file of their own.
    pub agents: Vec<String>,
    /// How long the server certificate is valid.
    pub lifetime: Duration,
    /// Where the collector listens for agents and gateways.
    pub listen: SocketAddr,
    /// Where the gateway listens; beyond loopback it gets TLS.
    pub gateway_listen: SocketAddr,
    /// Where systemd units go; `None`: nowhere.
    pub unit_dir: Option<PathBuf>,
    /// Who may read what the collector reads again while it runs.
    pub group: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Enrol(#[from] lm_enrol::Error),
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error(
        "{} has lost its key, {}: restore it, or move both away and tls/fullchain.pem too to begin with a new \
         authority, which all agents then need",
        ca.display(),
        key.display()
    )]
    Authority { ca: PathBuf, key: PathBuf },
    #[error("{} is missing: lm-collector setup --name HOST makes one", path.display())]
    NoCertificate { path: PathBuf },
}

/// Makes what is missing and returns the files that were written.
///
/// Every secret is readable by its owner alone, or by `group` too where the
/// running collector must read it again, whatever the umask.
///
/// # Errors
///
/// When a file cannot be written; what was made before stays.
pub fn setup(options: &SetupOptions, now: SystemTime) -> Result<Vec<PathBuf>, SetupError> {
    let SetupOptions { dir, group, .. } = options;
    let shared = Access::Group(*group);
    let mut files = Files::default();
    Files::dir(dir)?;
    Files::dir(&dir.join("tls"))?;
    Certificate::at(dir).ensure(&options.names, options.lifetime, now, &mut files)?;
    for name in TOKENS {
        let path = dir.join(name);
        if !path.exists() {
            files.write(&path, &format!("{}\n", lm_enrol::token()?), Access::Owner)?;
        }
    }
    let mut table = AgentsTable::open(&dir.join(AGENTS_FILE), shared, &mut files)?;
    for agent in &options.agents {
        let token = lm_enrol::token()?;
        if table.add(agent, &lm_enrol::sha256_hex(&token), &mut files)? {
            files.write(&dir.join(format!("token-{agent}")), &format!("{token}\n"), Access::Owner)?;
        }
    }
    drop(table);
    files.write_missing(&dir.join("users.toml"), USERS_EXAMPLE, shared)?;
    let endpoint = settings::endpoint(&options.names[0], options.listen.port());
    files.write_missing(&dir.join(ENDPOINT_FILE), &format!("{endpoint}\n"), Access::Everyone)?;
    files.write_missing(&dir.join("server.toml"), &settings::collector(options), Access::Everyone)?;
    files.write_missing(&dir.join("gateway.toml"), &settings::gateway(options), Access::Everyone)?;
    if let Some(unit_dir) = &options.unit_dir {
        for unit in UNITS {
            unit.install(unit_dir, dir, &mut files)?;
        }
    }
    // A table that got several agents was written as often.
    let mut written = files.written;
    let mut seen = std::collections::BTreeSet::new();
    written.retain(|file| seen.insert(file.clone()));
    Ok(written)
}

/// Renews the server certificate of `dir` when two thirds of its life are
/// over. Whether it did; a certificate of another authority is left alone.
///
/// # Errors
///
/// When there is none, or it cannot be made.
pub fn renew(dir: &Path, now: SystemTime) -> Result<bool, SetupError> {
    let mut files = Files::default();
    Certificate::at(dir).renew(now, &mut files)?;
    Ok(!files.written.is_empty())
}

/// Whether `dir` is that of the host's installation, not of a lab.
pub fn is_of_host(dir: &Path) -> bool {
    dir == Path::new(CONFIG_DIR)
}
