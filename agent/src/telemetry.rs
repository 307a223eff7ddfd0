//! The agent's own series, measured in the same cycle as the host, and its
//! figures for `/metrics`: one list.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use lm_model::{LossReason, Stream};
use lm_telemetry::Figure;

use crate::config::OnFull;
use crate::counters::Counters;
use crate::queue_handle::QueueFacts;
use crate::sources::{Measurement, SeriesTable};

/// Appends one measurement of each own series. A full table drops them
/// silently, as its bound is far above what an agent measures.
pub fn measure(
    counters: &Counters,
    queue: &QueueFacts,
    on_full: OnFull,
    table: &mut SeriesTable,
    out: &mut Vec<Measurement>,
) {
    let version = env!("CARGO_PKG_VERSION");
    let mut own = vec![Figure::new("lmagent_build_info", "", 1.0).with("version", version)];
    figures(counters, queue, on_full, &mut own);
    for figure in &own {
        for (name, labels, value) in figure.samples() {
            if let Some(series) = table.get_or_insert(&name, &labels) {
                out.push(Measurement { series, value });
            }
        }
    }
}

/// Adds what the agent counts.
pub fn figures(counters: &Counters, queue: &QueueFacts, on_full: OnFull, to: &mut Vec<Figure>) {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    to.extend([
        Figure::new("lmagent_up", "Always 1.", 1.0),
        Figure::new(
            "lmagent_queue_pending_bytes",
            "Queued and not acknowledged.",
            queue.pending_bytes as f64,
        ),
        Figure::new(
            "lmagent_queue_pending_batches",
            "Batches queued and not acknowledged.",
            queue.pending_batches as f64,
        ),
        Figure::new(
            "lmagent_queue_oldest_age_seconds",
            "Age of the oldest item that is not acknowledged; 0 when there is none.",
            queue.oldest_unix_ms.map_or(0.0, age_seconds),
        ),
        Figure::new("lmagent_queue_capacity_bytes", "What the queue may use.", queue.capacity_bytes as f64),
        Figure::new(
            "lmagent_sent_batches_total",
            "Batches answered for good.",
            count(&counters.sent_batches),
        ),
        Figure::new(
            "lmagent_session_reconnects_total",
            "Sessions that were opened after the first.",
            count(&counters.reconnects),
        ),
        Figure::new(
            "lmagent_rpc_sessions",
            "Whether there is a session with a collector.",
            f64::from(u8::from(counters.has_session.load(Ordering::Relaxed))),
        ),
        Figure::new(
            "lmagent_host_collector_stalls_total",
            "Collectors of the host that did not come back in their time.",
            count(&counters.host_stalls),
        ),
        Figure::new(
            "lmagent_cycle_duration_seconds",
            "How long the last measurement of everything took.",
            counters.cycle().as_secs_f64(),
        ),
    ]);
    for stream in Stream::ALL {
        let items = count(&counters.accepted_items[stream as usize]);
        let figure = Figure::new("lmagent_accepted_items_total", "Items that the queue took.", items);
        to.push(figure.with("stream", stream.name()));
    }
    if on_full == OnFull::Refuse {
        // Log files wait; only measurements have nowhere to stay.
        let items = count(&counters.refused_items[Stream::Metrics as usize]);
        let help = "Items for which the queue had no room, so that they were never accepted.";
        to.push(
            Figure::new("lmagent_refused_items_total", help, items).with("stream", Stream::Metrics.name()),
        );
    }
    for (stream, reason, items) in counters.drops_or_zero(&usual_reasons(on_full)) {
        let figure =
            Figure::new("lmagent_dropped_items_total", "Items given up, and declared.", items as f64);
        to.push(figure.with("stream", stream.name()).with("reason", reason.name()));
    }
}

/// Since a time that may be in the future, if the clock was set back.
fn age_seconds(unix_ms: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs_f64() - unix_ms as f64 / 1e3).max(0.0)
}

/// Kinds of drops whose series exist before the first drop, so that a rate
/// sees it.
fn usual_reasons(on_full: OnFull) -> Vec<LossReason> {
    match on_full {
        OnFull::DropOldest => vec![LossReason::QueueFullOldest, LossReason::Rejected],
        OnFull::DropNewest => vec![LossReason::QueueFullNewest, LossReason::Rejected],
        OnFull::Refuse => vec![LossReason::Rejected],
    }
}
