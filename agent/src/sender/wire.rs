//! Calls to the collector: model types in, model types out.

use std::time::Duration;

use lm_mesh::{Attachment, Connected};
use lm_model::Labels;
use lm_schema::batch::{self, BatchHeader};
use lm_schema::mesh_capnp::{agent_session, batch_sink, define_outcome, receipt};

use crate::delivery::{Outcome, Outgoing, Receipt};
use crate::queue_handle::{DictionaryPart, QueueFacts};
use crate::sources::scrape::TargetStatus;

/// Opens the bulk stream.
pub async fn open_sink(
    connected: &Connected,
    agent: &agent_session::Client,
) -> Result<batch_sink::Client, capnp::Error> {
    let response = agent.bulk_ticket_request().send().promise.await?;
    let ticket = response.get()?.get_ticket()?.to_vec();
    match connected.attach(&ticket).await? {
        Attachment::Sink(sink) => Ok(sink),
        Attachment::Users(_) | Attachment::Writers(_) => {
            Err(capnp::Error::failed("the ticket is not for batches".to_owned()))
        }
    }
}

/// Sends one batch. The call is on its way when this returns; the future
/// waits for its answer.
pub fn push<P>(
    sink: &batch_sink::Client,
    batch: Outgoing<P>,
) -> impl Future<Output = (BatchHeader, Result<Receipt, capnp::Error>)> + use<P> {
    let mut request = sink.push_request();
    batch.header.write(&batch.body, request.get().init_batch());
    let (header, call) = (batch.header, request.send());
    async move {
        let receipt = async { read_receipt(call.promise.await?.get()?.get_receipt()?) };
        (header, receipt.await)
    }
}

fn read_receipt(from: receipt::Reader<'_>) -> Result<Receipt, capnp::Error> {
    let outcome = match from.which()? {
        receipt::Durable(()) => Outcome::Durable,
        receipt::Duplicate(()) => Outcome::Duplicate,
        receipt::Quarantined(()) => Outcome::Quarantined,
        receipt::Rejected(reason) => Outcome::Rejected(reason?.to_string()?),
        receipt::NeedDictionary(epoch) => Outcome::NeedDictionary(epoch),
        receipt::Unsupported(newest) => Outcome::Unsupported(newest),
        receipt::RetryAfterMs(wait) => Outcome::RetryAfter(Duration::from_millis(wait.into())),
        receipt::Gap(expected) => Outcome::Gap(expected),
    };
    Ok(Receipt {
        outcome,
        durable_end: from.get_durable_end(),
        landed_end: from.get_landed_end(),
        credit: usize::from(from.get_credit()),
        dropped_items: from.get_dropped_items(),
    })
}

/// What came of sending a dictionary.
pub enum Defined {
    Known,
    Rejected(String),
    RetryAfter(Duration),
}

/// Sends a dictionary.
pub async fn define(sink: &batch_sink::Client, part: &DictionaryPart) -> Result<Defined, capnp::Error> {
    let mut request = sink.define_request();
    batch::write_incarnation(part.incarnation, request.get().init_incarnation());
    batch::write_dictionary(part.epoch, &part.entries, request.get().init_dictionary());
    let response = request.send().promise.await?;
    Ok(match response.get()?.get_outcome()?.which()? {
        define_outcome::Durable(()) => Defined::Known,
        define_outcome::Rejected(reason) => Defined::Rejected(reason?.to_string()?),
        define_outcome::RetryAfterMs(wait) => Defined::RetryAfter(Duration::from_millis(wait.into())),
    })
}

/// Tells how targets fare.
pub async fn scraped(
    agent: &agent_session::Client,
    targets: &[(Labels, Option<TargetStatus>)],
) -> Result<(), capnp::Error> {
    let mut request = agent.scraped_request();
    let mut list = request.get().init_targets(targets.len() as u32);
    for (index, (labels, status)) in targets.iter().enumerate() {
        let mut to = list.reborrow().get(index as u32);
        if let Some(status) = status {
            to.set_url(&status.url[..]);
            to.set_error(&status.error[..]);
            to.set_interval_ms(status.interval.as_millis() as u64);
            to.set_timeout_ms(status.timeout.as_millis() as u64);
        }
        lm_schema::labels::write_pairs(labels, to.init_labels(labels.len() as u32));
    }
    request.send().promise.await?;
    Ok(())
}

/// Reports the queue; answers the collector's clock in milliseconds.
pub async fn heartbeat(
    agent: &agent_session::Client,
    unix_ms: i64,
    queue: &QueueFacts,
    dropped_items: u64,
    uptime: Duration,
) -> Result<i64, capnp::Error> {
    let mut request = agent.heartbeat_request();
    let mut facts = request.get().init_facts();
    facts.set_unix_ms(unix_ms);
    facts.set_queue_pending_bytes(queue.pending_bytes);
    facts.set_queue_pending_batches(queue.pending_batches);
    facts.set_queue_capacity_bytes(queue.capacity_bytes);
    facts.set_dropped_items(dropped_items);
    facts.set_uptime_ms(uptime.as_millis() as u64);
    let response = request.send().promise.await?;
    Ok(response.get()?.get_directives()?.get_collector_unix_ms())
}
