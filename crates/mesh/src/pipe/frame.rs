//! What travels in a byte pipe (TLS over TCP, a unix socket), where QUIC has
//! streams and close codes of its own:
//!
//! ```text
//! kind: u8 │ length: u24, little endian │ payload
//!
//! 0 data    bytes of the RPC stream, 1 to 16,380
//! 1 open    first on every pipe, from the client: empty for a new session's
//!           control stream, or the 32 bytes that only the two ends of that
//!           session's control connection know
//! 2 close   last on a control pipe: code u32, little endian, and the reason
//! ```
//!
//! A frame with its header fits one TLS record. Plain bytes in and out: no
//! sockets here.

use crate::{CloseCode, Closing};

pub(crate) const HEADER_BYTES: usize = 4;
pub(crate) const DATA_BYTES_MAX: usize = (16 << 10) - HEADER_BYTES;
/// Longest reason that is sent; more is cut off.
const REASON_BYTES_MAX: usize = 1024;
pub(crate) const SECRET_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data = 0,
    Open = 1,
    Close = 2,
}

/// The frame that comes, and the bytes of its payload.
pub(crate) fn read_header(bytes: [u8; HEADER_BYTES]) -> Result<(Kind, usize), &'static str> {
    let [kind, low, middle, high] = bytes;
    let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
    match (kind, length) {
        (0, 1..=DATA_BYTES_MAX) => Ok((Kind::Data, length)),
        (1, 0 | SECRET_BYTES) => Ok((Kind::Open, length)),
        (2, 4..) if length <= 4 + REASON_BYTES_MAX => Ok((Kind::Close, length)),
        _ => Err("not a frame of this protocol"),
    }
}

/// # Panics
///
/// When `length` does not fit 24 bits: ours are at most [`DATA_BYTES_MAX`].
pub(crate) fn header(kind: Kind, length: usize) -> [u8; HEADER_BYTES] {
    assert!(length <= DATA_BYTES_MAX, "a frame fits a TLS record");
    let [low, middle, high, _] = (length as u32).to_le_bytes();
    [kind as u8, low, middle, high]
}

/// The first frame of a pipe: of a new session, or of one that is known by
/// `secret`.
pub(crate) fn open(secret: Option<&[u8; SECRET_BYTES]>) -> Vec<u8> {
    let payload = secret.map_or(&[][..], |secret| &secret[..]);
    [&header(Kind::Open, payload.len())[..], payload].concat()
}

/// The last frame of a session.
pub(crate) fn close(code: CloseCode, reason: &str) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    [&header(Kind::Close, 4 + reason.len())[..], &(code as u32).to_le_bytes(), reason].concat()
}

/// What a close frame says.
pub(crate) fn read_close(payload: &[u8]) -> Closing {
    let Some((code, reason)) = payload.split_first_chunk() else { return Closing::lost("closed") };
    let code = CloseCode::of(u32::from_le_bytes(*code).into());
    Closing { code, reason: String::from_utf8_lossy(reason).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_others_are_refused() {
        for (frame, kind) in [
            (open(None), Kind::Open),
            (open(Some(&[7; 32])), Kind::Open),
            (close(CloseCode::Revoked, "revoked: stolen"), Kind::Close),
            (close(CloseCode::Done, &"ü".repeat(5000)), Kind::Close),
        ] {
            let (header, payload) = frame.split_first_chunk().unwrap();
            assert_eq!(read_header(*header), Ok((kind, payload.len())));
        }
        let farewell = close(CloseCode::Revoked, "revoked: stolen");
        let expected = Closing { code: Some(CloseCode::Revoked), reason: "revoked: stolen".to_owned() };
        assert_eq!(read_close(&farewell[HEADER_BYTES..]), expected);
        for wrong in [[0, 0, 0, 0], [0, 0xff, 0xff, 0xff], [1, 5, 0, 0], [2, 3, 0, 0], [2, 0, 0, 1], [9; 4]] {
            assert!(read_header(wrong).is_err(), "{wrong:?}");
        }
    }
}
