//! Questions of operators, asked with the capability of the user who asks.

use lm_schema::operator::{CallFacts, CapabilityFacts, MeshStatus, SessionFacts, read_list};
use lm_schema::operator_capnp::operator;
use serde::Serialize;

use super::ask::in_time;
use super::users::User;
use super::{Session, failed};
use crate::backend::{Failure, FailureKind};
use crate::console::{ConsoleQuestion, Page};

/// Pages of the collector that one request looks through for entries that fit
/// its filter. Beyond it the answer says where to go on.
const PAGES_MAX: usize = 32;

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<SessionFacts>,
    next_after: Option<u64>,
}

#[derive(Serialize)]
struct Capabilities {
    capabilities: Vec<CapabilityFacts>,
    next_after: Option<u64>,
}

#[derive(Serialize)]
struct Calls {
    slow_after_micros: u64,
    calls: Vec<CallFacts>,
}

/// Answers with one JSON document.
pub(super) async fn ask(
    session: &Session,
    user: &User,
    question: ConsoleQuestion,
) -> Result<Vec<u8>, Failure> {
    let Some(operator) = &user.operator else {
        let message = format!("the token of {} is not an operator's, and only those see the mesh", user.name);
        return Err(Failure::new(FailureKind::Forbidden, message));
    };
    Ok(match question {
        ConsoleQuestion::Sessions { page, identity, role } => {
            let fits = |found: &SessionFacts| {
                (identity.is_empty() || found.identity == identity) && (role.is_empty() || found.role == role)
            };
            let list = listed(
                page,
                fits,
                |session| session.id,
                async |after| {
                    let mut request = operator.sessions_request();
                    request.get().set_after_id(after);
                    let response = in_time(session.patience, request.send().promise).await?;
                    let found = response.get().map_err(|error| failed(&error))?;
                    let sessions = found.get_sessions().map_err(|error| failed(&error))?;
                    Ok((read_list(sessions, SessionFacts::read).map_err(malformed)?, found.get_has_more()))
                },
            );
            let Listed { entries: sessions, next_after } = list.await?;
            json(&Sessions { sessions, next_after })
        }
        ConsoleQuestion::Capabilities { page, filter } => {
            let list = listed(
                page,
                |_: &CapabilityFacts| true,
                |capability| capability.id,
                async |after| {
                    let mut request = operator.capabilities_request();
                    request.get().set_after_id(after);
                    filter.write(request.get().init_filter());
                    let response = in_time(session.patience, request.send().promise).await?;
                    let found = response.get().map_err(|error| failed(&error))?;
                    let capabilities = found.get_capabilities().map_err(|error| failed(&error))?;
                    Ok((
                        read_list(capabilities, CapabilityFacts::read).map_err(malformed)?,
                        found.get_has_more(),
                    ))
                },
            );
            let Listed { entries: capabilities, next_after } = list.await?;
            json(&Capabilities { capabilities, next_after })
        }
        ConsoleQuestion::Calls { over_micros, is_in_flight, limit } => {
            calls(session, operator, over_micros, is_in_flight, limit).await?
        }
        ConsoleQuestion::Status => {
            let response = in_time(session.patience, operator.status_request().send().promise).await?;
            let found =
                response.get().and_then(|found| found.get_status()).map_err(|error| failed(&error))?;
            json(&MeshStatus::read(found).map_err(malformed)?)
        }
    })
}

async fn calls(
    session: &Session,
    operator: &operator::Client,
    over_micros: u64,
    is_in_flight: Option<bool>,
    limit: usize,
) -> Result<Vec<u8>, Failure> {
    let mut request = operator.calls_request();
    request.get().set_slower_than_micros(over_micros);
    let response = in_time(session.patience, request.send().promise).await?;
    let found = response.get().map_err(|error| failed(&error))?;
    let calls = found.get_calls().map_err(|error| failed(&error))?;
    let mut calls = read_list(calls, CallFacts::read).map_err(malformed)?;
    calls.retain(|call| {
        call.micros >= over_micros && is_in_flight.is_none_or(|wanted| wanted == call.is_in_flight)
    });
    calls.truncate(limit);
    Ok(json(&Calls { slow_after_micros: found.get_slow_after_micros(), calls }))
}

/// A part of a list, and where it goes on.
struct Listed<T> {
    entries: Vec<T>,
    /// Ask again after this id.
    next_after: Option<u64>,
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("our documents have text keys and no failing parts")
}

/// Reads page by page until enough entries fit.
async fn listed<T>(
    page: Page,
    fits: impl Fn(&T) -> bool,
    id: impl Fn(&T) -> u64,
    fetch: impl AsyncFn(u64) -> Result<(Vec<T>, bool), Failure>,
) -> Result<Listed<T>, Failure> {
    let mut list = Listed { entries: Vec::new(), next_after: None };
    let mut after = page.after;
    for _ in 0..PAGES_MAX {
        let (entries, has_more) = fetch(after).await?;
        for entry in entries {
            if list.entries.len() == page.limit {
                list.next_after = Some(after);
                return Ok(list);
            }
            after = id(&entry);
            if fits(&entry) {
                list.entries.push(entry);
            }
        }
        if !has_more {
            return Ok(list);
        }
    }
    list.next_after = Some(after);
    Ok(list)
}

fn malformed(error: lm_schema::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("the collector's answer is not understood: {error}"))
}
