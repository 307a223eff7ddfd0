//! `lmctl calls`.

use std::time::Duration;

use clap::Args;
use lm_schema::operator::{CallFacts, read_list};
use serde::Serialize;

use crate::duration;
use crate::failure::Failure;
use crate::link::{Link, answer, unix_ms};
use crate::output::{Out, age, or_dash, size, table as aligned, took};
use crate::watch::{self, WatchArgs};

#[derive(Args)]
pub struct CallsArgs {
    /// Slow ones only: also those that are finished, but no long polls
    #[arg(long)]
    slow: bool,
    /// Only what has lasted longer, such as 10ms
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    over: Option<Duration>,
    #[command(flatten)]
    watch: WatchArgs,
}

/// An answer: longest first those under way, then the latest finished ones.
#[derive(Serialize)]
pub struct Document {
    /// From when on the collector keeps a finished call.
    pub slow_after_micros: u64,
    pub calls: Vec<CallFacts>,
}

pub async fn run(link: &Link, args: &CallsArgs, out: &mut Out) -> Result<(), Failure> {
    let over = args.over.map_or(0, |over| u64::try_from(over.as_micros()).unwrap_or(u64::MAX));
    let fetch = async || {
        let mut found = fetch(link, over).await?;
        let over = match args.over {
            None if args.slow => found.slow_after_micros,
            _ => over,
        };
        found.calls.retain(|call| match args.slow {
            true => !call.is_waiting && call.micros >= over,
            false => call.is_in_flight,
        });
        Ok(found)
    };
    watch::show(link, &args.watch, out, fetch, |found| table(found, unix_ms())).await
}

/// Asks for calls, without our own.
pub async fn fetch(link: &Link, slower_than_micros: u64) -> Result<Document, Failure> {
    let mut request = link.operator().calls_request();
    request.get().set_slower_than_micros(slower_than_micros);
    let response = answer(request.send().promise).await?;
    let answered = response.get()?;
    let mut calls = read_list(answered.get_calls()?, CallFacts::read)?;
    calls.retain(|call| call.session != link.own());
    Ok(Document { slow_after_micros: answered.get_slow_after_micros(), calls })
}

fn table(found: &Document, now: i64) -> String {
    let heads = ["CALL", "HOLDER", "SESSION", "CAP", "STATE", "TOOK", "BEGAN", "BYTES", "ERROR"];
    let row = |call: &CallFacts| {
        vec![
            format!("{}.{}", call.interface, call.method),
            call.holder.clone(),
            format!("s{}", call.session),
            format!("c{}", call.capability),
            state(call).to_owned(),
            took(call.micros),
            format!("{} ago", age(now - call.started_unix_ms)),
            size(call.parameter_bytes),
            or_dash(&call.error),
        ]
    };
    aligned(&heads, &found.calls.iter().map(row).collect::<Vec<_>>())
}

/// `"running"`, `"waiting"` for a long poll, `"done"`.
pub fn state(call: &CallFacts) -> &'static str {
    match (call.is_in_flight, call.is_waiting) {
        (true, true) => "waiting",
        (true, false) => "running",
        (false, _) => "done",
    }
}
