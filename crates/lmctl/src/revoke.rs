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
    #[arg(value_parser = ids::target, required_unless_present = "all", conflicts_with = "all")]
    target: Option<Target>,
    /// Every session but this command's own, in one step
    #[arg(long)]
    all: bool,
    /// With --all: only sessions of this role (agent, gateway, operator)
    #[arg(long, requires = "all")]
    role: Option<String>,
    /// With --all: only sessions of this identity
    #[arg(long, requires = "all", value_name = "NAME")]
    identity: Option<String>,
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

#[derive(Serialize)]
struct AllDocument<'a> {
    role: Option<&'a str>,
    identity: Option<&'a str>,
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
    match args.target {
        Some(target) => one(link, target, &args.reason, out).await,
        None => all(link, args, out).await,
    }
}

async fn all(link: &Link, args: &RevokeArgs, out: &mut Out) -> Result<(), Failure> {
    let (role, identity) = (args.role.as_deref(), args.identity.as_deref());
    let mut request = link.operator().revoke_sessions_request();
    request.get().set_role(role.unwrap_or(""));
    request.get().set_identity(identity.unwrap_or(""));
    request.get().set_all(args.all);
    request.get().set_reason(&args.reason[..]);
    let response = answer(request.send().promise).await?;
    let outcome = RevokeOutcome::read(response.get()?.get_outcome()?)?;
    let of = [role.map(|role| format!("of role {role}")), identity.map(|name| format!("of {name}"))];
    let of: String = of.into_iter().flatten().map(|of| format!(" {of}")).collect();
    out.show(&AllDocument { role, identity, outcome }, |_| {
        format!("revoked all sessions{of}: {} ended\n", ended(outcome))
    })
}

async fn one(link: &Link, target: Target, reason: &str, out: &mut Out) -> Result<(), Failure> {
    if target == Target::Session(link.own()) {
        return Err(Failure::new(EXIT_SOFTWARE, "that is the session of this command; it ends by itself"));
    }
    let mut request = link.operator().revoke_request();
    request.get().set_reason(reason);
    target.write(request.get().init_target());
    let response = answer(request.send().promise).await?;
    let outcome = RevokeOutcome::read(response.get()?.get_outcome()?)?;
    let named = ids::named(target);
    let target = match target {
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
