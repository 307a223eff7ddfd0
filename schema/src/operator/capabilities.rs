//! What peers may do, and what they do with it.

use serde::Serialize;

use super::{read_list, text};
use crate::Error;
use crate::operator_capnp::{
    call_facts, capability_facts, capability_filter, tap, tap_cost, tap_filter, target,
};

/// What `revoke` ends, with everything that was derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Session(u64),
    Capability(u64),
}

/// Which capabilities to list. `0` and empty text mean any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapabilityFilter {
    pub session: u64,
    pub interface: String,
    pub holder: String,
}

/// One entry of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CapabilityFacts {
    pub id: u64,
    /// The capability it was derived from; 0: a session's root.
    pub grantor: u64,
    pub session: u64,
    pub holder: String,
    pub interface: String,
    pub scope: String,
    pub granted_unix_ms: i64,
    /// 0: with its session.
    pub expires_unix_ms: i64,
    pub calls: u64,
    pub errors: u64,
    /// Of the messages that its calls came in.
    pub bytes_received: u64,
    /// Of results.
    pub bytes_sent: u64,
    pub in_flight: u32,
    pub last_method: String,
    /// 0: never.
    pub last_use_unix_ms: i64,
}

/// One call, under way or finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallFacts {
    pub capability: u64,
    pub session: u64,
    pub holder: String,
    pub interface: String,
    pub method: String,
    pub started_unix_ms: i64,
    /// So far, or in all.
    pub micros: u64,
    pub is_in_flight: bool,
    /// A long poll: slow on purpose.
    pub is_waiting: bool,
    /// The stable code; empty: fine.
    pub error: String,
    pub parameter_bytes: u64,
}

/// Which calls a tap shows. `0` and empty text mean any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapFilter {
    pub session: u64,
    pub capability: u64,
    pub holder: String,
    pub interface: String,
    pub method: String,
    pub errors_only: bool,
    /// 0 and 1: every call.
    pub sample_every: u32,
}

/// What a tap costs the calls that it looks at, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapCost {
    pub seen: u64,
    pub matched: u64,
    /// Processor time.
    pub nanos: u64,
}

/// One answer of a tap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tap {
    pub calls: Vec<CallFacts>,
    /// Calls that matched and came too fast, since the answer before.
    pub missed: u64,
    pub cost: TapCost,
}

impl Target {
    /// # Errors
    ///
    /// [`Error::Malformed`], also for a kind of target that is not known here.
    pub fn read(from: target::Reader<'_>) -> Result<Self, Error> {
        Ok(match from.which()? {
            target::Session(id) => Target::Session(id),
            target::Capability(id) => Target::Capability(id),
        })
    }

    pub fn write(self, mut to: target::Builder<'_>) {
        match self {
            Target::Session(id) => to.set_session(id),
            Target::Capability(id) => to.set_capability(id),
        }
    }
}

impl CapabilityFilter {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: capability_filter::Reader<'_>) -> Result<Self, Error> {
        Ok(CapabilityFilter {
            session: from.get_session(),
            interface: text(from.get_interface()?),
            holder: text(from.get_holder()?),
        })
    }

    pub fn write(&self, mut to: capability_filter::Builder<'_>) {
        to.set_session(self.session);
        to.set_interface(&self.interface[..]);
        to.set_holder(&self.holder[..]);
    }
}

impl CapabilityFacts {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: capability_facts::Reader<'_>) -> Result<Self, Error> {
        Ok(CapabilityFacts {
            id: from.get_id(),
            grantor: from.get_grantor(),
            session: from.get_session(),
            holder: text(from.get_holder()?),
            interface: text(from.get_interface()?),
            scope: text(from.get_scope()?),
            granted_unix_ms: from.get_granted_unix_ms(),
            expires_unix_ms: from.get_expires_unix_ms(),
            calls: from.get_calls(),
            errors: from.get_errors(),
            bytes_received: from.get_bytes_received(),
            bytes_sent: from.get_bytes_sent(),
            in_flight: from.get_in_flight(),
            last_method: text(from.get_last_method()?),
            last_use_unix_ms: from.get_last_use_unix_ms(),
        })
    }

    pub fn write(&self, mut to: capability_facts::Builder<'_>) {
        to.set_id(self.id);
        to.set_grantor(self.grantor);
        to.set_session(self.session);
        to.set_holder(&self.holder[..]);
        to.set_interface(&self.interface[..]);
        to.set_scope(&self.scope[..]);
        to.set_granted_unix_ms(self.granted_unix_ms);
        to.set_expires_unix_ms(self.expires_unix_ms);
        to.set_calls(self.calls);
        to.set_errors(self.errors);
        to.set_bytes_received(self.bytes_received);
        to.set_bytes_sent(self.bytes_sent);
        to.set_in_flight(self.in_flight);
        to.set_last_method(&self.last_method[..]);
        to.set_last_use_unix_ms(self.last_use_unix_ms);
    }
}

impl CallFacts {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: call_facts::Reader<'_>) -> Result<Self, Error> {
        Ok(CallFacts {
            capability: from.get_capability(),
            session: from.get_session(),
            holder: text(from.get_holder()?),
            interface: text(from.get_interface()?),
            method: text(from.get_method()?),
            started_unix_ms: from.get_started_unix_ms(),
            micros: from.get_micros(),
            is_in_flight: from.get_is_in_flight(),
            is_waiting: from.get_is_waiting(),
            error: text(from.get_error()?),
            parameter_bytes: from.get_parameter_bytes(),
        })
    }

    pub fn write(&self, mut to: call_facts::Builder<'_>) {
        to.set_capability(self.capability);
        to.set_session(self.session);
        to.set_holder(&self.holder[..]);
        to.set_interface(&self.interface[..]);
        to.set_method(&self.method[..]);
        to.set_started_unix_ms(self.started_unix_ms);
        to.set_micros(self.micros);
        to.set_is_in_flight(self.is_in_flight);
        to.set_is_waiting(self.is_waiting);
        to.set_error(&self.error[..]);
        to.set_parameter_bytes(self.parameter_bytes);
    }
}

impl TapFilter {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: tap_filter::Reader<'_>) -> Result<Self, Error> {
        Ok(TapFilter {
            session: from.get_session(),
            capability: from.get_capability(),
            holder: text(from.get_holder()?),
            interface: text(from.get_interface()?),
            method: text(from.get_method()?),
            errors_only: from.get_errors_only(),
            sample_every: from.get_sample_every(),
        })
    }

    pub fn write(&self, mut to: tap_filter::Builder<'_>) {
        to.set_session(self.session);
        to.set_capability(self.capability);
        to.set_holder(&self.holder[..]);
        to.set_interface(&self.interface[..]);
        to.set_method(&self.method[..]);
        to.set_errors_only(self.errors_only);
        to.set_sample_every(self.sample_every);
    }
}

impl TapCost {
    pub fn read(from: tap_cost::Reader<'_>) -> Self {
        TapCost { seen: from.get_seen(), matched: from.get_matched(), nanos: from.get_nanos() }
    }

    pub fn write(&self, mut to: tap_cost::Builder<'_>) {
        to.set_seen(self.seen);
        to.set_matched(self.matched);
        to.set_nanos(self.nanos);
    }
}

impl Tap {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: tap::next_results::Reader<'_>) -> Result<Self, Error> {
        Ok(Tap {
            calls: read_list(from.get_calls()?, CallFacts::read)?,
            missed: from.get_missed(),
            cost: TapCost::read(from.get_cost()?),
        })
    }
}
