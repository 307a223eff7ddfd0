//! The mesh as a whole: who is kept out, what was reloaded, how it fares.

use serde::Serialize;

use super::{as_hex, as_hex_number, read_list, text, write_list};
use crate::Error;
use crate::interfaces::Interface;
use crate::operator_capnp::{
    denial, interface_facts, mesh_status, method_facts, reloaded_part, revoke_outcome,
};

/// Longest id of a cluster that is shown, in bytes; ours have 16.
const CLUSTER_ID_BYTES_MAX: usize = 64;

/// What a revocation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RevokeOutcome {
    /// False: there is nothing by that number.
    pub was_found: bool,
    pub capabilities: u32,
    pub sessions: u32,
}

/// An identity that may not log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Denial {
    pub identity: String,
    pub reason: String,
    /// Who said so.
    pub by: String,
    pub unix_ms: i64,
}

/// What became of one part at a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadedPart {
    pub name: String,
    /// Empty: in force.
    pub error: String,
    pub changes: String,
}

/// An interface of the schema that the collector speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterfaceFacts {
    pub name: String,
    #[serde(serialize_with = "as_hex_number")]
    pub id: u64,
    pub doc: String,
    pub methods: Vec<MethodFacts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MethodFacts {
    pub name: String,
    pub ordinal: u16,
    pub signature: String,
    pub doc: String,
}

/// Totals of a collector's mesh since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeshStatus {
    pub version: String,
    #[serde(serialize_with = "as_hex")]
    pub cluster_id: Vec<u8>,
    pub unix_ms: i64,
    pub uptime_ms: u64,
    pub sessions: u32,
    pub capabilities: u32,
    pub calls: u64,
    pub calls_in_flight: u32,
    pub calls_refused: u64,
    pub sessions_ended_by_limit: u64,
    pub panics: u64,
    /// Of the ingest budget, in use.
    pub budget_bytes: u64,
    pub budget_bytes_max: u64,
    pub budget_waits: u64,
    pub logins_refused: u64,
    pub handshakes_refused: u64,
    pub denials: u32,
}

impl RevokeOutcome {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: revoke_outcome::Reader<'_>) -> Result<Self, Error> {
        Ok(RevokeOutcome {
            was_found: match from.which()? {
                revoke_outcome::NotFound(()) => false,
                revoke_outcome::Done(()) => true,
            },
            capabilities: from.get_capabilities(),
            sessions: from.get_sessions(),
        })
    }

    pub fn write(&self, mut to: revoke_outcome::Builder<'_>) {
        match self.was_found {
            false => to.set_not_found(()),
            true => to.set_done(()),
        }
        to.set_capabilities(self.capabilities);
        to.set_sessions(self.sessions);
    }
}

impl Denial {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: denial::Reader<'_>) -> Result<Self, Error> {
        Ok(Denial {
            identity: text(from.get_identity()?),
            reason: text(from.get_reason()?),
            by: text(from.get_by()?),
            unix_ms: from.get_unix_ms(),
        })
    }

    pub fn write(&self, mut to: denial::Builder<'_>) {
        to.set_identity(&self.identity[..]);
        to.set_reason(&self.reason[..]);
        to.set_by(&self.by[..]);
        to.set_unix_ms(self.unix_ms);
    }
}

impl ReloadedPart {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: reloaded_part::Reader<'_>) -> Result<Self, Error> {
        Ok(ReloadedPart {
            name: text(from.get_name()?),
            error: text(from.get_error()?),
            changes: text(from.get_changes()?),
        })
    }

    pub fn write(&self, mut to: reloaded_part::Builder<'_>) {
        to.set_name(&self.name[..]);
        to.set_error(&self.error[..]);
        to.set_changes(&self.changes[..]);
    }
}

impl InterfaceFacts {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: interface_facts::Reader<'_>) -> Result<Self, Error> {
        Ok(InterfaceFacts {
            name: text(from.get_name()?),
            id: from.get_id(),
            doc: text(from.get_doc()?),
            methods: read_list(from.get_methods()?, MethodFacts::read)?,
        })
    }

    pub fn write(&self, mut to: interface_facts::Builder<'_>) {
        to.set_name(&self.name[..]);
        to.set_id(self.id);
        to.set_doc(&self.doc[..]);
        write_list(&self.methods, to.init_methods(self.methods.len() as u32), MethodFacts::write);
    }
}

impl From<&Interface> for InterfaceFacts {
    fn from(from: &Interface) -> Self {
        let methods = from.methods.iter().zip(0..).map(|(method, ordinal)| MethodFacts {
            name: method.name.to_owned(),
            ordinal,
            signature: method.signature.to_owned(),
            doc: method.doc.to_owned(),
        });
        InterfaceFacts {
            name: from.name.to_owned(),
            id: from.id,
            doc: from.doc.to_owned(),
            methods: methods.collect(),
        }
    }
}

impl MethodFacts {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: method_facts::Reader<'_>) -> Result<Self, Error> {
        Ok(MethodFacts {
            name: text(from.get_name()?),
            ordinal: from.get_ordinal(),
            signature: text(from.get_signature()?),
            doc: text(from.get_doc()?),
        })
    }

    pub fn write(&self, mut to: method_facts::Builder<'_>) {
        to.set_name(&self.name[..]);
        to.set_ordinal(self.ordinal);
        to.set_signature(&self.signature[..]);
        to.set_doc(&self.doc[..]);
    }
}

impl MeshStatus {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn read(from: mesh_status::Reader<'_>) -> Result<Self, Error> {
        let cluster_id = from.get_cluster_id()?;
        Ok(MeshStatus {
            version: text(from.get_version()?),
            cluster_id: cluster_id[..cluster_id.len().min(CLUSTER_ID_BYTES_MAX)].to_vec(),
            unix_ms: from.get_unix_ms(),
            uptime_ms: from.get_uptime_ms(),
            sessions: from.get_sessions(),
            capabilities: from.get_capabilities(),
            calls: from.get_calls(),
            calls_in_flight: from.get_calls_in_flight(),
            calls_refused: from.get_calls_refused(),
            sessions_ended_by_limit: from.get_sessions_ended_by_limit(),
            panics: from.get_panics(),
            budget_bytes: from.get_budget_bytes(),
            budget_bytes_max: from.get_budget_bytes_max(),
            budget_waits: from.get_budget_waits(),
            logins_refused: from.get_logins_refused(),
            handshakes_refused: from.get_handshakes_refused(),
            denials: from.get_denials(),
        })
    }

    pub fn write(&self, mut to: mesh_status::Builder<'_>) {
        to.set_version(&self.version[..]);
        to.set_cluster_id(&self.cluster_id);
        to.set_unix_ms(self.unix_ms);
        to.set_uptime_ms(self.uptime_ms);
        to.set_sessions(self.sessions);
        to.set_capabilities(self.capabilities);
        to.set_calls(self.calls);
        to.set_calls_in_flight(self.calls_in_flight);
        to.set_calls_refused(self.calls_refused);
        to.set_sessions_ended_by_limit(self.sessions_ended_by_limit);
        to.set_panics(self.panics);
        to.set_budget_bytes(self.budget_bytes);
        to.set_budget_bytes_max(self.budget_bytes_max);
        to.set_budget_waits(self.budget_waits);
        to.set_logins_refused(self.logins_refused);
        to.set_handshakes_refused(self.handshakes_refused);
        to.set_denials(self.denials);
    }
}
