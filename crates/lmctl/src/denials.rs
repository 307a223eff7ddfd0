//! `lmctl deny`, `allow` and `denials`.

use clap::Args;
use lm_schema::operator::{Denial, RevokeOutcome, read_list};
use serde::Serialize;

use crate::escape::printable;
use crate::failure::{EXIT_SOFTWARE, Failure};
use crate::link::{Link, answer, unix_ms};
use crate::output::{Format, Out, age, table as aligned};
use crate::revoke::{ended, reason};
use crate::watch::{self, WatchArgs};

#[derive(Args)]
pub struct DenyArgs {
    /// As 'lmctl sessions' shows it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: String,
    /// Why; the identity is told, and it is kept
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

#[derive(Args)]
pub struct AllowArgs {
    /// As 'lmctl denials' shows it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: String,
}

#[derive(Serialize)]
struct Denied<'a> {
    identity: &'a str,
    capabilities: u32,
    sessions: u32,
}

#[derive(Serialize)]
struct Allowed<'a> {
    identity: &'a str,
    was_denied: bool,
}

#[derive(Serialize)]
struct Document {
    denials: Vec<Denial>,
}

pub async fn deny(link: &Link, args: &DenyArgs, out: &mut Out) -> Result<(), Failure> {
    let identity = &args.identity[..];
    if *identity == link.identity() {
        return Err(Failure {
            code: EXIT_SOFTWARE,
            message: format!("{identity} is who you are: you could not allow it again"),
            advice: "Use the token of another operator.",
        });
    }
    let mut request = link.operator().deny_request();
    request.get().set_identity(identity);
    request.get().set_reason(&args.reason[..]);
    let response = answer(request.send().promise).await?;
    let outcome = RevokeOutcome::read(response.get()?.get_outcome()?)?;
    let RevokeOutcome { capabilities, sessions, .. } = outcome;
    out.show(&Denied { identity, capabilities, sessions }, |_| {
        let name = printable(identity);
        format!("denied {name}: {} ended\nIt stays out until 'lmctl allow {name}'.\n", ended(outcome))
    })
}

pub async fn allow(link: &Link, args: &AllowArgs, out: &mut Out) -> Result<(), Failure> {
    let identity = &args.identity[..];
    let mut request = link.operator().allow_request();
    request.get().set_identity(identity);
    let response = answer(request.send().promise).await?;
    let was_denied = response.get()?.get_was_denied();
    if was_denied || out.format == Format::Json {
        let done = |_: &Allowed<'_>| format!("allowed {}: it may log in again\n", printable(identity));
        out.show(&Allowed { identity, was_denied }, done)?;
    }
    match was_denied {
        true => Ok(()),
        false => Err(Failure {
            code: EXIT_SOFTWARE,
            message: format!("{identity} was not denied"),
            advice: "'lmctl denials' lists who is.",
        }),
    }
}

pub async fn list(link: &Link, args: &WatchArgs, out: &mut Out) -> Result<(), Failure> {
    let fetch = async || {
        let response = answer(link.operator().denials_request().send().promise).await?;
        Ok(Document { denials: read_list(response.get()?.get_denials()?, Denial::read)? })
    };
    watch::show(link, args, out, fetch, |found| table(&found.denials, unix_ms())).await
}

fn table(denials: &[Denial], now: i64) -> String {
    let row = |denial: &Denial| {
        vec![
            denial.identity.clone(),
            format!("{} ago", age(now - denial.unix_ms)),
            denial.by.clone(),
            denial.reason.clone(),
        ]
    };
    aligned(&["IDENTITY", "DENIED", "BY", "REASON"], &denials.iter().map(row).collect::<Vec<_>>())
}
