//! Every field gets a value of its own, so that a field that is forgotten or
//! swapped on the way shows.

use super::*;
use crate::operator_capnp::{call_facts, capability_facts, interface_facts, mesh_status, session_facts};
use crate::operator_capnp::{capability_filter, denial, reloaded_part, revoke_outcome, tap_filter, target};

/// Writes, reads again, and compares.
macro_rules! there_and_back {
    ($module:ident, $type:ident, $facts:expr) => {{
        let facts: $type = $facts;
        let mut message = capnp::message::Builder::new_default();
        facts.write(message.init_root::<$module::Builder<'_>>());
        let read = $type::read(message.get_root_as_reader().unwrap()).unwrap();
        assert_eq!(read, facts);
    }};
}

fn session() -> SessionFacts {
    SessionFacts {
        id: 1,
        identity: "identity".to_owned(),
        role: "role".to_owned(),
        product: "product".to_owned(),
        version: "version".to_owned(),
        hostname: "hostname".to_owned(),
        remote: "remote".to_owned(),
        transport: "transport".to_owned(),
        connected_unix_ms: 2,
        last_heartbeat_unix_ms: 3,
        clock_skew_ms: -4,
        queue_pending_bytes: 5,
        queue_pending_batches: 6,
        queue_capacity_bytes: 7,
        dropped_items: 8,
        bytes_received: 9,
        bytes_sent: 10,
        rtt_micros: 11,
        lost_packets: 12,
        congestion_window_bytes: 13,
        mtu_bytes: 14,
        migrations: 15,
        calls: 16,
        calls_in_flight: 17,
        calls_refused: 18,
        batches: 19,
        items: 20,
        capability: 21,
        capabilities: 22,
        admission: AdmissionFacts {
            questions: 23,
            exports: 24,
            unsent_bytes: 25,
            budget_bytes: 26,
            message_bytes_in: 27,
            message_bytes_out: 28,
            messages_in: 29,
            messages_out: 30,
            read_pauses: 31,
        },
    }
}

#[test]
fn every_field_survives_the_wire() {
    there_and_back!(session_facts, SessionFacts, session());
    there_and_back!(
        capability_facts,
        CapabilityFacts,
        CapabilityFacts {
            id: 1,
            grantor: 2,
            session: 3,
            holder: "holder".to_owned(),
            interface: "interface".to_owned(),
            scope: "scope".to_owned(),
            granted_unix_ms: 4,
            expires_unix_ms: 5,
            calls: 6,
            errors: 7,
            bytes_received: 8,
            bytes_sent: 9,
            in_flight: 10,
            last_method: "method".to_owned(),
            last_use_unix_ms: 11,
        }
    );
    there_and_back!(
        call_facts,
        CallFacts,
        CallFacts {
            capability: 1,
            session: 2,
            holder: "holder".to_owned(),
            interface: "interface".to_owned(),
            method: "method".to_owned(),
            started_unix_ms: 3,
            micros: 4,
            is_in_flight: true,
            is_waiting: false,
            error: "quota".to_owned(),
            parameter_bytes: 5,
        }
    );
    there_and_back!(
        mesh_status,
        MeshStatus,
        MeshStatus {
            version: "version".to_owned(),
            cluster_id: vec![1, 2, 3],
            unix_ms: 4,
            uptime_ms: 5,
            sessions: 6,
            capabilities: 7,
            calls: 8,
            calls_in_flight: 9,
            calls_refused: 10,
            sessions_ended_by_limit: 11,
            panics: 12,
            budget_bytes: 13,
            budget_bytes_max: 14,
            budget_waits: 15,
            logins_refused: 16,
            handshakes_refused: 17,
            denials: 18,
        }
    );
    there_and_back!(
        denial,
        Denial,
        Denial { identity: "a".to_owned(), reason: "b".to_owned(), by: "c".to_owned(), unix_ms: 1 }
    );
    there_and_back!(
        reloaded_part,
        ReloadedPart,
        ReloadedPart { name: "a".to_owned(), error: "b".to_owned(), changes: "c".to_owned() }
    );
    there_and_back!(
        capability_filter,
        CapabilityFilter,
        CapabilityFilter { session: 1, interface: "a".to_owned(), holder: "b".to_owned() }
    );
    there_and_back!(
        tap_filter,
        TapFilter,
        TapFilter {
            session: 1,
            capability: 2,
            holder: "a".to_owned(),
            interface: "b".to_owned(),
            method: "c".to_owned(),
            errors_only: true,
            sample_every: 3,
        }
    );
    for was_found in [false, true] {
        there_and_back!(
            revoke_outcome,
            RevokeOutcome,
            RevokeOutcome { was_found, capabilities: 1, sessions: 2 }
        );
    }
    for to in [Target::Session(7), Target::Capability(8)] {
        there_and_back!(target, Target, to);
    }
    for interface in crate::interfaces::INTERFACES {
        there_and_back!(interface_facts, InterfaceFacts, InterfaceFacts::from(interface));
    }
}

#[test]
fn a_peer_cannot_hide_a_list() {
    let mut message = capnp::message::Builder::new_default();
    let mut to = message.init_root::<session_facts::Builder<'_>>();
    // Three bytes a character: the bound falls within one.
    to.set_hostname(&"\u{20ac}".repeat(TEXT_BYTES_MAX)[..]);
    to.set_product(capnp::text::Reader(b"lm\xff\x1b[2Jagent"));
    let facts = SessionFacts::read(message.get_root_as_reader().unwrap()).unwrap();
    assert_eq!(facts.hostname, "\u{20ac}".repeat(TEXT_BYTES_MAX / 3));
    assert_eq!(facts.product, "lm\u{fffd}\x1b[2Jagent", "kept as it is: the printer escapes");
}

#[test]
fn a_list_has_a_bound() {
    let mut message = capnp::message::Builder::new_default();
    message.init_root::<interface_facts::Builder<'_>>().init_methods(ENTRIES_MAX + 1);
    let read = InterfaceFacts::read(message.get_root_as_reader().unwrap());
    assert!(read.unwrap_err().to_string().contains("4097 entries"));
}

#[test]
fn json_has_the_names_of_the_documentation() {
    let json = serde_json::to_value(session()).unwrap();
    assert_eq!((&json["id"], &json["clock_skew_ms"]), (&1.into(), &(-4).into()));
    assert_eq!(json["admission"]["read_pauses"], 31);
    let status = MeshStatus { cluster_id: vec![0, 0xab], ..MeshStatus::default() };
    assert_eq!(serde_json::to_value(status).unwrap()["cluster_id"], "00ab");
    let facts = InterfaceFacts { id: u64::MAX, ..InterfaceFacts::default() };
    assert_eq!(serde_json::to_value(facts).unwrap()["id"], "0xffffffffffffffff");
}
