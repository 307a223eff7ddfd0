//! `lmctl sessions`.

use std::time::{SystemTime, UNIX_EPOCH};

use lm_schema::operator_capnp::{operator, session_facts};
use serde_json::json;

use crate::output::{age, size, table as aligned};

/// One session, as the collector reports it. Names are those of the JSON.
pub struct Session {
    id: u64,
    identity: String,
    role: String,
    product: String,
    version: String,
    hostname: String,
    remote: String,
    transport: String,
    connected_unix_ms: i64,
    last_heartbeat_unix_ms: i64,
    clock_skew_ms: i64,
    queue_pending_bytes: u64,
    queue_pending_batches: u64,
    queue_capacity_bytes: u64,
    dropped_items: u64,
    bytes_received: u64,
    bytes_sent: u64,
    rtt_micros: u64,
    lost_packets: u64,
    calls: u64,
    batches: u64,
    items: u64,
}

/// Asks for the sessions, without our own.
pub async fn fetch(operator: &operator::Client, own: u64) -> Result<Vec<Session>, capnp::Error> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let mut request = operator.sessions_request();
        request.get().set_after_id(after);
        let response = request.send().promise.await?;
        let page = response.get()?;
        for session in page.get_sessions()? {
            after = session.get_id();
            if after != own {
                found.push(read(session)?);
            }
        }
        if !page.get_has_more() {
            return Ok(found);
        }
    }
}

fn read(from: session_facts::Reader<'_>) -> Result<Session, capnp::Error> {
    Ok(Session {
        id: from.get_id(),
        identity: from.get_identity()?.to_string()?,
        role: from.get_role()?.to_string()?,
        product: from.get_product()?.to_string()?,
        version: from.get_version()?.to_string()?,
        hostname: from.get_hostname()?.to_string()?,
        remote: from.get_remote()?.to_string()?,
        transport: from.get_transport()?.to_string()?,
        connected_unix_ms: from.get_connected_unix_ms(),
        last_heartbeat_unix_ms: from.get_last_heartbeat_unix_ms(),
        clock_skew_ms: from.get_clock_skew_ms(),
        queue_pending_bytes: from.get_queue_pending_bytes(),
        queue_pending_batches: from.get_queue_pending_batches(),
        queue_capacity_bytes: from.get_queue_capacity_bytes(),
        dropped_items: from.get_dropped_items(),
        bytes_received: from.get_bytes_received(),
        bytes_sent: from.get_bytes_sent(),
        rtt_micros: from.get_rtt_micros(),
        lost_packets: from.get_lost_packets(),
        calls: from.get_calls(),
        batches: from.get_batches(),
        items: from.get_items(),
    })
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// For people.
pub fn table(sessions: &[Session]) -> String {
    let heads = [
        "ID",
        "ROLE",
        "IDENTITY",
        "PATH",
        "AGE",
        "HEARTBEAT",
        "QUEUED",
        "BATCHES",
        "ITEMS",
        "RECEIVED",
        "SENT",
        "RTT",
        "VERSION",
    ];
    let now = unix_ms();
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|s| {
            let heartbeat = match s.last_heartbeat_unix_ms {
                0 => "none yet".to_owned(),
                at => format!("{} ago", age(now - at)),
            };
            let queued = match s.role.as_str() {
                "agent" => format!("{} ({})", size(s.queue_pending_bytes), s.queue_pending_batches),
                _ => "-".to_owned(),
            };
            vec![
                s.id.to_string(),
                s.role.clone(),
                s.identity.clone(),
                format!("{} {}", s.transport, s.remote),
                age(now - s.connected_unix_ms),
                heartbeat,
                queued,
                s.batches.to_string(),
                s.items.to_string(),
                size(s.bytes_received),
                size(s.bytes_sent),
                format!("{:.1}ms", s.rtt_micros as f64 / 1000.0),
                format!("{} {}", s.product, s.version),
            ]
        })
        .collect();
    aligned(&heads, &rows)
}

/// For programs.
pub fn json(sessions: &[Session]) -> String {
    let list: Vec<_> = sessions
        .iter()
        .map(|s| {
            json!({
                "id": s.id,
                "identity": s.identity,
                "role": s.role,
                "product": s.product,
                "version": s.version,
                "hostname": s.hostname,
                "remote": s.remote,
                "transport": s.transport,
                "connected_unix_ms": s.connected_unix_ms,
                "last_heartbeat_unix_ms": s.last_heartbeat_unix_ms,
                "clock_skew_ms": s.clock_skew_ms,
                "queue_pending_bytes": s.queue_pending_bytes,
                "queue_pending_batches": s.queue_pending_batches,
                "queue_capacity_bytes": s.queue_capacity_bytes,
                "dropped_items": s.dropped_items,
                "bytes_received": s.bytes_received,
                "bytes_sent": s.bytes_sent,
                "rtt_micros": s.rtt_micros,
                "lost_packets": s.lost_packets,
                "calls": s.calls,
                "batches": s.batches,
                "items": s.items,
            })
        })
        .collect();
    format!("{}\n", json!({ "sessions": list }))
}
