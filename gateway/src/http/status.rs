//! The API of Prometheus: what it says of itself. Much of it is constant here,
//! in the shape that clients expect.
//!
//! `status/flags` is not answered on purpose: a stored version of Grafana takes
//! whoever answers it for Thanos, and then asks for a ruler.

use super::call::Call;
use super::prometheus::constant;
use super::reply::answered;
use super::{Result, Shared};
use crate::backend::{Question, StatusForm, TargetFilter};
use crate::params::invalid;

/// The version of Prometheus whose API this answers like.
const PROMETHEUS_VERSION: &str = "3.5.0";
/// Entries of the lists of `status/tsdb` when nothing is said, and at most.
const TSDB_LIMIT: usize = 10;
const TSDB_LIMIT_MAX: usize = 10_000;

pub(super) async fn rules(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":{"groups":[]}}"#).await
}

pub(super) async fn alerts(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":{"alerts":[]}}"#).await
}

pub(super) async fn alertmanagers(state: &Shared, call: &Call) -> Result {
    let none = r#"{"status":"success","data":{"activeAlertmanagers":[],"droppedAlertmanagers":[]}}"#;
    constant(state, call, none).await
}

pub(super) async fn notifications(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":[]}"#).await
}

pub(super) async fn targets(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let is_active = match params.get("state") {
        None | Some("any" | "active") => true,
        Some("dropped") => false,
        Some(other) => {
            let why = format!("found {other:?}, expected \"active\", \"dropped\" or \"any\"");
            return Err(invalid("state", why));
        }
    };
    let pool = params.get("scrapePool").unwrap_or("").to_owned();
    let question = Question::Targets(TargetFilter { is_active, pool });
    Ok(answered(state.backend.ask(token, question).await?))
}

/// Which target a description came from is not known.
pub(super) async fn targets_metadata(state: &Shared, call: &Call) -> Result {
    call.params()?.count("limit")?;
    constant(state, call, r#"{"status":"success","data":[]}"#).await
}

/// Nothing here makes Grafana take us for Mimir: there is no `features`.
pub(super) async fn build_info(state: &Shared, call: &Call) -> Result {
    let body = format!(
        r#"{{"status":"success","data":{{"version":"{PROMETHEUS_VERSION}","revision":"lightmetrics-{}","branch":"lightmetrics","buildUser":"","buildDate":"","goVersion":""}}}}"#,
        env!("CARGO_PKG_VERSION")
    );
    constant(state, call, body).await
}

/// Settings may name files and users, so none are shown.
pub(super) async fn config(state: &Shared, call: &Call) -> Result {
    let yaml = r##"{"status":"success","data":{"yaml":"# lightmetrics has settings of its own\n"}}"##;
    constant(state, call, yaml).await
}

pub(super) async fn runtime_info(state: &Shared, call: &Call) -> Result {
    let question = Question::StoreStatus(StatusForm::Runtime);
    Ok(answered(state.backend.ask(call.token()?, question).await?))
}

pub(super) async fn tsdb(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let limit = params.count("limit")?.unwrap_or(TSDB_LIMIT);
    if !(1..=TSDB_LIMIT_MAX).contains(&limit) {
        let why = format!("expected a number from 1 to {TSDB_LIMIT_MAX}");
        return Err(invalid("limit", why));
    }
    let question = Question::StoreStatus(StatusForm::Tsdb { limit });
    Ok(answered(state.backend.ask(token, question).await?))
}

/// Who answers has replayed.
pub(super) async fn wal_replay(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":{"min":0,"max":0,"current":0}}"#).await
}
