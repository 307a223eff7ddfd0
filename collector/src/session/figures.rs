//! The mesh in figures: bounded by roles, transports and the schema, never by
//! how many peers there are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lm_mesh::Registry;
use lm_telemetry::Figure;

use crate::state::Denials;

/// Adds the figures of all sessions and capabilities.
pub fn figures(registry: &Registry, denials: &Denials, to: &mut Vec<Figure>) {
    let mut sessions: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let (mut in_flight, mut round_trips) = (0, Vec::new());
    for session in registry.sessions() {
        let path = session.path();
        *sessions.entry((session.principal.role.name(), path.transport)).or_default() += 1;
        if path.transport == "quic" {
            round_trips.push(path.rtt);
        }
        in_flight += session.activity().in_flight();
    }
    quic(registry, &round_trips, to);
    for ((role, transport), count) in sessions {
        let figure = Figure::new("lmcollector_rpc_sessions", "Sessions that are open.", count.into());
        to.push(figure.with("role", role).with("transport", transport));
    }
    for (interface, count) in registry.ledger().count_by_interface() {
        let figure =
            Figure::new("lmcollector_rpc_capabilities", "Capabilities that are granted.", count as f64);
        to.push(figure.with("interface", interface));
    }
    for method in registry.ledger().totals() {
        let of_method =
            |figure: Figure| figure.with("interface", method.interface).with("method", method.method);
        let ok = method.calls.saturating_sub(method.errors);
        for (outcome, calls) in [("ok", ok), ("error", method.errors)] {
            let help = "Calls that were let in and answered.";
            let figure = Figure::new("lmcollector_rpc_calls_total", help, calls as f64);
            to.push(of_method(figure).with("outcome", outcome));
        }
        let (name, help) = ("lmcollector_rpc_call_duration_seconds", "From the guard to the answer.");
        to.push(of_method(Figure::histogram(name, help, method.durations)));
    }
    let budget = registry.budget();
    to.extend([
        Figure::new(
            "lmcollector_ingest_budget_bytes",
            "Memory of batches under way.",
            budget.used_bytes() as f64,
        ),
        Figure::new(
            "lmcollector_ingest_budget_waits_total",
            "How often a batch waited for memory before it was read.",
            budget.waits() as f64,
        ),
    ]);
    let incidents = registry.incidents();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    to.extend([
        Figure::new("lmcollector_rpc_inflight", "Calls under way.", in_flight.into()),
        Figure::new(
            "lmcollector_rpc_calls_refused_total",
            "Calls answered overloaded: their session had too many under way.",
            count(&incidents.calls_refused),
        ),
        Figure::new(
            "lmcollector_rpc_logins_refused_total",
            "Logins refused.",
            count(&incidents.logins_refused),
        ),
        Figure::new(
            "lmcollector_quic_handshakes_refused_total",
            "Handshakes refused because too many were waiting.",
            count(&incidents.handshakes_refused),
        ),
        Figure::new(
            "lmcollector_rpc_limits_broken_total",
            "Connections closed because the peer broke a bound.",
            count(&incidents.limits_broken),
        ),
        Figure::new(
            "lmcollector_rpc_session_panics_total",
            "Sessions ended by a failure inside the collector.",
            count(&incidents.panics),
        ),
        Figure::new("lmcollector_denials", "Identities that are denied.", denials.all().len() as f64),
    ]);
}

fn quic(registry: &Registry, round_trips: &[Duration], to: &mut Vec<Figure>) {
    let traffic = registry.quic_traffic();
    for (direction, bytes) in [("received", traffic.bytes_received), ("sent", traffic.bytes_sent)] {
        let figure = Figure::new("lmcollector_quic_bytes_total", "UDP payload of sessions.", bytes as f64);
        to.push(figure.with("direction", direction));
    }
    let lost = traffic.lost_packets as f64;
    to.push(Figure::new("lmcollector_quic_lost_packets_total", "Packets of ours that were lost.", lost));
    if let Some(longest) = round_trips.iter().max() {
        let mean = round_trips.iter().sum::<Duration>() / round_trips.len() as u32;
        let help = "Round-trip time to the peers that are here now.";
        for (statistic, time) in [("mean", mean), ("max", *longest)] {
            let figure = Figure::new("lmcollector_quic_rtt_seconds", help, time.as_secs_f64());
            to.push(figure.with("statistic", statistic));
        }
    }
}
