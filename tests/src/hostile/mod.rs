//! A peer that lies: everything that the product's client would never send.
//!
//! [`wire`] makes RPC messages word by word and frames them by hand, so that
//! each number in them may be a lie. [`Attacker`] opens real connections with
//! the product's ALPN and CA and speaks [`wire`] on them; [`initial`] forges
//! the first packets of handshakes. [`siege()`] runs an attack against a real
//! collector while an honest agent measures what it notices, and [`fuzz`] lets
//! bytes choose the attack.

mod honest;
pub mod initial;
mod peer;
mod siege;
pub mod wire;

pub use honest::Honest;
pub use peer::{Answer, Attacker, Channel, Ended, Peer, Transport, client_config};
pub use siege::{Bounds, Siege, siege};
