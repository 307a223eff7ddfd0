//! Who is connected.

use serde::Serialize;

use super::text;
use crate::Error;
use crate::operator_capnp::{admission_facts, session_facts};

/// One session, as the collector sees it. `0` in a time means never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionFacts {
    pub id: u64,
    pub identity: String,
    pub role: String,
    pub product: String,
    pub version: String,
    pub hostname: String,
    /// Address and port, the path in use.
    pub remote: String,
    /// `quic`, `tcp` or `unix`.
    pub transport: String,
    pub connected_unix_ms: i64,
    pub last_heartbeat_unix_ms: i64,
    /// Peer minus collector, at the last heartbeat.
    pub clock_skew_ms: i64,
    pub queue_pending_bytes: u64,
    pub queue_pending_batches: u64,
    pub queue_capacity_bytes: u64,
    pub dropped_items: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub rtt_micros: u64,
    pub lost_packets: u64,
    pub congestion_window_bytes: u64,
    pub mtu_bytes: u32,
    pub migrations: u32,
    pub calls: u64,
    pub calls_in_flight: u32,
    /// Answered `overloaded:`.
    pub calls_refused: u64,
    pub batches: u64,
    pub items: u64,
    /// The root of what the session holds.
    pub capability: u64,
    pub capabilities: u32,
    pub admission: AdmissionFacts,
}

/// What the RPC connections of a session hold at the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AdmissionFacts {
    pub questions: u32,
    pub exports: u32,
    pub unsent_bytes: u64,
    /// Of the ingest budget.
    pub budget_bytes: u64,
    pub message_bytes_in: u64,
    pub message_bytes_out: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub read_pauses: u64,
}

impl SessionFacts {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: session_facts::Reader<'_>) -> Result<Self, Error> {
        Ok(SessionFacts {
            id: from.get_id(),
            identity: text(from.get_identity()?),
            role: text(from.get_role()?),
            product: text(from.get_product()?),
            version: text(from.get_version()?),
            hostname: text(from.get_hostname()?),
            remote: text(from.get_remote()?),
            transport: text(from.get_transport()?),
            connected_unix_ms: from.get_connected_unix_ms(),
            last_heartbeat_unix_ms: from.get_last_heartbeat_unix_ms(),
            clock_skew_ms: from.get_clock_skew_ms(),
            queue_pending_bytes: from.get_queue_pending_bytes(),
            queue_pending_batches: from.get_queue_pending_batches(),
            queue_capacity_bytes: from.get_queue_capacity_bytes(),
            dropped_items: from.get_dropped_items(),
            bytes_received: from.get_bytes_received(),
            bytes_sent: from.get_bytes_sent(),
            rtt_micros: from.get_rtt_micros(),
            lost_packets: from.get_lost_packets(),
            congestion_window_bytes: from.get_congestion_window_bytes(),
            mtu_bytes: from.get_mtu_bytes(),
            migrations: from.get_migrations(),
            calls: from.get_calls(),
            calls_in_flight: from.get_calls_in_flight(),
            calls_refused: from.get_calls_refused(),
            batches: from.get_batches(),
            items: from.get_items(),
            capability: from.get_capability(),
            capabilities: from.get_capabilities(),
            admission: AdmissionFacts::read(from.get_admission()?),
        })
    }

    pub fn write(&self, mut to: session_facts::Builder<'_>) {
        to.set_id(self.id);
        to.set_identity(&self.identity[..]);
        to.set_role(&self.role[..]);
        to.set_product(&self.product[..]);
        to.set_version(&self.version[..]);
        to.set_hostname(&self.hostname[..]);
        to.set_remote(&self.remote[..]);
        to.set_transport(&self.transport[..]);
        to.set_connected_unix_ms(self.connected_unix_ms);
        to.set_last_heartbeat_unix_ms(self.last_heartbeat_unix_ms);
        to.set_clock_skew_ms(self.clock_skew_ms);
        to.set_queue_pending_bytes(self.queue_pending_bytes);
        to.set_queue_pending_batches(self.queue_pending_batches);
        to.set_queue_capacity_bytes(self.queue_capacity_bytes);
        to.set_dropped_items(self.dropped_items);
        to.set_bytes_received(self.bytes_received);
        to.set_bytes_sent(self.bytes_sent);
        to.set_rtt_micros(self.rtt_micros);
        to.set_lost_packets(self.lost_packets);
        to.set_congestion_window_bytes(self.congestion_window_bytes);
        to.set_mtu_bytes(self.mtu_bytes);
        to.set_migrations(self.migrations);
        to.set_calls(self.calls);
        to.set_calls_in_flight(self.calls_in_flight);
        to.set_calls_refused(self.calls_refused);
        to.set_batches(self.batches);
        to.set_items(self.items);
        to.set_capability(self.capability);
        to.set_capabilities(self.capabilities);
        self.admission.write(to.init_admission());
    }
}

impl AdmissionFacts {
    pub fn read(from: admission_facts::Reader<'_>) -> Self {
        AdmissionFacts {
            questions: from.get_questions(),
            exports: from.get_exports(),
            unsent_bytes: from.get_unsent_bytes(),
            budget_bytes: from.get_budget_bytes(),
            message_bytes_in: from.get_message_bytes_in(),
            message_bytes_out: from.get_message_bytes_out(),
            messages_in: from.get_messages_in(),
            messages_out: from.get_messages_out(),
            read_pauses: from.get_read_pauses(),
        }
    }

    pub fn write(&self, mut to: admission_facts::Builder<'_>) {
        to.set_questions(self.questions);
        to.set_exports(self.exports);
        to.set_unsent_bytes(self.unsent_bytes);
        to.set_budget_bytes(self.budget_bytes);
        to.set_message_bytes_in(self.message_bytes_in);
        to.set_message_bytes_out(self.message_bytes_out);
        to.set_messages_in(self.messages_in);
        to.set_messages_out(self.messages_out);
        to.set_read_pauses(self.read_pauses);
    }
}
