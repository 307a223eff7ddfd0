//! An agent of our own making: the product's mesh, and batches as the test
//! wants them.

use std::path::PathBuf;
use std::time::Duration;

use lm_mesh::{Attachment, Connected, DialError, Dialer, DialerConfig, Granted, PeerDescription, Transport};
use lm_model::{BatchId, Incarnation, Labels, Stream, Timestamp};
use lm_schema::batch::{self, BatchHeader, Body, EncodedBody, Encoder, LogColumns, SampleColumns};
use lm_schema::mesh_capnp::{agent_session, batch_sink, define_outcome, receipt};

use crate::System;

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `future` where mesh clients can live.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// The collector's answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Durable,
    Duplicate,
    Rejected(String),
    NeedDictionary(u32),
    Unsupported(u16),
    RetryAfterMs(u32),
    Gap(u64),
    Quarantined,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub outcome: Outcome,
    pub durable_end: u64,
    pub dropped_items: u64,
}

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    pub endpoint: String,
    pub ca: PathBuf,
    pub token: PathBuf,
}

impl MeshConfig {
    /// As the agent `name` of a system.
    pub fn of(system: &System, name: &str) -> Self {
        MeshConfig {
            endpoint: system.mesh_addr().to_string(),
            ca: system.path("ca.pem"),
            token: system.path(&format!("token-{name}")),
        }
    }

    /// Opens a session with whatever the token is worth.
    ///
    /// # Errors
    ///
    /// As [`Dialer::dial`].
    pub async fn dial(&self, held: &[(Stream, Incarnation)]) -> Result<Connected, DialError> {
        let config = DialerConfig {
            endpoints: vec![self.endpoint.clone()],
            server_name: None,
            ca: self.ca.clone(),
            token: self.token.clone(),
            transport: Transport::Auto,
            retry_quic_after: Duration::from_secs(300),
            keep_alive: lm_mesh::KeepAlive::default(),
        };
        let peer = PeerDescription {
            product: "lm-test".to_owned(),
            version: "0".to_owned(),
            hostname: "test".to_owned(),
            ..PeerDescription::default()
        };
        Dialer::new(config).dial(&peer, &[], held).await
    }
}

/// A session of an agent with its bulk stream.
pub struct MeshSession {
    pub connected: Connected,
    pub agent: agent_session::Client,
    pub sink: batch_sink::Client,
    /// How long to wait for an answer.
    pub patience: Duration,
}

impl MeshSession {
    /// Logs in and attaches.
    ///
    /// # Errors
    ///
    /// When either is refused or nobody answers.
    pub async fn open(config: &MeshConfig, held: &[(Stream, Incarnation)]) -> Result<MeshSession, String> {
        let connected = config.dial(held).await.map_err(|error| error.to_string())?;
        let Granted::Agent(agent) = connected.granted.clone() else {
            return Err("the token is not an agent's".to_owned());
        };
        let sink = in_time(PATIENCE, attach(&connected, &agent)).await.map_err(|error| error.to_string())?;
        Ok(MeshSession { connected, agent, sink, patience: PATIENCE })
    }

    /// Sends one batch and waits for the answer.
    ///
    /// # Errors
    ///
    /// When there is no answer or it is an error.
    pub async fn push(&self, batch: &Batch) -> Result<Receipt, capnp::Error> {
        let mut request = self.sink.push_request();
        batch.header.write(&batch.body, request.get().init_batch());
        in_time(self.patience, async { read_receipt(request.send().promise.await?.get()?.get_receipt()?) })
            .await
    }

    /// Reports a queue of which nothing is known.
    ///
    /// # Errors
    ///
    /// When there is no answer or it is an error.
    pub async fn heartbeat(&self) -> Result<(), capnp::Error> {
        let request = self.agent.heartbeat_request();
        in_time(self.patience, async { request.send().promise.await.map(drop) }).await
    }

    /// Sends a dictionary. The inner error is the collector's word.
    ///
    /// # Errors
    ///
    /// When there is no answer or it is an error.
    pub async fn define(
        &self,
        incarnation: Incarnation,
        epoch: u32,
        entries: &[Labels],
    ) -> Result<Result<(), String>, capnp::Error> {
        let mut request = self.sink.define_request();
        batch::write_incarnation(incarnation, request.get().init_incarnation());
        batch::write_dictionary(epoch, entries, request.get().init_dictionary());
        in_time(self.patience, async {
            let response = request.send().promise.await?;
            Ok(match response.get()?.get_outcome()?.which()? {
                define_outcome::Durable(()) => Ok(()),
                define_outcome::Rejected(why) => Err(why?.to_string()?),
                define_outcome::RetryAfterMs(wait) => Err(format!("retry after {wait} ms")),
            })
        })
        .await
    }
}

/// The bulk stream of an agent's session.
///
/// # Errors
///
/// When there is no answer or it is an error.
pub async fn attach(
    connected: &Connected,
    agent: &agent_session::Client,
) -> Result<batch_sink::Client, capnp::Error> {
    let response = agent.bulk_ticket_request().send().promise.await?;
    let ticket = response.get()?.get_ticket()?.to_vec();
    match connected.attach(&ticket).await? {
        Attachment::Sink(sink) => Ok(sink),
        Attachment::Users(_) | Attachment::Writers(_) => Err(capnp::Error::failed("not a sink".to_owned())),
    }
}

pub(crate) async fn in_time<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, capnp::Error> {
    tokio::time::timeout(patience, call)
        .await
        .unwrap_or_else(|_| Err(capnp::Error::overloaded(format!("no answer within {patience:?}"))))
}

/// The collector's own words, its stable code first.
pub fn code_of(error: &capnp::Error) -> String {
    let text = error.to_string();
    text.split_once("remote exception: ").map_or(&text[..], |(_, words)| words).to_owned()
}

fn read_receipt(from: receipt::Reader<'_>) -> Result<Receipt, capnp::Error> {
    let outcome = match from.which()? {
        receipt::Durable(()) => Outcome::Durable,
        receipt::Duplicate(()) => Outcome::Duplicate,
        receipt::Rejected(why) => Outcome::Rejected(why?.to_string()?),
        receipt::NeedDictionary(epoch) => Outcome::NeedDictionary(epoch),
        receipt::Unsupported(newest) => Outcome::Unsupported(newest),
        receipt::RetryAfterMs(wait) => Outcome::RetryAfterMs(wait),
        receipt::Gap(expected) => Outcome::Gap(expected),
        receipt::Quarantined(()) => Outcome::Quarantined,
    };
    Ok(Receipt { outcome, durable_end: from.get_durable_end(), dropped_items: from.get_dropped_items() })
}

/// A batch as it travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub header: BatchHeader,
    pub body: Vec<u8>,
}

/// Makes the batches of one incarnation, each with its place in its stream.
pub struct BatchMaker {
    pub incarnation: Incarnation,
    encoder: Encoder,
    next: [u64; 3],
    items: [u64; 3],
    /// The dictionary of epoch 1.
    pub entries: Vec<Labels>,
}

/// The one dictionary epoch of a [`BatchMaker`].
pub const EPOCH: u32 = 1;

impl BatchMaker {
    /// # Panics
    ///
    /// When there is no memory for compression.
    pub fn new(ordinal: u64) -> BatchMaker {
        BatchMaker {
            incarnation: Incarnation { ordinal, nonce: 0x7e57 },
            encoder: Encoder::new().expect("compression needs only memory"),
            next: [0; 3],
            items: [0; 3],
            entries: Vec::new(),
        }
    }

    /// One sample of one series at each time.
    pub fn samples(&mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Batch {
        let length = self.entries.len() as u32;
        let (reference, new) = self.reference(labels);
        let columns = SampleColumns {
            times: samples.iter().map(|(time, _)| Timestamp::from_millis(*time)).collect(),
            lengths: vec![1; samples.len()],
            references: vec![reference; samples.len()],
            values: samples.iter().map(|(_, value)| *value).collect(),
        };
        self.batch(Stream::Metrics, length, &new, &Body::Samples(columns))
    }

    /// Lines of one stream.
    pub fn lines<'a>(
        &mut self,
        labels: &[(&str, &str)],
        lines: impl IntoIterator<Item = (i64, &'a str)>,
    ) -> Batch {
        let length = self.entries.len() as u32;
        let (reference, new) = self.reference(labels);
        let mut columns = LogColumns::default();
        for (time, line) in lines {
            columns.push(reference, time, line.as_bytes());
        }
        self.batch(Stream::Logs, length, &new, &Body::Logs(columns))
    }

    fn reference(&mut self, labels: &[(&str, &str)]) -> (u32, Vec<Labels>) {
        let labels = Labels::from_pairs(labels.iter().copied());
        match self.entries.iter().position(|known| *known == labels) {
            Some(known) => (known as u32, Vec::new()),
            None => {
                self.entries.push(labels.clone());
                (self.entries.len() as u32 - 1, vec![labels])
            }
        }
    }

    fn batch(&mut self, stream: Stream, length: u32, new: &[Labels], body: &Body) -> Batch {
        let body = self.encoder.encode(new, body).expect("bodies in memory can be encoded");
        self.place(stream, length, body)
    }

    /// Gives a body the next place of a stream.
    pub fn place(&mut self, stream: Stream, dictionary_length: u32, body: EncodedBody) -> Batch {
        let at = stream as usize;
        let id = BatchId { stream, incarnation: self.incarnation, sequence: self.next[at] };
        let header = BatchHeader::new(id, self.items[at], EPOCH, dictionary_length, &body);
        self.next[at] += 1;
        self.items[at] += u64::from(body.item_count);
        Batch { header, body: body.bytes }
    }

    /// What this incarnation holds, for a login.
    pub fn held(&self) -> Vec<(Stream, Incarnation)> {
        [Stream::Metrics, Stream::Logs].map(|stream| (stream, self.incarnation)).to_vec()
    }
}
