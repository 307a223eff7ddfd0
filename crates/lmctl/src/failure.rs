//! Why a command failed: an exit code for scripts, and for people what
//! happened and what to do.

use std::io;

use lm_mesh::DialError;

use crate::escape::printable;

/// sysexits: what scripts tell apart.
pub const EXIT_SOFTWARE: u8 = 1;
pub const EXIT_UNAVAILABLE: u8 = 69;
pub const EXIT_TEMPORARY: u8 = 75;
pub const EXIT_NOT_ALLOWED: u8 = 77;
pub const EXIT_CONFIG: u8 = 78;

/// How capnp-rpc marks what the collector said.
const REMOTE: &str = "remote exception: ";

/// A command that did not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// Empty: end without a word, as when nobody reads our output any more.
    pub message: String,
    pub advice: &'static str,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), advice: "" }
    }

    /// Nobody reads on: `lmctl tap | head` is no mistake.
    pub fn from_output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(0, ""),
            _ => Failure::new(EXIT_SOFTWARE, format!("cannot write the output: {error}")),
        }
    }

    /// Whether it may be over in a moment: nothing answered, or there is too
    /// much to do.
    pub fn is_passing(&self) -> bool {
        matches!(self.code, EXIT_UNAVAILABLE | EXIT_TEMPORARY)
    }

    /// What the collector said, by its stable leading code.
    pub fn said(message: &str) -> Self {
        let (code, advice) = match message.split(':').next().unwrap_or("") {
            "denied" => (
                EXIT_NOT_ALLOWED,
                "The collector does not know this token, or its holder was denied. Check --token-file; another \
                 operator can look at 'lmctl denials' and undo one with 'lmctl allow IDENTITY'.",
            ),
            "revoked" => (
                EXIT_NOT_ALLOWED,
                "An operator took this session or capability back while it was in use. Run the command again: \
                 it logs in anew, unless the identity was denied too.",
            ),
            "expired" => (
                EXIT_NOT_ALLOWED,
                "The time of this credential or capability is over. Run the command again; if it happens at \
                 once, a new token is needed.",
            ),
            "quota" => (
                EXIT_TEMPORARY,
                "A bound of the collector is used up. Ask for less (--session, --count), or later.",
            ),
            "overloaded" => {
                (EXIT_TEMPORARY, "The collector has too much to do and refused this at once. Try again.")
            }
            "invalid" => (EXIT_SOFTWARE, "The collector does not accept an argument of this command."),
            _ => (EXIT_SOFTWARE, ""),
        };
        Failure { code, message: message.to_owned(), advice }
    }

    /// For standard error; harmless, whoever chose the words.
    pub fn text(&self) -> String {
        match (&self.message[..], self.advice) {
            ("", _) => String::new(),
            (message, "") => format!("lmctl: {}\n", printable(message)),
            (message, advice) => format!("lmctl: {}\n{advice}\n", printable(message)),
        }
    }
}

impl From<capnp::Error> for Failure {
    fn from(error: capnp::Error) -> Self {
        let text = error.to_string();
        match (error.kind, text.split_once(REMOTE)) {
            (capnp::ErrorKind::Unimplemented, _) => Failure {
                code: EXIT_SOFTWARE,
                message: "the collector does not know this command".to_owned(),
                advice: "It is older than this lmctl. 'lmctl describe Operator' lists what it knows.",
            },
            (capnp::ErrorKind::Disconnected, None) => Failure {
                code: EXIT_UNAVAILABLE,
                message: "the session with the collector ended".to_owned(),
                advice: "The collector was stopped or cannot be reached any more, or an operator revoked this \
                         session. Try again.",
            },
            (_, Some((_, said))) => Failure::said(said),
            (_, None) => Failure::new(EXIT_SOFTWARE, text),
        }
    }
}

impl From<lm_schema::Error> for Failure {
    fn from(error: lm_schema::Error) -> Self {
        match error {
            lm_schema::Error::Malformed(error) => error.into(),
            other => Failure::new(EXIT_SOFTWARE, other.to_string()),
        }
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let message = error.to_string();
        let (code, advice) = match &error {
            DialError::Unreachable { .. } => (
                EXIT_UNAVAILABLE,
                "Nothing answered there. Is the collector running, is --collector its address, and does UDP \
                 reach it?",
            ),
            DialError::Socket(_) => (EXIT_UNAVAILABLE, ""),
            DialError::Refused { message, .. } => {
                let Failure { code, advice, .. } = Failure::said(message);
                // A refused login is a matter of rights, whatever its words.
                (if code == EXIT_SOFTWARE { EXIT_NOT_ALLOWED } else { code }, advice)
            }
            DialError::Untrusted { .. } => (
                EXIT_NOT_ALLOWED,
                "Give the CA of this collector with --ca, and with --server-name the name in its certificate \
                 if that is not the host's.",
            ),
            DialError::Secret(_) => (EXIT_NOT_ALLOWED, "Name a readable file of yours with --token-file."),
            DialError::Tls(_) | DialError::NoEndpoint => (EXIT_SOFTWARE, ""),
        };
        Failure { code, message, advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(message: &str) -> Failure {
        capnp::Error::failed(format!("{REMOTE}{message}")).into()
    }

    #[test]
    fn stable_codes_are_explained() {
        let cases = [
            ("denied: no", 77, "lmctl allow"),
            ("revoked: by ops", 77, "took this session"),
            ("expired: over", 77, "new token"),
            ("quota: taps", 75, "bound"),
            ("overloaded: later", 75, "Try again"),
            ("invalid: reason", 1, "argument"),
        ];
        for (said, code, advice) in cases {
            let failure = remote(said);
            assert_eq!(failure.code, code, "{said}");
            let text = failure.text();
            assert!(text.starts_with(&format!("lmctl: {said}\n")) && text.contains(advice), "{text}");
        }
        assert_eq!(remote("no such thing").text(), "lmctl: no such thing\n");
    }

    #[test]
    fn words_of_others_do_not_steer_the_terminal() {
        let text = remote("invalid: \x1b[2J\u{202e}").text();
        assert!(text.starts_with("lmctl: invalid: \\x1b[2J\\u{202e}\n"), "{text}");
    }
}
