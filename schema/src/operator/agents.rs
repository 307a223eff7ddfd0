//! What an agent says when its collector asks.

use serde::Serialize;

use super::{as_hex, text};
use crate::Error;
use crate::mesh_capnp::agent_status;
use crate::operator_capnp::agent_answer;

/// Longest digest that is shown, in bytes; ours have 32.
const DIGEST_BYTES_MAX: usize = 64;

/// An agent's own word: nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AgentStatus {
    pub version: String,
    /// Of the configuration file as it was read.
    #[serde(serialize_with = "as_hex")]
    pub config_sha256: Vec<u8>,
    pub unix_ms: i64,
    pub uptime_ms: u64,
    pub queue_pending_bytes: u64,
    pub queue_pending_batches: u64,
    pub queue_capacity_bytes: u64,
    /// Since its start, as are the next two.
    pub sent_batches: u64,
    pub dropped_items: u64,
    pub reconnects: u64,
}

/// What came of a question to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentAnswer {
    NotConnected,
    /// It handed out no capability to ask it with.
    NotAllowed,
    /// Its own words, or that it said nothing.
    Failed(String),
    Status(AgentStatus),
    /// After a flush.
    PendingBatches(u64),
}

impl AgentStatus {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: agent_status::Reader<'_>) -> Result<Self, Error> {
        let digest = from.get_config_sha256()?;
        Ok(AgentStatus {
            version: text(from.get_version()?),
            config_sha256: digest[..digest.len().min(DIGEST_BYTES_MAX)].to_vec(),
            unix_ms: from.get_unix_ms(),
            uptime_ms: from.get_uptime_ms(),
            queue_pending_bytes: from.get_queue_pending_bytes(),
            queue_pending_batches: from.get_queue_pending_batches(),
            queue_capacity_bytes: from.get_queue_capacity_bytes(),
            sent_batches: from.get_sent_batches(),
            dropped_items: from.get_dropped_items(),
            reconnects: from.get_reconnects(),
        })
    }

    pub fn write(&self, mut to: agent_status::Builder<'_>) {
        to.set_version(&self.version[..]);
        to.set_config_sha256(&self.config_sha256);
        to.set_unix_ms(self.unix_ms);
        to.set_uptime_ms(self.uptime_ms);
        to.set_queue_pending_bytes(self.queue_pending_bytes);
        to.set_queue_pending_batches(self.queue_pending_batches);
        to.set_queue_capacity_bytes(self.queue_capacity_bytes);
        to.set_sent_batches(self.sent_batches);
        to.set_dropped_items(self.dropped_items);
        to.set_reconnects(self.reconnects);
    }
}

impl AgentAnswer {
    /// # Errors
    ///
    /// [`Error::Malformed`], also for an answer that is not known.
    pub fn read(from: agent_answer::Reader<'_>) -> Result<Self, Error> {
        Ok(match from.which().map_err(capnp::Error::from)? {
            agent_answer::NotConnected(()) => AgentAnswer::NotConnected,
            agent_answer::NotAllowed(()) => AgentAnswer::NotAllowed,
            agent_answer::Failed(said) => AgentAnswer::Failed(text(said?)),
            agent_answer::Status(status) => AgentAnswer::Status(AgentStatus::read(status?)?),
            agent_answer::PendingBatches(batches) => AgentAnswer::PendingBatches(batches),
        })
    }

    pub fn write(&self, mut to: agent_answer::Builder<'_>) {
        match self {
            AgentAnswer::NotConnected => to.set_not_connected(()),
            AgentAnswer::NotAllowed => to.set_not_allowed(()),
            AgentAnswer::Failed(said) => to.set_failed(&said[..]),
            AgentAnswer::Status(status) => status.write(to.init_status()),
            AgentAnswer::PendingBatches(batches) => to.set_pending_batches(*batches),
        }
    }
}
