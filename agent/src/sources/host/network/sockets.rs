//! Lines of `/proc/net/tcp`, `tcp6`, `udp` and `udp6`: one for each socket.

use crate::sources::host::read::{Malformed, hexadecimal, lines, words};

/// What a line says of a socket.
pub struct Socket {
    /// Of TCP: the kernel's number of the state.
    pub state: u64,
    /// Bytes that wait to be sent.
    pub transmit_queue: u64,
    /// Bytes that wait to be read; of a listening socket, connections that wait.
    pub receive_queue: u64,
}

/// Gives each socket of a file. The first line names the columns:
/// `sl local_address rem_address st tx_queue:rx_queue ...`.
pub fn each_socket(bytes: &[u8], mut give: impl FnMut(Socket)) -> Result<(), Malformed> {
    for (line, text) in lines(bytes)?.skip(1) {
        give(parse_socket(text).ok_or(Malformed { line, reason: "is not a socket" })?);
    }
    Ok(())
}

fn parse_socket(text: &[u8]) -> Option<Socket> {
    let mut words = words(text).skip(3);
    let state = hexadecimal(words.next()?)?;
    let queues = words.next()?;
    let colon = queues.iter().position(|byte| *byte == b':')?;
    let (transmit, receive) = (hexadecimal(&queues[..colon])?, hexadecimal(&queues[colon + 1..])?);
    Some(Socket { state, transmit_queue: transmit, receive_queue: receive })
}
