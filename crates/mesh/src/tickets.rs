//! Single-use tickets: how a grant on control reaches another stream of the
//! same connection, since capabilities do not cross RPC systems.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use lm_schema::mesh_capnp;

/// What a ticket is good for.
#[derive(Clone)]
pub enum Attachment {
    Sink(mesh_capnp::batch_sink::Client),
    Users(mesh_capnp::user_gate::Client),
    /// As `Users`, on a stream for what users write.
    Writers(mesh_capnp::user_gate::Client),
}

const TICKET_LIFETIME: Duration = Duration::from_secs(10);
/// Tickets of one connection that may be outstanding.
const TICKETS_MAX: usize = 4;
const TICKET_BYTES: usize = 16;

/// The outstanding tickets of one connection.
#[derive(Default)]
pub struct Tickets {
    outstanding: RefCell<Vec<(Vec<u8>, Instant, Attachment)>>,
}

impl Tickets {
    /// A new ticket for `attachment`; the oldest goes when there are too many.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn issue(&self, attachment: Attachment) -> Result<Vec<u8>, capnp::Error> {
        let mut ticket = vec![0; TICKET_BYTES];
        getrandom::fill(&mut ticket)
            .map_err(|error| capnp::Error::failed(format!("internal: no random bytes: {error}")))?;
        let mut outstanding = self.outstanding.borrow_mut();
        if outstanding.len() == TICKETS_MAX {
            outstanding.remove(0);
        }
        outstanding.push((ticket.clone(), Instant::now() + TICKET_LIFETIME, attachment));
        Ok(ticket)
    }

    /// Voids them all. What they are for knows its peer, and the peer its
    /// tickets: a session that ends must not leave that circle behind.
    pub(crate) fn clear(&self) {
        self.outstanding.take();
    }

    /// Takes what the ticket is for; a second try finds nothing.
    pub fn redeem(&self, ticket: &[u8]) -> Option<Attachment> {
        use subtle::ConstantTimeEq;
        let mut outstanding = self.outstanding.borrow_mut();
        let now = Instant::now();
        outstanding.retain(|(_, deadline, _)| now < *deadline);
        let at = outstanding.iter().position(|(known, ..)| bool::from(known[..].ct_eq(ticket)))?;
        let found = outstanding.remove(at).2;
        // Most sessions never need another.
        outstanding.shrink_to_fit();
        Some(found)
    }
}
