//! Who may do what: the token files, read into one table.
//!
//! Agents, users and the four single tokens end up in one [`TokenTable`], so
//! that no token can be two people's and a reload swaps all of it at once.
//! Nothing here decides anything: the table says what a credential is limited
//! to, and the capabilities that are granted enforce it.

mod agents;
mod entry;
mod reload;
#[cfg(test)]
mod tests;
mod users;

pub use reload::{PartOutcome, Reload};

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use lm_mesh::{CredentialError, Principal, Role, Scope, SecretError, TokenTable, read_secret, token_digest};
use lm_settings::Mistake;

use crate::settings::Settings;

/// What is wrong with a file of tokens. No message contains a token.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Mistake(Mistake),
    #[error("{path}:1: {error}")]
    Token { path: String, error: CredentialError },
}

/// What each agent that is known is limited to. Clones share it.
#[derive(Clone, Default)]
pub struct AgentScopes(Arc<RwLock<HashMap<String, Arc<Scope>>>>);

impl AgentScopes {
    pub fn scope(&self, agent: &str) -> Option<Arc<Scope>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(agent).cloned()
    }

    pub fn replace(&self, table: &TokenTable) {
        let agents = table.iter().filter(|(_, principal)| principal.role == Role::Agent);
        let scopes = agents.map(|(_, principal)| (principal.name.clone(), principal.scope.clone()));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = scopes.collect();
    }
}

/// Reads every file of tokens that the settings name.
///
/// # Errors
///
/// Every mistake in each of them, not only the first.
pub fn load(settings: &Settings) -> Result<TokenTable, Vec<AccessError>> {
    let auth = &settings.auth;
    let mut table = TokenTable::default();
    let mut errors = Vec::new();
    for (file, role) in [
        (&auth.gateway_token_file, Role::Gateway),
        (&auth.query_token_file, Role::Viewer),
        (&auth.write_token_file, Role::Writer),
        (&auth.operator_token_file, Role::Operator),
    ] {
        if let Err(error) = add_single(&mut table, file, role) {
            errors.push(error);
        }
    }
    let agents = agents::read(&auth.agent_tokens_file, &mut table);
    let users = match &settings.users.tokens_file {
        Some(file) => users::read(file, &mut table),
        None => Ok(()),
    };
    errors.extend([agents, users].into_iter().filter_map(Result::err).flatten());
    if errors.is_empty() { Ok(table) } else { Err(errors) }
}

/// The one token in a file. Its holder is called like its role.
fn add_single(table: &mut TokenTable, file: &Path, role: Role) -> Result<(), AccessError> {
    let token = read_secret(file)?;
    token_digest(&token)
        .and_then(|digest| table.add(digest, Principal::new(role.name(), role)))
        .map_err(|error| AccessError::Token { path: file.display().to_string(), error })
}
