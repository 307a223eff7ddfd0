//! `lmctl sessions`.

use clap::Args;
use lm_schema::operator::{SessionFacts, read_list};
use serde::Serialize;

use crate::failure::Failure;
use crate::link::{Link, answer, goes_on, unix_ms};
use crate::output::{Out, age, size, table as aligned, took};
use crate::watch::{self, WatchArgs};

#[derive(Args)]
pub struct SessionsArgs {
    /// Also the path (congestion window, MTU, loss, migrations) and what the
    /// session holds at the collector
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

#[derive(Serialize)]
struct Document {
    sessions: Vec<SessionFacts>,
}

pub async fn run(link: &Link, args: &SessionsArgs, out: &mut Out) -> Result<(), Failure> {
    let fetch = async || Ok(Document { sessions: fetch(link).await? });
    watch::show(link, &args.watch, out, fetch, |found| table(&found.sessions, args.wide, unix_ms())).await
}

/// Asks for the sessions, without our own.
pub async fn fetch(link: &Link) -> Result<Vec<SessionFacts>, Failure> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let mut request = link.operator().sessions_request();
        request.get().set_after_id(after);
        let response = answer(request.send().promise).await?;
        let page = response.get()?;
        let sessions = read_list(page.get_sessions()?, SessionFacts::read)?;
        let last = sessions.last().map(|session| session.id);
        found.extend(sessions.into_iter().filter(|session| session.id != link.own()));
        if !page.get_has_more() {
            return Ok(found);
        }
        after = goes_on(after, last, found.len())?;
    }
}

fn table(sessions: &[SessionFacts], is_wide: bool, now: i64) -> String {
    let mut heads = vec![
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
        "CAPS",
        "VERSION",
    ];
    if is_wide {
        heads.extend([
            "CWND",
            "MTU",
            "LOST",
            "MOVED",
            "CALLS",
            "IN FLIGHT",
            "REFUSED",
            "HELD",
            "UNREAD",
            "BUDGET",
            "PAUSES",
        ]);
    }
    let row = |s: &SessionFacts| {
        let heartbeat = match s.last_heartbeat_unix_ms {
            0 => "none yet".to_owned(),
            at => format!("{} ago", age(now - at)),
        };
        let queued = match s.role.as_str() {
            "agent" => format!("{} ({})", size(s.queue_pending_bytes), s.queue_pending_batches),
            _ => "-".to_owned(),
        };
        let mut row = vec![
            format!("s{}", s.id),
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
            took(s.rtt_micros),
            s.capabilities.to_string(),
            format!("{} {}", s.product, s.version),
        ];
        if is_wide {
            row.extend([
                size(s.congestion_window_bytes),
                s.mtu_bytes.to_string(),
                s.lost_packets.to_string(),
                s.migrations.to_string(),
                s.calls.to_string(),
                s.calls_in_flight.to_string(),
                s.calls_refused.to_string(),
                s.admission.exports.to_string(),
                size(s.admission.unsent_bytes),
                size(s.admission.budget_bytes),
                s.admission.read_pauses.to_string(),
            ]);
        }
        row
    };
    aligned(&heads, &sessions.iter().map(row).collect::<Vec<_>>())
}
