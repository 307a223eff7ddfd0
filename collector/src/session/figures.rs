//! The mesh in figures: bounded by roles, transports and the schema, never by
//! how many peers there are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use lm_mesh::Registry;

use crate::state::Denials;
use crate::telemetry::Figure;

/// Adds the figures of all sessions and capabilities.
pub fn figures(registry: &Registry, denials: &Denials, to: &mut Vec<Figure>) {
    let mut sessions: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut in_flight = 0;
    for session in registry.sessions() {
        *sessions.entry((session.principal.role.name(), session.path().transport)).or_default() += 1;
        in_flight += session.activity().in_flight();
    }
    for ((role, transport), count) in sessions {
        let figure = Figure::new("lmcollector_sessions", "Sessions that are open.", count.into());
        to.push(figure.with("role", role).with("transport", transport));
    }
    for (interface, count) in registry.ledger().count_by_interface() {
        let figure = Figure::new("lmcollector_capabilities", "Capabilities that are granted.", count as f64);
        to.push(figure.with("interface", interface));
    }
    for method in registry.ledger().totals() {
        let labelled = |name, help, value| {
            Figure::new(name, help, value).with("interface", method.interface).with("method", method.method)
        };
        to.push(labelled("lmcollector_calls_total", "Calls that were let in.", method.calls as f64));
        to.push(labelled("lmcollector_call_errors_total", "Calls that failed.", method.errors as f64));
        to.push(labelled(
            "lmcollector_call_seconds_total",
            "Time from the guard to the answer, of all calls.",
            method.duration.as_secs_f64(),
        ));
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
        Figure::new("lmcollector_calls_in_flight", "Calls under way.", in_flight.into()),
        Figure::new(
            "lmcollector_calls_refused_total",
            "Calls answered overloaded: their session had too many under way.",
            count(&incidents.calls_refused),
        ),
        Figure::new("lmcollector_logins_refused_total", "Logins refused.", count(&incidents.logins_refused)),
        Figure::new(
            "lmcollector_handshakes_refused_total",
            "Handshakes refused because too many were waiting.",
            count(&incidents.handshakes_refused),
        ),
        Figure::new(
            "lmcollector_limits_broken_total",
            "Connections closed because the peer broke a bound.",
            count(&incidents.limits_broken),
        ),
        Figure::new(
            "lmcollector_session_panics_total",
            "Sessions ended by a failure inside the collector.",
            count(&incidents.panics),
        ),
        Figure::new("lmcollector_denials", "Identities that are denied.", denials.all().len() as f64),
    ]);
}
