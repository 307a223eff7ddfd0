//! How a host gets its name, token and files: what `lm-collector setup`,
//! `lmctl agent` and `lm-agent setup` share.
//!
//! [`Files`] writes what is missing and never shows a half-written file,
//! [`AgentsTable`] edits the table of agents' tokens, [`Bundle`] carries a new
//! agent's token from one host to the other, and [`token`] makes one. Nothing
//! here listens, connects, or decides what a token is worth.

mod agents;
mod bundle;
mod files;
mod token;
mod unit;

pub use agents::AgentsTable;
pub use bundle::{BUNDLE_BYTES_MAX, Bundle};
pub use files::{Access, Files, group_id};
pub use token::{sha256_hex, token};
pub use unit::{UNIT_DIR, Unit};

use std::io;
use std::path::PathBuf;

use lm_settings::Mistake;

/// Where the configuration of a host is, unless told.
pub const CONFIG_DIR: &str = "/etc/lightmetrics";
/// The table of agents' tokens, in the collector's configuration directory.
pub const AGENTS_FILE: &str = "ingest-tokens.toml";
/// Where agents reach the collector, as `lm-collector setup` was told.
pub const ENDPOINT_FILE: &str = "endpoint";
/// The certificate of the collector's CA.
pub const CA_FILE: &str = "ca.pem";

/// Why a set-up did not come to its end. What was written before stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("no random bytes: {0}")]
    Random(String),
    #[error("{0:?} cannot be an agent's name: use 1 to 128 letters, digits, '.', '_' or '-'")]
    Name(String),
    #[error("{}: {message}", path.display())]
    Table { path: PathBuf, message: String },
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

impl Error {
    /// The exit code of a command that fails with this: 77 for what this user
    /// may not do, 78 for what somebody must correct, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Read { error, .. } | Error::Write { error, .. }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                77
            }
            Error::Name(_) | Error::Table { .. } | Error::Mistakes(_) => 78,
            Error::Read { .. } | Error::Write { .. } | Error::Random(_) => 1,
        }
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Refuses what cannot be an agent's name.
///
/// # Errors
///
/// [`Error::Name`].
pub fn check_name(name: &str) -> Result<(), Error> {
    if lm_mesh::is_identity(name) { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}
