//! What we answer and Prometheus does not: logs, losses, dashboards, the live
//! tail and what operators see.

use hyper::header::{CONTENT_TYPE, HeaderValue};
use warp::Reply as _;

use super::call::Call;
use super::reply::answered;
use super::{Result, Shared};
use crate::backend::{Failure, FailureKind, Question};
use crate::console::ConsoleQuestion;
use crate::grafana;
use crate::live;
use crate::session::unix_nano;

pub(super) async fn logs(state: &Shared, call: &Call) -> Result {
    let token = call.token()?;
    let question = Question::SearchLogs(call.params()?.log_search(unix_nano())?);
    Ok(answered(state.backend.ask(token, question).await?))
}

pub(super) async fn losses(state: &Shared, call: &Call) -> Result {
    Ok(answered(state.backend.ask(call.token()?, Question::Losses).await?))
}

pub(super) async fn dashboards(state: &Shared, call: &Call) -> Result {
    Ok(answered(state.backend.ask(call.token()?, Question::Dashboards).await?))
}

/// No id has a character that a path would escape, so it is taken as it is.
pub(super) async fn dashboard(state: &Shared, call: &Call, id: String) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let as_grafana = match params.get("format") {
        None | Some("") => false,
        Some("grafana") => true,
        Some(_) => return Err(Failure::new(FailureKind::BadData, "format is \"grafana\" or left out")),
    };
    let mut answer = state.backend.ask(token, Question::Dashboard(id)).await?;
    if as_grafana {
        let model = grafana::model(&answer.first).map_err(|error| {
            tracing::error!(%error, "a dashboard cannot be written for Grafana");
            Failure::new(FailureKind::Internal, "this dashboard cannot be written for Grafana")
        })?;
        answer.first = model.into();
    }
    Ok(answered(answer))
}

/// What operators see; never a change.
pub(super) async fn console(state: &Shared, call: &Call, list: &str) -> Result {
    let token = call.token()?;
    let question = ConsoleQuestion::parse(list, &call.params()?)?;
    Ok(answered(state.backend.ask(token, Question::Console(question)).await?))
}

pub(super) async fn live_tail(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let last = match call.headers.get("last-event-id") {
        Some(id) => Some(id.to_str().unwrap_or("?")),
        None => params.get("last_event_id"),
    };
    let after = match last.filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => Some(id.parse().map_err(|()| {
            let message =
                format!("invalid parameter \"last_event_id\": found {id:?}, expected an id such as \"7-42\"");
            Failure::new(FailureKind::BadData, message)
        })?),
    };
    let (backend, stopping) = (state.backend.clone(), state.stopping.clone());
    let events = live::open(backend, &state.places, stopping, token, params.log_filter(), after).await?;
    let mut response = warp::reply::stream(events).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
