//! What the mesh knows, in the words of the schema.

use lm_mesh::{CallRecord, CallState, CapabilityFacts, Incidents, MeterFacts, Registry, Session, TapFilter};
use lm_schema::interfaces::Interface;
use lm_schema::operator as wire;
use std::sync::atomic::Ordering;

pub fn session(session: &Session) -> wire::SessionFacts {
    let (report, path, activity) = (session.report(), session.path(), session.activity());
    wire::SessionFacts {
        id: session.id,
        identity: session.principal.name.clone(),
        role: session.principal.role.name().to_owned(),
        product: session.peer.product.clone(),
        version: session.peer.version.clone(),
        hostname: session.peer.hostname.clone(),
        remote: path.remote.to_string(),
        transport: path.transport.to_owned(),
        connected_unix_ms: session.connected_unix_ms,
        last_heartbeat_unix_ms: session.last_heartbeat_unix_ms(),
        clock_skew_ms: session.clock_skew_ms(),
        queue_pending_bytes: report.queue_pending_bytes,
        queue_pending_batches: report.queue_pending_batches,
        queue_capacity_bytes: report.queue_capacity_bytes,
        dropped_items: report.dropped_items,
        bytes_received: path.bytes_received,
        bytes_sent: path.bytes_sent,
        rtt_micros: path.rtt.as_micros() as u64,
        lost_packets: path.lost_packets,
        congestion_window_bytes: path.congestion_window_bytes,
        mtu_bytes: path.mtu_bytes.into(),
        migrations: path.migrations,
        calls: activity.calls(),
        calls_in_flight: activity.in_flight(),
        calls_refused: activity.refused(),
        batches: session.batches.load(Ordering::Relaxed),
        items: session.items.load(Ordering::Relaxed),
        capability: session.grant().id(),
        capabilities: activity.capabilities(),
        admission: admission(session.meter().facts()),
    }
}

fn admission(facts: MeterFacts) -> wire::AdmissionFacts {
    wire::AdmissionFacts {
        questions: facts.questions as u32,
        exports: facts.exports as u32,
        unsent_bytes: facts.unsent_bytes,
        budget_bytes: facts.budget_bytes,
        message_bytes_in: facts.message_bytes_in,
        message_bytes_out: facts.message_bytes_out,
        messages_in: facts.messages_in,
        messages_out: facts.messages_out,
        read_pauses: facts.read_pauses,
    }
}

pub fn capability(facts: CapabilityFacts) -> wire::CapabilityFacts {
    wire::CapabilityFacts {
        id: facts.id,
        grantor: facts.grantor.unwrap_or(0),
        session: facts.session,
        holder: facts.holder.to_string(),
        interface: facts.interface.to_owned(),
        scope: facts.scope,
        granted_unix_ms: facts.granted_unix_ms,
        expires_unix_ms: facts.expires_unix_ms.unwrap_or(0),
        calls: facts.calls,
        errors: facts.errors,
        bytes_received: facts.bytes_received,
        bytes_sent: facts.bytes_sent,
        in_flight: facts.in_flight as u32,
        last_method: facts.last_method.unwrap_or("").to_owned(),
        last_use_unix_ms: facts.last_use_unix_ms.unwrap_or(0),
    }
}

/// Whether an operator's filter keeps a capability.
pub fn keeps(filter: &wire::CapabilityFilter, facts: &CapabilityFacts) -> bool {
    (filter.session == 0 || filter.session == facts.session)
        && (filter.interface.is_empty() || filter.interface.eq_ignore_ascii_case(facts.interface))
        && (filter.holder.is_empty() || *filter.holder == *facts.holder)
}

pub fn call(record: CallRecord) -> wire::CallFacts {
    let (is_in_flight, error) = match record.state {
        CallState::InFlight => (true, String::new()),
        CallState::Done => (false, String::new()),
        CallState::Failed(code) => (false, code),
    };
    wire::CallFacts {
        capability: record.capability,
        session: record.session,
        holder: record.holder.to_string(),
        interface: record.interface.to_owned(),
        method: record.method.to_owned(),
        started_unix_ms: record.started_unix_ms,
        micros: record.duration.as_micros() as u64,
        is_in_flight,
        is_waiting: record.is_waiting,
        error,
        parameter_bytes: record.parameter_bytes,
    }
}

/// `own`: the session of the tap itself, whose calls would feed it for ever.
pub fn tap_filter(filter: wire::TapFilter, own: u64) -> TapFilter {
    let set = |number: u64| (number != 0).then_some(number);
    TapFilter {
        session: set(filter.session),
        except_session: Some(own),
        capability: set(filter.capability),
        holder: filter.holder,
        interface: filter.interface,
        method: filter.method,
        errors_only: filter.errors_only,
        sample_every: filter.sample_every,
    }
}

pub fn interface(interface: &Interface) -> wire::InterfaceFacts {
    let method = |(ordinal, method): (usize, &lm_schema::interfaces::Method)| wire::MethodFacts {
        name: method.name.to_owned(),
        ordinal: ordinal as u16,
        signature: method.signature.to_owned(),
        doc: method.doc.to_owned(),
    };
    wire::InterfaceFacts {
        name: interface.name.to_owned(),
        id: interface.id,
        doc: interface.doc.to_owned(),
        methods: interface.methods.iter().enumerate().map(method).collect(),
    }
}

/// Sums over all sessions; the caller adds what is not the mesh's.
pub fn status(registry: &Registry) -> wire::MeshStatus {
    let sessions = registry.sessions();
    let Incidents { logins_refused, handshakes_refused, panics, limits_broken, calls_refused } =
        &**registry.incidents();
    let totals = registry.ledger().totals();
    wire::MeshStatus {
        sessions: sessions.len() as u32,
        capabilities: registry.ledger().len() as u32,
        calls: totals.iter().map(|method| method.calls).sum(),
        calls_in_flight: sessions.iter().map(|session| session.activity().in_flight()).sum(),
        calls_refused: calls_refused.load(Ordering::Relaxed),
        logins_refused: logins_refused.load(Ordering::Relaxed),
        handshakes_refused: handshakes_refused.load(Ordering::Relaxed),
        budget_bytes: registry.budget().used_bytes(),
        budget_bytes_max: registry.budget().total_bytes(),
        budget_waits: registry.budget().waits(),
        panics: panics.load(Ordering::Relaxed),
        sessions_ended_by_limit: limits_broken.load(Ordering::Relaxed),
        ..wire::MeshStatus::default()
    }
}
