//! The agent's own series, measured in the same cycle as the host.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lm_model::{LossReason, Stream};

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
    last_cycle: Duration,
    table: &mut SeriesTable,
    out: &mut Vec<Measurement>,
) {
    let mut push = |name: &str, labels: &[(&str, &str)], value: f64| {
        if let Some(series) = table.get_or_insert(name, labels) {
            out.push(Measurement { series, value });
        }
    };
    push("lmagent_up", &[], 1.0);
    push("lmagent_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    push("lmagent_queue_pending_bytes", &[], queue.pending_bytes as f64);
    push("lmagent_queue_pending_batches", &[], queue.pending_batches as f64);
    push("lmagent_queue_capacity_bytes", &[], queue.capacity_bytes as f64);
    for stream in Stream::ALL {
        let items = counters.accepted_items[stream as usize].load(Ordering::Relaxed);
        push("lmagent_accepted_items_total", &[("stream", stream.name())], items as f64);
    }
    if on_full == OnFull::Refuse {
        // Log files wait; only measurements have nowhere to stay.
        let items = counters.refused_items[Stream::Metrics as usize].load(Ordering::Relaxed);
        push("lmagent_refused_items_total", &[("stream", Stream::Metrics.name())], items as f64);
    }
    for (stream, reason, items) in counters.drops_or_zero(&usual_reasons(on_full)) {
        let labels = [("stream", stream.name()), ("reason", reason.name())];
        push("lmagent_dropped_items_total", &labels, items as f64);
    }
    push("lmagent_sent_batches_total", &[], counters.sent_batches.load(Ordering::Relaxed) as f64);
    push("lmagent_session_reconnects_total", &[], counters.reconnects.load(Ordering::Relaxed) as f64);
    push("lmagent_cycle_duration_seconds", &[], last_cycle.as_secs_f64());
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
