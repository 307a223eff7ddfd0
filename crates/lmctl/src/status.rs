//! `lmctl status`.

use lm_schema::operator::MeshStatus;

use crate::escape::cell;
use crate::failure::Failure;
use crate::link::{Link, answer};
use crate::output::{Out, age, padded, size};
use crate::watch::{self, WatchArgs};

pub async fn run(link: &Link, args: &WatchArgs, out: &mut Out) -> Result<(), Failure> {
    watch::show(link, args, out, async || fetch(link).await, table).await
}

pub async fn fetch(link: &Link) -> Result<MeshStatus, Failure> {
    let response = answer(link.operator().status_request().send().promise).await?;
    Ok(MeshStatus::read(response.get()?.get_status()?)?)
}

fn table(status: &MeshStatus) -> String {
    let cluster: String = status.cluster_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let budget = format!(
        "{} of {}, waited for {} times",
        size(status.budget_bytes),
        size(status.budget_bytes_max),
        status.budget_waits
    );
    let lines = [
        ("collector", status.version.clone()),
        ("cluster", cluster),
        ("up", age(i64::try_from(status.uptime_ms).unwrap_or(i64::MAX))),
        ("sessions", format!("{} ({} ended at a limit)", status.sessions, status.sessions_ended_by_limit)),
        ("capabilities", status.capabilities.to_string()),
        (
            "calls",
            format!(
                "{} ({} in flight, {} refused)",
                status.calls, status.calls_in_flight, status.calls_refused
            ),
        ),
        ("ingest budget", budget),
        ("refused", format!("{} logins, {} handshakes", status.logins_refused, status.handshakes_refused)),
        ("denied", status.denials.to_string()),
        ("panics", status.panics.to_string()),
    ];
    lines.iter().map(|(name, text)| format!("{}{}\n", padded(name, 15), cell(text, 80))).collect()
}
