//! Bearer tokens: random, written as hex.

use crate::Error;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// A new token: 64 hex digits.
///
/// # Errors
///
/// When the system has no randomness.
pub fn token() -> Result<String, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    Ok(hex(&bytes))
}

/// What the table of agents holds of a token made by [`token`].
///
/// # Panics
///
/// When it is shorter than any token may be.
pub fn sha256_hex(token: &str) -> String {
    hex(&lm_mesh::token_digest(token).expect("our tokens are long enough"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
