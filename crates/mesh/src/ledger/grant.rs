//! A capability as the code behind it holds it.

use std::sync::Arc;
use std::time::Instant;

use lm_schema::interfaces::Interface;

use super::Ledger;
use super::entry::{Entry, Terms, Verdict};

/// One granted capability. Holding a `Grant` lets code check whether it still
/// stands and derive others from it; it keeps nothing alive at the peer.
#[derive(Clone)]
pub struct Grant {
    pub(super) entry: Arc<Entry>,
    pub(super) ledger: Ledger,
}

impl Grant {
    /// The number under which an operator finds and revokes it.
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// The session that it was granted in.
    pub fn session(&self) -> u64 {
        self.entry.session
    }

    pub fn holder(&self) -> &Arc<str> {
        &self.entry.holder
    }

    /// Whether it still stands: call before anything that must not happen
    /// after a revocation, and once more before a commit.
    ///
    /// # Errors
    ///
    /// What the peer is to be told, its stable code first.
    pub fn check(&self) -> Result<(), capnp::Error> {
        if self.entry.cut.is_cancelled() {
            return Err(self.ended());
        }
        match self.entry.expires {
            Some(expires) if expires <= Instant::now() => {
                Err(capnp::Error::failed("expired: the capability was granted for a limited time".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Why it ended.
    pub fn verdict(&self) -> Option<Verdict> {
        self.entry.verdict().cloned()
    }

    /// Waits until it is revoked, or its session ends.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn revoked(&self) {
        self.entry.cut.cancelled().await;
    }

    pub(super) fn ended(&self) -> capnp::Error {
        match self.entry.verdict() {
            Some(Verdict { code, reason }) => capnp::Error::failed(format!("{code}: {reason}")),
            None => capnp::Error::disconnected("the session has ended".to_owned()),
        }
    }

    /// A new entry below this one.
    pub(super) fn below(&self, interface: &'static Interface, terms: Terms) -> Grant {
        let entry = self.ledger.enter(
            Some(self.entry.clone()),
            self.entry.session,
            Some(interface),
            terms,
            self.entry.cut.child_token(),
            self.entry.activity.clone(),
        );
        Grant { entry, ledger: self.ledger.clone() }
    }
}

/// A session's root entry; dropping it ends the session's capabilities.
pub struct Root(pub(crate) Grant);

impl Root {
    /// The root itself, to derive from.
    pub fn grant(&self) -> &Grant {
        &self.0
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.0.ledger.end_session(&self.0.entry);
    }
}
