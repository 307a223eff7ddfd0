//! Who a bearer token belongs to.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use lm_model::{Labels, Matcher};
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

/// What a credential's holder may be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sends batches of one agent.
    Agent,
    /// Exchanges users' credentials; may read nothing itself.
    Gateway,
    /// Sees and changes the mesh, and reads.
    Operator,
    /// Reads through the query interfaces, within its scope.
    Viewer,
    /// Writes through the gateway's interfaces.
    Writer,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Agent, Role::Gateway, Role::Operator, Role::Viewer, Role::Writer];

    pub fn name(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Gateway => "gateway",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
            Role::Writer => "writer",
        }
    }
}

/// What a credential is limited to. The mesh only carries it; the capabilities
/// that are granted enforce it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// What a viewer sees; empty: everything.
    pub selector: Vec<Matcher>,
    /// What everything that an agent or a writer sends is labelled with.
    pub labels: Labels,
    /// Patterns of what an agent's scraped series may have as `instance`
    /// beside its own name.
    pub instances: Vec<String>,
    pub rates: Rates,
    /// Series that a writer may have in use; `None`: any number.
    pub series_max: Option<u32>,
    /// When the credential stops being known, in milliseconds; `None`: never.
    pub expires_unix_ms: Option<i64>,
}

/// What an agent or a writer may send in a second; `None`: any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub samples: Option<u32>,
    pub lines: Option<u32>,
    pub bytes: Option<u32>,
}

/// An identity and what it may be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: String,
    pub role: Role,
    pub scope: Arc<Scope>,
}

impl Principal {
    /// Without a limit.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Principal { name: name.into(), role, scope: Arc::default() }
    }
}

/// Shortest token that is accepted, in bytes: 128 bits as hex.
pub const TOKEN_BYTES_MIN: usize = 32;
/// Longest token that is compared; a longer one is refused unseen.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// SHA-256 of a token.
pub type TokenDigest = [u8; 32];

/// Why a token is not taken. No message contains a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("the token has {0} bytes; use {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} random characters")]
    Length(usize),
    #[error("{role} {name:?} has the same token", role = .0.role.name(), name = .0.name)]
    Taken(Principal),
}

/// The digest of a token that is long enough to be one.
///
/// # Errors
///
/// [`CredentialError::Length`].
pub fn token_digest(token: &str) -> Result<TokenDigest, CredentialError> {
    if (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        Ok(sha256(token))
    } else {
        Err(CredentialError::Length(token.len()))
    }
}

/// Tokens and their holders, kept as digests: tokens are random, so a fast
/// digest is as good as a slow one, and a core dump shows none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenTable {
    entries: HashMap<TokenDigest, Principal>,
}

impl TokenTable {
    /// # Errors
    ///
    /// [`CredentialError::Taken`] when somebody has the token.
    pub fn add(&mut self, digest: TokenDigest, principal: Principal) -> Result<(), CredentialError> {
        if let Some(other) = self.entries.get(&digest) {
            return Err(CredentialError::Taken(other.clone()));
        }
        self.entries.insert(digest, principal);
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TokenDigest, &Principal)> {
        self.entries.iter()
    }
}

/// The table in force, indexed. Clones share it, and see a new one at once.
#[derive(Clone)]
pub struct Credentials {
    index: Arc<RwLock<Arc<Index>>>,
}

/// Entries by a keyed digest of their digest: how long a look-up takes tells
/// nothing, since nobody outside can tell where a token would stand.
struct Index {
    key: hmac::Key,
    entries: HashMap<[u8; 32], (TokenDigest, Principal)>,
}

impl Default for Credentials {
    fn default() -> Self {
        Credentials::new(TokenTable::default())
    }
}

impl Credentials {
    pub fn new(table: TokenTable) -> Self {
        Credentials { index: Arc::new(RwLock::new(Arc::new(Index::new(table)))) }
    }

    /// Puts `table` in force, as a whole.
    pub fn replace(&self, table: TokenTable) {
        let index = Arc::new(Index::new(table));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// The holder of a token that is known and has not expired. Does the same
    /// work for every other token.
    pub fn verify(&self, token: &str) -> Option<Principal> {
        self.verify_at(token, unix_ms())
    }

    /// As [`Credentials::verify`], at a given time.
    pub fn verify_at(&self, token: &str, now_unix_ms: i64) -> Option<Principal> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner).clone();
        let digest = sha256(token);
        let found = index.entries.get(&index.place(&digest));
        let (known, principal) = found.map_or((&[0; 32], None), |(known, holder)| (known, Some(holder)));
        let is_equal = bool::from(known.ct_eq(&digest));
        let expires = principal.and_then(|holder| holder.scope.expires_unix_ms).unwrap_or(i64::MAX);
        principal.filter(|_| is_equal & (now_unix_ms < expires)).cloned()
    }
}

impl Index {
    fn new(table: TokenTable) -> Self {
        let mut secret = [0; 32];
        // Without randomness the index still works; it is then as telling as
        // any table.
        let _ = getrandom::fill(&mut secret);
        let mut index = Index { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), entries: HashMap::new() };
        for (digest, principal) in table.entries {
            index.entries.insert(index.place(&digest), (digest, principal));
        }
        index
    }

    fn place(&self, digest: &TokenDigest) -> [u8; 32] {
        let mut place = [0; 32];
        place.copy_from_slice(hmac::sign(&self.key, digest).as_ref());
        place
    }
}

fn sha256(text: &str) -> TokenDigest {
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

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, token: &str, expires_unix_ms: Option<i64>) -> TokenTable {
        let mut table = TokenTable::default();
        let scope = Arc::new(Scope { expires_unix_ms, ..Scope::default() });
        let principal = Principal { scope, ..Principal::new(name, Role::Viewer) };
        table.add(token_digest(token).unwrap(), principal).unwrap();
        table
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let token = "a".repeat(32);
        let credentials = Credentials::new(table("ann", &token, Some(1000)));
        assert_eq!(credentials.verify_at(&token, 999).unwrap().name, "ann");
        assert_eq!(credentials.verify_at(&token, 1000), None);
        assert_eq!(credentials.verify_at(&"b".repeat(32), 0), None);
        assert_eq!(credentials.verify_at(&"a".repeat(TOKEN_BYTES_MAX + 1), 0), None);
        assert_eq!(credentials.verify_at("", 0), None);
    }

    #[test]
    fn clones_see_a_new_table_at_once() {
        let (old, new) = ("a".repeat(32), "b".repeat(32));
        let credentials = Credentials::new(table("ann", &old, None));
        let clone = credentials.clone();
        credentials.replace(table("ben", &new, None));
        assert_eq!(clone.verify(&old), None);
        assert_eq!(clone.verify(&new).unwrap().name, "ben");
    }

    #[test]
    fn no_two_have_the_same_token_and_no_error_tells_it() {
        let token = "secret-secret-secret-secret-secret";
        let mut known = table("ann", token, None);
        let error = known.add(token_digest(token).unwrap(), Principal::new("ben", Role::Writer)).unwrap_err();
        assert_eq!(error.to_string(), "viewer \"ann\" has the same token");
        let error = token_digest("short-secret").unwrap_err().to_string();
        assert!(error.contains("12 bytes") && !error.contains("short-secret"), "{error}");
    }
}
