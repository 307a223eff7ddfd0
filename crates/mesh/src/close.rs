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
}

impl CloseCode {
    pub(crate) fn number(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}
