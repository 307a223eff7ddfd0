//! What agents' and users' entries have in common: a name, a token, and what
//! those who send are limited to.

use lm_mesh::{Principal, TokenDigest, TokenTable, token_digest};
use lm_model::{Labels, METRIC_NAME};
use lm_settings::{Section, Value, units};

use crate::ingest::INSTANCE;

/// Longest name of an agent or user.
const NAME_BYTES_MAX: usize = 128;
/// Labels that one of them may be given.
const LABELS_MAX: usize = 32;
pub const LABEL_VALUE_BYTES_MAX: usize = 512;

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

/// A bound, when one is given.
pub fn count(from: &mut Section<'_, '_>, key: &'static str, into: &mut Option<u32>) {
    from.read(key, into, |value| units::integer(value, 1..=u32::MAX).map(Some));
}

/// `{ env = "prod" }`
pub fn labels(value: &Value<'_>) -> Result<Labels, String> {
    let expected = "expected a table of texts such as { env = \"prod\" }";
    let Value::Table(table) = value else { return Err(expected.to_owned()) };
    if table.len() > LABELS_MAX {
        return Err(format!("expected at most {LABELS_MAX} labels"));
    }
    let mut pairs = Vec::new();
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        if !is_label_name(name) {
            return Err(format!("{name:?} cannot be a label's name: use letters, digits and '_'"));
        }
        if name == INSTANCE || name == METRIC_NAME || name.starts_with("__") {
            return Err(format!("{name} cannot be given: instance is the agent_id, and __ is ours"));
        }
        let text = units::text(value.get_ref()).map_err(|_| expected.to_owned())?;
        if text.len() > LABEL_VALUE_BYTES_MAX {
            return Err(format!("expected values of at most {LABEL_VALUE_BYTES_MAX} bytes"));
        }
        pairs.push((name.to_owned(), text));
    }
    Ok(Labels::from_pairs(pairs))
}

fn is_label_name(name: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= 128
        && name.bytes().next().is_some_and(is_start)
        && name.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit())
}
