//! Why a connection was closed, as a number that both sides understand.

use quinn::VarInt;

/// Application close codes. Numbers are part of the protocol
/// (`docs/protocol.md`) and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The peer is done.
    Done = 0,
    /// The process stops or restarts; come back soon.
    Drain = 1,
    /// No login within the deadline.
    LoginTimeout = 2,
    /// Login was refused.
    Denied = 3,
    /// A bound of the mesh was broken; the reason names it.
    Limit = 4,
    /// The control stream ended or failed.
    ControlLost = 5,
    /// A newer session of the same agent took over.
    Superseded = 6,
    /// An operator ended the session, or its credential was changed; the
    /// reason says which. A login may be granted again.
    Revoked = 7,
    /// A call failed inside the server; other sessions go on.
    Internal = 8,
}

impl CloseCode {
    const ALL: [CloseCode; 9] = [
        CloseCode::Done,
        CloseCode::Drain,
        CloseCode::LoginTimeout,
        CloseCode::Denied,
        CloseCode::Limit,
        CloseCode::ControlLost,
        CloseCode::Superseded,
        CloseCode::Revoked,
        CloseCode::Internal,
    ];

    pub(crate) fn of(number: u64) -> Option<CloseCode> {
        Self::ALL.into_iter().find(|code| u64::from(*code as u32) == number)
    }

    pub(crate) fn number(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// What the peer meant by it; `None` when it did not say, or its word is
    /// of a newer version.
    pub code: Option<CloseCode>,
    pub reason: String,
}

impl Closing {
    /// The connection failed; nobody said why.
    pub(crate) fn lost(reason: impl Into<String>) -> Closing {
        Closing { code: None, reason: reason.into() }
    }

    pub(crate) fn of(error: &quinn::ConnectionError) -> Closing {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => Closing {
                code: CloseCode::of(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            quinn::ConnectionError::ApplicationClosed(close) => {
                Closing { code: CloseCode::of(close.error_code.into_inner()), reason: error.to_string() }
            }
            other => Closing { code: None, reason: other.to_string() },
        }
    }
}

impl std::fmt::Display for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}
