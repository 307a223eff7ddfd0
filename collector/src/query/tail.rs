//! A reader's position in the live tail.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_schema::labels::write_pairs;
use lm_schema::query_capnp::{self, event_id, tail_event};

use super::context::QueryContext;
use crate::log_filter::LogFilter;
use crate::tail::{FIRST, Slice, TailEvent};

/// Longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Events looked at before a call answers, so that a rare filter cannot hold it.
const SCAN_MAX: usize = 4096;
/// Most events of one answer.
const EVENTS_MAX: usize = 256;

pub struct TailServer {
    context: Arc<QueryContext>,
    filter: LogFilter,
    position: Cell<u64>,
    /// The reader's last position was of another run of the collector.
    is_restarted: Cell<bool>,
}

impl TailServer {
    /// Goes on after `(epoch, position)`, or from now when the epoch is 0.
    pub fn new(context: Arc<QueryContext>, filter: LogFilter, epoch: u64, after: u64) -> Self {
        let tail = &context.store.tail;
        let is_restarted = epoch != 0 && epoch != tail.epoch;
        let position = match epoch {
            0 => tail.end(),
            _ if is_restarted => FIRST,
            _ => after.saturating_add(1).min(tail.end()),
        };
        TailServer { context, filter, position: Cell::new(position), is_restarted: Cell::new(is_restarted) }
    }
}

impl query_capnp::tail::Server for TailServer {
    async fn next(
        self: Rc<Self>,
        params: query_capnp::tail::NextParams,
        mut results: query_capnp::tail::NextResults,
    ) -> Result<(), capnp::Error> {
        let (wait, events_max) = {
            let params = params.get()?;
            let wait = Duration::from_millis(params.get_wait_ms().into()).min(WAIT_MAX);
            (wait, (params.get_events_max() as usize).clamp(1, EVENTS_MAX))
        };
        drop(params);
        let tail = &self.context.store.tail;
        let mut end = tail.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        let slice = loop {
            let position = self.position.get();
            let mut slice = tail.read(position, SCAN_MAX, |event| self.filter.keeps(event));
            if slice.events.len() > events_max {
                slice.events.truncate(events_max);
                slice.next = slice.events.last().map_or(slice.next, |(at, _)| at + 1);
            }
            self.position.set(slice.next);
            let has_news = !slice.events.is_empty() || slice.missed > 0 || self.is_restarted.get();
            if has_news {
                break slice;
            }
            // State, not an edge: only wait while the end is where we are.
            let next = slice.next;
            match tokio::time::timeout_at(deadline, end.wait_for(|end| *end > next)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => break slice,
            }
        };
        let mut to = results.get();
        to.set_missed(slice.missed);
        to.set_is_restarted(self.is_restarted.replace(false));
        write_id(tail.epoch, slice.next.saturating_sub(1), to.reborrow().init_next());
        write_events(tail.epoch, &slice, to.init_events(slice.events.len() as u32));
        Ok(())
    }
}

fn write_id(epoch: u64, position: u64, mut to: event_id::Builder<'_>) {
    to.set_epoch(epoch);
    to.set_position(position);
}

fn write_events(epoch: u64, slice: &Slice, mut to: capnp::struct_list::Builder<'_, tail_event::Owned>) {
    for (index, (position, event)) in slice.events.iter().enumerate() {
        let mut entry = to.reborrow().get(index as u32);
        write_id(epoch, *position, entry.reborrow().init_id());
        match &**event {
            TailEvent::Log { labels, time_unix_nano, line } => {
                entry.set_time_unix_nano(*time_unix_nano);
                let mut log = entry.init_log();
                log.set_time_unix_nano(*time_unix_nano);
                log.set_line(line);
                write_pairs(labels, log.init_labels(labels.len() as u32));
            }
            TailEvent::Notice(notice) => {
                entry.set_time_unix_nano(notice.time_unix_nano);
                let mut to = entry.init_notice();
                to.set_code(&notice.code[..]);
                to.set_agent(&notice.agent[..]);
                to.set_message(&notice.message[..]);
                to.set_items(notice.items);
            }
        }
    }
}
