//! The operator's capability: see who is there.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lm_mesh::{Grant, Session};
use lm_schema::operator_capnp::{operator, session_facts};

use super::CollectorHost;

/// Entries of one answer: a page stays well below a message's limit.
const PAGE_MAX: usize = 512;

pub struct OperatorServer {
    pub host: Arc<CollectorHost>,
    pub grant: Grant,
}

impl operator::Server for OperatorServer {
    async fn sessions(
        self: Rc<Self>,
        params: operator::SessionsParams,
        mut results: operator::SessionsResults,
    ) -> Result<(), capnp::Error> {
        let (after, limit) = {
            let params = params.get()?;
            (params.get_after_id(), params.get_limit())
        };
        let limit = if limit == 0 { PAGE_MAX } else { (limit as usize).min(PAGE_MAX) };
        let mut sessions = self.host.registry.sessions();
        sessions.retain(|session| session.id > after);
        results.get().set_has_more(sessions.len() > limit);
        sessions.truncate(limit);
        let mut list = results.get().init_sessions(sessions.len() as u32);
        for (index, session) in sessions.iter().enumerate() {
            write(session, list.reborrow().get(index as u32));
        }
        Ok(())
    }
}

fn write(session: &Session, mut to: session_facts::Builder<'_>) {
    let (report, path) = (session.report(), session.path());
    to.set_id(session.id);
    to.set_identity(&session.principal.name[..]);
    to.set_role(session.principal.role.name());
    to.set_product(&session.peer.product[..]);
    to.set_version(&session.peer.version[..]);
    to.set_hostname(&session.peer.hostname[..]);
    to.set_remote(&path.remote.to_string()[..]);
    to.set_transport(path.transport);
    to.set_connected_unix_ms(session.connected_unix_ms);
    to.set_last_heartbeat_unix_ms(session.last_heartbeat_unix_ms());
    to.set_clock_skew_ms(session.clock_skew_ms());
    to.set_queue_pending_bytes(report.queue_pending_bytes);
    to.set_queue_pending_batches(report.queue_pending_batches);
    to.set_queue_capacity_bytes(report.queue_capacity_bytes);
    to.set_dropped_items(report.dropped_items);
    to.set_bytes_received(path.bytes_received);
    to.set_bytes_sent(path.bytes_sent);
    to.set_rtt_micros(path.rtt.as_micros() as u64);
    to.set_lost_packets(path.lost_packets);
    to.set_calls(session.activity().calls());
    to.set_batches(session.batches.load(Ordering::Relaxed));
    to.set_items(session.items.load(Ordering::Relaxed));
}
