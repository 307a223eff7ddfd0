//! What agents' and users' entries have in common: a name and a token.

use lm_mesh::{Principal, TokenDigest, TokenTable, token_digest};
use lm_settings::{Section, Value, units};

/// Longest name of an agent or user.
const NAME_BYTES_MAX: usize = 128;

/// Letters, digits, '.', '_' and '-': fit for labels, file names and logs.
pub fn identity(value: &Value<'_>) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    units::text(value)
        .ok()
        .filter(|name| name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain))
        .ok_or_else(|| "expected 1 to 128 letters, digits, '.', '_' or '-'".to_owned())
}

/// An entry's `token` or `token_sha256`; a complaint when there is not one.
pub fn digest(from: &mut Section<'_, '_>) -> Option<TokenDigest> {
    let (mut token, mut sha256) = (None, None);
    from.read("token", &mut token, |value| {
        let token = units::text(value).map_err(|_| "expected a text".to_owned())?;
        token_digest(&token).map(Some).map_err(|error| error.to_string())
    });
    from.read("token_sha256", &mut sha256, |value| {
        let text = units::text(value).unwrap_or_default();
        hex(&text).map(Some).ok_or_else(|| "expected the SHA-256 of a token as 64 hex digits".to_owned())
    });
    match (from.has("token"), from.has("token_sha256")) {
        (true, true) => {
            from.complain_at("token_sha256", "token and token_sha256 say the same thing; keep one");
        }
        (false, false) => from.complain_at("token", "token is missing (or token_sha256 in its place)"),
        _ => return token.or(sha256),
    }
    None
}

fn hex(text: &str) -> Option<TokenDigest> {
    let mut digest = TokenDigest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Adds an entry to the table; complains when somebody has its token.
pub fn add(table: &mut TokenTable, from: &Section<'_, '_>, digest: TokenDigest, principal: Principal) {
    if let Err(error) = table.add(digest, principal) {
        let key = if from.has("token") { "token" } else { "token_sha256" };
        from.complain_at(key, &format!("{key}: {error}"));
    }
}
