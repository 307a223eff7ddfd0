//! `lmctl tap`.

use std::io;
use std::time::Duration;

use clap::Args;
use lm_schema::operator::{CallFacts, Tap, TapCost, TapFilter};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::escape::{cell, json as document};
use crate::failure::{EXIT_SOFTWARE, Failure};
use crate::link::{Link, answer, answer_within, patience};
use crate::output::{Format, Out, padded, size, time_of_day, took};
use crate::{duration, ids};

/// How long the collector may hold an answer back for lack of calls.
const WAIT: Duration = Duration::from_secs(5);
/// Calls of one answer at most.
const CALLS_MAX: u32 = 256;
/// Between questions: a busy mesh is read in batches.
const PACE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct TapArgs {
    /// Of one session
    #[arg(long, value_name = "SESSION", value_parser = ids::session)]
    session: Option<u64>,
    /// On one capability
    #[arg(long, value_name = "CAP", value_parser = ids::capability)]
    cap: Option<u64>,
    /// Of one identity
    #[arg(long, value_name = "IDENTITY")]
    holder: Option<String>,
    /// Of one interface, such as BatchSink
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Of one method, such as push
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Failed calls only
    #[arg(long)]
    errors: bool,
    /// One call of every N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Stop after this long, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_period)]
    duration: Option<Duration>,
    /// Stop after so many calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// A document: `{"call":{...}}`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Call(&'a CallFacts),
    Missed(u64),
    Cost(TapCost),
}

/// Columns of a line. Calls come one by one, so nothing can be measured
/// before it is printed.
const COLUMNS: [(&str, usize); 8] = [
    ("TIME (UTC)", 12),
    ("TOOK", 8),
    ("SESSION", 7),
    ("CAP", 7),
    ("HOLDER", 20),
    ("CALL", 28),
    ("BYTES", 9),
    ("RESULT", 40),
];

pub async fn run(link: &Link, args: &TapArgs, out: &mut Out) -> Result<(), Failure> {
    let filter = TapFilter {
        session: args.session.unwrap_or(0),
        capability: args.cap.unwrap_or(0),
        holder: args.holder.clone().unwrap_or_default(),
        interface: args.interface.clone().unwrap_or_default(),
        method: args.method.clone().unwrap_or_default(),
        errors_only: args.errors,
        sample_every: args.sample.unwrap_or(1),
    };
    let mut stop = Stop::new(args.duration)
        .map_err(|error| Failure::new(EXIT_SOFTWARE, format!("cannot wait for signals: {error}")))?;
    let mut request = link.operator().tap_request();
    filter.write(request.get().init_filter());
    let tap = answer(request.send().promise).await?.get()?.get_tap()?;
    if out.format == Format::Table {
        out.line(&line(COLUMNS.map(|(head, _)| head.to_owned())))?;
    }
    let (mut shown, mut missed, mut cost) = (0, 0, TapCost::default());
    while args.count.is_none_or(|count| shown < count) {
        let mut request = tap.next_request();
        request.get().set_wait_ms(stop.wait().as_millis() as u32);
        let left = args.count.map_or(u64::from(CALLS_MAX), |count| count - shown);
        request.get().set_limit(u32::try_from(left).unwrap_or(u32::MAX).min(CALLS_MAX));
        let asked = async {
            let response = answer_within(WAIT + patience(), request.send().promise).await?;
            Ok::<_, Failure>(Tap::read(response.get()?)?)
        };
        let answered = tokio::select! {
            answered = asked => answered?,
            () = stop.reached() => break,
        };
        cost = answered.cost;
        if answered.missed > 0 {
            missed += answered.missed;
            show_missed(out, answered.missed)?;
        }
        // Our own calls are no news.
        for call in answered.calls.iter().filter(|call| call.session != link.own()) {
            show(out, call)?;
            shown += 1;
            if args.count == Some(shown) {
                break;
            }
        }
        if args.count.is_none_or(|count| shown < count) {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = stop.reached() => break,
            }
        }
    }
    summary(out, shown, missed, cost)
}

/// When a tap ends by itself.
struct Stop {
    at: Option<Instant>,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new(after: Option<Duration>) -> io::Result<Stop> {
        Ok(Stop {
            at: after.map(|after| Instant::now() + after),
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// How long to wait for calls.
    fn wait(&self) -> Duration {
        self.at.map_or(WAIT, |at| at.saturating_duration_since(Instant::now()).min(WAIT))
    }

    async fn reached(&mut self) {
        let deadline = async {
            match self.at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = deadline => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn show(out: &mut Out, call: &CallFacts) -> Result<(), Failure> {
    match out.format {
        Format::Json => out.line(&document(&Line::Call(call))),
        Format::Table => out.line(&line([
            time_of_day(call.started_unix_ms),
            took(call.micros),
            format!("s{}", call.session),
            format!("c{}", call.capability),
            call.holder.clone(),
            format!("{}.{}", call.interface, call.method),
            size(call.parameter_bytes),
            if call.error.is_empty() { "ok".to_owned() } else { call.error.clone() },
        ])),
    }
}

fn show_missed(out: &mut Out, missed: u64) -> Result<(), Failure> {
    match out.format {
        Format::Json => out.line(&document(&Line::Missed(missed))),
        Format::Table => out.line(&format!("... {missed} calls came too fast and are not shown")),
    }
}

/// What the tap cost, at the end: on standard error, where it is in nobody's
/// way, or as the last document.
fn summary(out: &mut Out, shown: u64, missed: u64, cost: TapCost) -> Result<(), Failure> {
    match out.format {
        Format::Json => out.line(&document(&Line::Cost(cost))),
        Format::Table => {
            eprintln!(
                "{shown} shown, {missed} missed; the tap looked at {} calls, {} matched, and took {} of the \
                 collector's processor time",
                cost.seen,
                cost.matched,
                took(cost.nanos.div_ceil(1000))
            );
            Ok(())
        }
    }
}

fn line<const N: usize>(cells: [String; N]) -> String {
    let mut to = String::new();
    for (text, (_, columns)) in cells.iter().zip(COLUMNS) {
        to.push_str(&padded(&cell(text, columns), columns + 2));
    }
    to.trim_end().to_owned()
}
