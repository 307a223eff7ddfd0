//! Who a bearer token belongs to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ring::digest;
use subtle::ConstantTimeEq;

use crate::secret::{SecretError, read_secret};

/// What a credential's holder may be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sends batches of one agent.
    Agent,
    /// Exchanges users' credentials; may read nothing itself.
    Gateway,
    /// Sees and changes the mesh.
    Operator,
    /// Reads everything through the query interfaces.
    Reader,
    /// Writes through the gateway's interfaces.
    Writer,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Gateway => "gateway",
            Role::Operator => "operator",
            Role::Reader => "reader",
            Role::Writer => "writer",
        }
    }
}

/// An identity and what it may be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: String,
    pub role: Role,
}

/// Shortest token that is accepted, in bytes: 128 bits as hex.
const TOKEN_BYTES_MIN: usize = 32;
/// Longest token that is compared; a longer one is refused unseen.
const TOKEN_BYTES_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{path}: {message}")]
    Format { path: PathBuf, message: String },
}

/// Known tokens, kept as digests: tokens are random, so a fast digest is as
/// good as a slow one, and a core dump shows none.
#[derive(Clone, Default)]
pub struct Credentials {
    entries: Vec<([u8; 32], Principal)>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    tokens: Vec<AgentToken>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentToken {
    agent_id: String,
    token: String,
}

impl Credentials {
    /// Adds the agents of a token table (`[[tokens]] agent_id, token`).
    ///
    /// # Errors
    ///
    /// When the file is exposed, not such a table, or names an agent or a
    /// token twice. No message contains a token.
    pub fn add_agents(&mut self, path: &Path) -> Result<(), CredentialError> {
        let text = read_secret(path)?;
        let format = |message: String| CredentialError::Format { path: path.to_owned(), message };
        let file: TokenFile = toml::from_str(&text)
            // toml's own message quotes the line, which holds the token.
            .map_err(|error| {
                let line =
                    error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count());
                format(format!("line {}: not a table of [[tokens]] with agent_id and token", line + 1))
            })?;
        let mut names = BTreeSet::new();
        for AgentToken { agent_id, token } in file.tokens {
            if !is_identity(&agent_id) {
                return Err(format(format!(
                    "agent_id {agent_id:?} must be 1 to 128 letters, digits, '.', '_' or '-'"
                )));
            }
            if !names.insert(agent_id.clone()) {
                return Err(format(format!("agent_id {agent_id:?} stands twice")));
            }
            self.add(path, &token, Principal { name: agent_id, role: Role::Agent })?;
        }
        Ok(())
    }

    /// Adds the one token in a file.
    pub fn add_file(&mut self, path: &Path, principal: Principal) -> Result<(), CredentialError> {
        let token = read_secret(path)?;
        self.add(path, &token, principal)
    }

    fn add(&mut self, path: &Path, token: &str, principal: Principal) -> Result<(), CredentialError> {
        let format = |message| CredentialError::Format { path: path.to_owned(), message };
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return Err(format(format!(
                "the token of {} has {} bytes; use {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} random characters",
                principal.name,
                token.len()
            )));
        }
        let digest = sha256(token);
        if let Some((_, other)) = self.entries.iter().find(|(known, _)| *known == digest) {
            return Err(format(format!("{} and {} have the same token", other.name, principal.name)));
        }
        self.entries.push((digest, principal));
        Ok(())
    }

    /// Whose token this is. Takes the same time for every wrong token.
    pub fn verify(&self, token: &str) -> Option<&Principal> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let digest = sha256(token);
        let mut found = None;
        for (known, principal) in &self.entries {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(principal);
            }
        }
        found
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

/// Whether a name may stand for an agent or a user: 1 to 128 letters, digits,
/// `.`, `_` or `-`.
pub fn is_identity(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
