//! Batches of one request, as calls of their writer's capability.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lm_schema::batch::Kind;
use lm_schema::mesh_capnp::{write_receipt, writer};

use super::ask::in_time;
use super::users::{User, Users};
use super::{Session, failed};
use crate::backend::{Failure, FailureKind, Token};
use crate::write::{Batch, MetricText, Outcome};

/// The token's holder, if that may write.
pub(super) async fn find(session: &Session, token: &Token) -> Result<Arc<str>, Failure> {
    let user = writers(session)?.find(token).await?;
    user.writer()?;
    Ok(Arc::from(&user.name[..]))
}

fn writers(session: &Session) -> Result<&Users, Failure> {
    session.writers.as_ref().ok_or_else(|| {
        Failure::new(FailureKind::Unavailable, "the collector takes nothing from writers; is it older?")
    })
}

/// Writes all batches of a request and says what became of them together.
/// Their calls are made in order, before anything is waited for.
pub(super) async fn write(
    session: &Rc<Session>,
    token: &Token,
    client: u64,
    batches: &[Batch],
    metadata: &[MetricText],
) -> Result<Outcome, Failure> {
    let writers = writers(session)?;
    let mut is_second = false;
    loop {
        let user = writers.find(token).await?;
        let result = send(session.patience, &user, client, batches, metadata).await;
        if let Err(Failure { kind: FailureKind::Unauthorized, .. }) = &result {
            // The capability is void; the token may still be worth another.
            writers.forget(token);
            if !is_second {
                is_second = true;
                continue;
            }
        }
        return result;
    }
}

async fn send(
    patience: Duration,
    user: &User,
    client: u64,
    batches: &[Batch],
    metadata: &[MetricText],
) -> Result<Outcome, Failure> {
    let writer = user.writer()?;
    let calls: Vec<_> = batches
        .iter()
        .map(|Batch { header, body }| {
            let mut request = writer.write_request();
            request.get().set_client(client);
            header.write(body, request.get().init_batch());
            in_time(patience, request.send().promise)
        })
        .collect();
    if !metadata.is_empty() {
        describe(writer, metadata);
    }
    let mut outcome = Outcome::default();
    for (answered, batch) in join_all(calls).await.into_iter().zip(batches) {
        let response = answered?;
        let receipt = response.get().and_then(|results| results.get_receipt());
        add(&mut outcome, batch.header.kind, receipt.map_err(|error| failed(&error))?)?;
    }
    Ok(outcome)
}

/// Nobody waits for it: what metrics mean is told again and again.
fn describe(writer: &writer::Client, metadata: &[MetricText]) {
    let mut request = writer.describe_request();
    let mut list = request.get().init_metrics(metadata.len() as u32);
    for (index, metric) in metadata.iter().enumerate() {
        let mut to = list.reborrow().get(index as u32);
        to.set_name(&metric.name[..]);
        to.set_type(metric.kind);
        to.set_help(&metric.help[..]);
        to.set_unit(&metric.unit[..]);
    }
    let described = request.send().promise;
    tokio::task::spawn_local(async move {
        if let Err(error) = described.await {
            tracing::debug!(%error, "the collector takes no descriptions");
        }
    });
}

fn add(outcome: &mut Outcome, kind: Kind, receipt: write_receipt::Reader<'_>) -> Result<(), Failure> {
    match receipt.which().map_err(|error| failed(&error.into()))? {
        write_receipt::Stored(()) => {
            let too_old = u64::from(receipt.get_too_old_items());
            let conflicts = u64::from(receipt.get_conflict_items());
            let series_limit = u64::from(receipt.get_series_limit_items());
            outcome.too_old += too_old;
            outcome.conflicts += conflicts;
            outcome.series_limit += series_limit;
            if kind == Kind::Histograms {
                outcome.histograms += too_old + conflicts + series_limit;
            }
            Ok(())
        }
        write_receipt::NeedDictionary(()) => {
            outcome.needs_dictionary = true;
            Ok(())
        }
        write_receipt::Rejected(why) => {
            let why = why.map_err(|error| failed(&error))?.to_string().unwrap_or_default();
            Err(Failure::new(FailureKind::BadData, why))
        }
        write_receipt::RetryAfterMs(_) => {
            Err(Failure::new(FailureKind::Overloaded, "the collector has no room just now; write it again"))
        }
        write_receipt::LimitedMs(wait) => {
            let wait = Duration::from_millis(wait.into());
            Err(Failure::new(
                FailureKind::Limited { wait },
                "over the rate of this writer; write it again later",
            ))
        }
    }
}
