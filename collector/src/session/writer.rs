//! What a user with a write token may do: write, and above all not read.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lm_mesh::{Grant, Peer, Principal};
use lm_model::Labels;
use lm_schema::DecodeLimits;
use lm_schema::batch::BatchHeader;
use lm_schema::mesh_capnp::{write_receipt, writer};

use super::CollectorHost;
use super::rates::{Cost, Limiter};
use crate::ingest::{WRITER_PREFIX, Write, Written, stamp_writer};
use crate::metadata::Description;

/// Metrics of one call that are described.
const DESCRIBED_MAX: u32 = 4096;

pub struct WriterServer {
    host: Arc<CollectorHost>,
    peer: Rc<Peer>,
    grant: Grant,
    agent: Arc<str>,
    /// What the credential decides, whatever a series says.
    stamp: Labels,
    series_max: u32,
    /// `None`: it may send any amount.
    limiter: Option<Arc<Mutex<Limiter>>>,
}

impl WriterServer {
    pub fn new(host: Arc<CollectorHost>, peer: Rc<Peer>, grant: Grant, user: &Principal) -> Self {
        let agent: Arc<str> = format!("{WRITER_PREFIX}{}", user.name).into();
        let scope = &user.scope;
        let limiter = host.writer_limiters.of(&agent, scope.rates, |_| true);
        let stamp = stamp_writer(&user.name, &scope.labels);
        let series_max = scope.series_max.unwrap_or(u32::MAX);
        WriterServer { host, peer, grant, agent, stamp, series_max, limiter }
    }

    fn with_limiter<T>(&self, work: impl FnOnce(&mut Limiter) -> T) -> Option<T> {
        let limiter = self.limiter.as_ref()?;
        Some(work(&mut limiter.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl writer::Server for WriterServer {
    async fn write(
        self: Rc<Self>,
        params: writer::WriteParams,
        mut results: writer::WriteResults,
    ) -> Result<(), capnp::Error> {
        let write = {
            let params = params.get()?;
            let from = params.get_batch()?;
            let body = from.get_body()?;
            let header = match BatchHeader::read(from) {
                Ok(header) => header,
                Err(error) => {
                    results.get().init_receipt().set_rejected(&error.to_string()[..]);
                    return Ok(());
                }
            };
            Write {
                grant: Some(self.grant.clone()),
                agent: self.agent.clone(),
                stamp: self.stamp.clone(),
                client: params.get_client(),
                series_max: self.series_max,
                header,
                // Taken over before the message gives back its own.
                lease: Some(self.peer.session.lease_now(body.len())),
                body: body.to_vec(),
            }
        };
        drop(params);
        let cost = Cost {
            samples: write.header.item_count.min(DecodeLimits::WRITER.samples_per_batch_max),
            lines: 0,
            bytes: u32::try_from(write.body.len()).unwrap_or(u32::MAX),
        };
        if let Some(Err(wait)) = self.with_limiter(|limiter| limiter.take(cost, Instant::now())) {
            results.get().init_receipt().set_limited_ms(wait.as_millis() as u32);
            return Ok(());
        }
        let written = self.host.ingest.write(write).await;
        if matches!(written, Written::NeedDictionary | Written::RetryAfter(_)) {
            self.with_limiter(|limiter| limiter.give_back(cost));
        }
        if written == Written::Revoked {
            return self.grant.check();
        }
        answer(&written, results.get().init_receipt());
        Ok(())
    }

    async fn describe(
        self: Rc<Self>,
        params: writer::DescribeParams,
        _: writer::DescribeResults,
    ) -> Result<(), capnp::Error> {
        for metric in params.get()?.get_metrics()?.iter().take(DESCRIBED_MAX as usize) {
            let (name, kind) = (metric.get_name()?.to_str()?, metric.get_type()?.to_str()?);
            let described =
                Description::written(kind, metric.get_help()?.to_str()?, metric.get_unit()?.to_str()?);
            self.host.queries.metadata.describe_written(name, described);
        }
        Ok(())
    }
}

fn answer(from: &Written, mut to: write_receipt::Builder<'_>) {
    let count = |items: u64| u32::try_from(items).unwrap_or(u32::MAX);
    match from {
        Written::Stored(refused) => {
            to.set_stored(());
            to.set_too_old_items(count(refused.too_old));
            to.set_conflict_items(count(refused.conflicts));
            to.set_series_limit_items(count(refused.series_limit));
        }
        Written::Rejected(why) => to.set_rejected(&why[..]),
        Written::NeedDictionary => to.set_need_dictionary(()),
        Written::RetryAfter(wait) => to.set_retry_after_ms(wait.as_millis() as u32),
        Written::Revoked => unreachable!("write() answers with the grant's own error"),
    }
}
