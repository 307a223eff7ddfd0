//! Which path is answered by which handler.

use std::convert::Infallible;

use warp::filters::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::call::{Call, call};
use super::reply::{reject, reply};
use super::{Result, Shared, State, own, prometheus, status};
use crate::backend::{Failure, FailureKind};

/// Everything below the health endpoints.
pub(super) fn routes(state: State) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    warp::path::full()
        .and(call())
        .then(move |path: FullPath, call: Call| {
            let state = state.clone();
            async move { reply(answer(&state.0, &call, path.as_str()).await) }
        })
        .recover(|rejection: Rejection| reject(rejection))
        .unify()
}

async fn answer(state: &Shared, call: &Call, path: &str) -> Result {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["api", "v1", ref path @ ..] => api(state, call, path).await,
        ["api", "console", "v1", list] => own::console(state, call.get()?, list).await,
        _ => Err(nothing_here()),
    }
}

/// Below `/api/v1/`.
async fn api(state: &Shared, call: &Call, path: &[&str]) -> Result {
    match *path {
        ["query"] => prometheus::query(state, call.get_or_form()?).await,
        ["query_range"] => prometheus::query_range(state, call.get_or_form()?).await,
        ["query_exemplars"] => prometheus::exemplars(state, call.get_or_form()?).await,
        ["format_query"] => prometheus::format_query(state, call.get_or_form()?).await,
        ["parse_query"] => prometheus::parse_query(state, call.get_or_form()?).await,
        ["labels"] => prometheus::labels(state, call.get_or_form()?).await,
        ["label", name, "values"] => prometheus::label_values(state, call.get()?, name).await,
        ["series"] => prometheus::series(state, call.get_or_form()?).await,
        ["metadata"] => prometheus::metadata(state, call.get()?).await,
        ["targets"] => status::targets(state, call.get()?).await,
        ["targets", "metadata"] => status::targets_metadata(state, call.get()?).await,
        ["rules"] => status::rules(state, call.get()?).await,
        ["alerts"] => status::alerts(state, call.get()?).await,
        ["alertmanagers"] => status::alertmanagers(state, call.get()?).await,
        ["notifications"] => status::notifications(state, call.get()?).await,
        ["status", "buildinfo"] => status::build_info(state, call.get()?).await,
        ["status", "config"] => status::config(state, call.get()?).await,
        ["status", "runtimeinfo"] => status::runtime_info(state, call.get()?).await,
        ["status", "tsdb"] => status::tsdb(state, call.get()?).await,
        ["status", "walreplay"] => status::wal_replay(state, call.get()?).await,
        ["logs"] => own::logs(state, call.get()?).await,
        ["losses"] => own::losses(state, call.get()?).await,
        ["dashboards"] => own::dashboards(state, call.get()?).await,
        ["dashboards", id] => own::dashboard(state, call.get()?, id.to_owned()).await,
        ["live"] => own::live_tail(state, call.get()?).await,
        _ => Err(nothing_here()),
    }
}

fn nothing_here() -> Failure {
    Failure::new(FailureKind::NotFound, "there is nothing at this path; the API is under /api/v1")
}
