//! What an operator sees, as plain data: read from and written to the wire,
//! and serialized with the names that `lmctl --output json` and the console's
//! API show.
//!
//! Much of the text in here was chosen by peers. It is kept as it is: whoever
//! prints it to a terminal escapes it. A peer must not be able to hide a list
//! from an operator, so text that is too long is cut and text that is not
//! UTF-8 gets replacement characters; only a message that is no message of
//! this schema is an error.

mod agents;
mod capabilities;
mod mesh;
mod sessions;

pub use agents::{AgentAnswer, AgentStatus};
pub use capabilities::{CallFacts, CapabilityFacts, CapabilityFilter, Tap, TapCost, TapFilter, Target};
pub use mesh::{Denial, InterfaceFacts, MeshStatus, MethodFacts, ReloadedPart, RevokeOutcome};
pub use sessions::{AdmissionFacts, SessionFacts};

use capnp::struct_list;
use capnp::traits::OwnedStruct;

use crate::Error;

/// Longest text of one field, in bytes; the rest is cut off.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Entries of one list; more are an error, since no page is that long.
pub const ENTRIES_MAX: u32 = 4096;

/// Reads a list, entry by entry.
///
/// # Errors
///
/// [`Error::Malformed`] when it has more than [`ENTRIES_MAX`] entries, and
/// what `read` finds.
pub fn read_list<'a, O: OwnedStruct, T>(
    from: struct_list::Reader<'a, O>,
    read: impl Fn(O::Reader<'a>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    if from.len() > ENTRIES_MAX {
        let message = format!("a list of {} entries (at most {ENTRIES_MAX})", from.len());
        return Err(capnp::Error::failed(message).into());
    }
    from.into_iter().map(read).collect()
}

/// Writes as many entries as both sides have.
pub fn write_list<'a, O: OwnedStruct, T>(
    from: &[T],
    mut to: struct_list::Builder<'a, O>,
    write: impl Fn(&T, O::Builder<'_>),
) {
    let length = to.len();
    for (index, entry) in (0..length).zip(from) {
        write(entry, to.reborrow().get(index));
    }
}

fn text(from: capnp::text::Reader<'_>) -> String {
    let bytes = from.as_bytes();
    let mut end = bytes.len().min(TEXT_BYTES_MAX);
    // Not within a character: a continuation byte is 0b10xx_xxxx.
    while end < bytes.len() && end > 0 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Hex(bytes))
}

/// Numbers that use all 64 bits do not survive in readers that take every
/// JSON number for a double.
fn as_hex_number<S: serde::Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("0x{number:016x}"))
}

/// Two digits a byte.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
