//! `lmctl revoke`.

use clap::Args;
use lm_schema::operator::{RevokeOutcome, Target};
use serde::Serialize;

use crate::failure::{EXIT_SOFTWARE, Failure};
use crate::ids;
use crate::link::{Link, answer};
use crate::output::Out;

#[derive(Args)]
pub struct RevokeArgs {
    /// A capability (c17 or 17) or a session (s3)
    #[arg(value_parser = ids::target)]
    target: Target,
    /// Why; the holder is told, and it is logged
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

#[derive(Serialize)]
struct Document {
    /// `"c17"`, `"s3"`.
    target: String,
    #[serde(flatten)]
    outcome: RevokeOutcome,
}

/// A reason that says something.
pub fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why in a few words".to_owned()),
        text => Ok(text.to_owned()),
    }
}

pub async fn run(link: &Link, args: &RevokeArgs, out: &mut Out) -> Result<(), Failure> {
    if args.target == Target::Session(link.own()) {
        return Err(Failure::new(EXIT_SOFTWARE, "that is the session of this command; it ends by itself"));
    }
    let mut request = link.operator.revoke_request();
    request.get().set_reason(&args.reason[..]);
    args.target.write(request.get().init_target());
    let response = answer(request.send().promise).await?;
    let outcome = RevokeOutcome::read(response.get()?.get_outcome()?)?;
    let named = ids::named(args.target);
    let target = match args.target {
        Target::Capability(id) => format!("c{id}"),
        Target::Session(id) => format!("s{id}"),
    };
    if outcome.was_found || out.format == crate::output::Format::Json {
        out.show(&Document { target, outcome }, |_| format!("revoked {named}: {} ended\n", ended(outcome)))?;
    }
    match outcome.was_found {
        true => Ok(()),
        false => Err(Failure {
            code: EXIT_SOFTWARE,
            message: format!("there is no {named}"),
            advice: "It has ended, or never was. 'lmctl caps --tree' and 'lmctl sessions' list what there is.",
        }),
    }
}

/// `"3 capabilities and 1 session"`.
pub fn ended(outcome: RevokeOutcome) -> String {
    let RevokeOutcome { capabilities, sessions, .. } = outcome;
    let capabilities =
        if capabilities == 1 { "1 capability".to_owned() } else { format!("{capabilities} capabilities") };
    match sessions {
        0 => capabilities,
        1 => format!("{capabilities} and 1 session"),
        sessions => format!("{capabilities} and {sessions} sessions"),
    }
}
