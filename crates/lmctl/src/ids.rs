//! Numbers of sessions and capabilities, as people type them: `s3`, `c17`.

use lm_schema::operator::Target;

/// A session: `s3` or `3`.
pub fn session(text: &str) -> Result<u64, String> {
    number(text, 's').ok_or_else(|| "a session is written s3 or 3".to_owned())
}

/// A capability: `c17` or `17`.
pub fn capability(text: &str) -> Result<u64, String> {
    number(text, 'c').ok_or_else(|| "a capability is written c17 or 17".to_owned())
}

/// Either: `c17` and `17` are capabilities, `s3` is a session.
pub fn target(text: &str) -> Result<Target, String> {
    let found = number(text, 'c').map(Target::Capability);
    found
        .or_else(|| number(text, 's').map(Target::Session))
        .ok_or_else(|| "a capability is written c17 or 17, a session s3".to_owned())
}

/// `"capability c17"`, `"session s3"`.
pub fn named(target: Target) -> String {
    match target {
        Target::Capability(id) => format!("capability c{id}"),
        Target::Session(id) => format!("session s{id}"),
    }
}

/// Numbers begin at 1: 0 means any, or none, to the collector.
fn number(text: &str, prefix: char) -> Option<u64> {
    let digits = text.strip_prefix([prefix, prefix.to_ascii_uppercase()]).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    digits.parse().ok().filter(|id| *id > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_accepted_and_nothing_else() {
        assert_eq!([session("s3"), session("3"), session("S3")], [Ok(3), Ok(3), Ok(3)]);
        assert_eq!(capability("c17"), Ok(17));
        assert_eq!(target("c17"), Ok(Target::Capability(17)));
        assert_eq!(target("17"), Ok(Target::Capability(17)));
        assert_eq!(target("s3"), Ok(Target::Session(3)));
        for wrong in ["", "s", "x3", "-1", "+1", "0", "s0", "c 1", "18446744073709551616", "cc1"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
        assert!(session("c3").is_err() && capability("s3").is_err());
    }
}
