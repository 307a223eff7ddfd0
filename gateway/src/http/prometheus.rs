//! The API of Prometheus: queries and what they are made of.

use bytes::Bytes;

use super::call::Call;
use super::reply::answered;
use super::{Result, Shared};
use crate::backend::{Answered, Failure, FailureKind, QueryOptions, Question};
use crate::params::{self, Params};
use crate::session::unix_nano;

pub(super) async fn query(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let question = Question::Query {
        expression: params.query()?,
        time_ms: params.time("time")?.unwrap_or_else(|| unix_nano() / 1_000_000),
        options: options(state, &params)?,
    };
    Ok(answered(state.backend.ask(token, question).await?))
}

pub(super) async fn query_range(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let range = params.range()?;
    let question =
        Question::QueryRange { expression: params.query()?, range, options: options(state, &params)? };
    Ok(answered(state.backend.ask(token, question).await?))
}

fn options(state: &Shared, params: &Params) -> Result<QueryOptions> {
    Ok(QueryOptions {
        timeout: params.timeout(state.query_timeout)?,
        lookback_ms: params.lookback_ms()?,
        limit: params.limit()?,
        with_stats: params.get("stats").is_some(),
    })
}

pub(super) async fn labels(state: &Shared, call: &Call) -> Result {
    let question = Question::LabelNames(call.params()?.selection()?);
    Ok(answered(state.backend.ask(call.token()?, question).await?))
}

pub(super) async fn label_values(state: &Shared, call: &Call, name: &str) -> Result {
    let name = percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .map_err(|_| Failure::new(FailureKind::BadData, "invalid label name: not UTF-8"))?;
    let name = params::unescape_name(&name);
    if name.is_empty() {
        return Err(Failure::new(FailureKind::BadData, "invalid label name: \"\""));
    }
    let question = Question::LabelValues { name, selection: call.params()?.selection()? };
    Ok(answered(state.backend.ask(call.token()?, question).await?))
}

pub(super) async fn series(state: &Shared, call: &Call) -> Result {
    let token = call.token()?;
    let selection = call.params()?.selection()?;
    if selection.selectors.is_empty() {
        return Err(Failure::new(FailureKind::BadData, "no match[] parameter provided"));
    }
    Ok(answered(state.backend.ask(token, Question::Series(selection)).await?))
}

/// We keep none. What asks is checked all the same, but for the sizes of its
/// times: Grafana's first probe sends milliseconds.
pub(super) async fn exemplars(state: &Shared, call: &Call) -> Result {
    call.params()?.selection()?;
    constant(state, call, r#"{"status":"success","data":[]}"#).await
}

pub(super) async fn metadata(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let limit = match params.count("limit")? {
        Some(0) => return constant(state, call, r#"{"status":"success","data":{}}"#).await,
        limit => limit.unwrap_or(0),
    };
    // One description each is all there is.
    params.count("limit_per_metric")?;
    let metric = params.get("metric").unwrap_or("").to_owned();
    Ok(answered(state.backend.ask(token, Question::Metadata { metric, limit }).await?))
}

pub(super) async fn format_query(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    Ok(answered(state.backend.ask(token, Question::Format(params.query()?)).await?))
}

pub(super) async fn parse_query(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    Ok(answered(state.backend.ask(token, Question::SyntaxTree(params.query()?)).await?))
}

/// The same for everybody who has a token.
pub(super) async fn constant(state: &Shared, call: &Call, body: impl Into<Bytes>) -> Result {
    state.backend.ask(call.token()?, Question::WhoAmI).await?;
    Ok(answered(Answered { first: body.into(), rest: None }))
}
