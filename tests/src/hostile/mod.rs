//! A peer that lies: everything that the product's client would never send.
//!
//! [`wire`] makes RPC messages word by word and frames them by hand, so that
//! each number in them may be a lie. [`Attacker`] opens real connections with
//! the product's ALPN and CA and speaks [`wire`] on them; [`initial`] forges
//! the first packets of handshakes. [`siege()`] runs an attack against a real
//! collector while an honest agent measures what it notices, and [`fuzz`] lets
//! bytes choose the attack.

pub mod fuzz;
mod honest;
pub mod initial;
mod peer;
mod siege;
mod status;
pub mod wire;

pub use honest::Honest;
pub use peer::{Answer, Attacker, Channel, Ended, Peer, Transport, client_config};
pub use siege::{Bounds, Siege, alone, siege};
pub use status::Status;

use crate::System;

/// Keeps the collector's files in memory where that is possible, until the
/// guard is dropped: its disk is not what is attacked, and a disk's moods
/// would hide what is.
fn keep_in_memory(system: &mut System) -> Option<tempfile::TempDir> {
    let memory = tempfile::tempdir_in("/dev/shm").ok()?;
    system.collector_config.set_path("storage.dir", &memory.path().join("collector"));
    system.write_configs();
    Some(memory)
}
