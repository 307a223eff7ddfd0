//! What a collector promises, in memory: dedupe by sequence, dictionaries,
//! gaps; and refusals on request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use capnp_rpc::new_client;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, Credentials, Host, Peer, Principal, Refusal, Role, Server,
    ServerConfig, TokenTable, token_digest,
};
use lm_model::{Incarnation, Labels, Loss, Resume, Stream};
use lm_schema::DecodeLimits;
use lm_schema::batch::{self, BatchHeader, Body, decode_body};
use lm_schema::mesh_capnp::{agent_session, batch_sink, receipt};

use super::{Place, TOKEN};

/// What is stored, and what to do wrong. Survives a restart of the server.
#[derive(Default)]
pub struct Store {
    pub cluster_id: Vec<u8>,
    /// The end of each stream and incarnation.
    pub ends: BTreeMap<(Stream, Incarnation), u64>,
    pub dictionaries: BTreeMap<(Incarnation, u32), Vec<Labels>>,
    /// Lines with the file that they came from.
    pub lines: Vec<(String, String)>,
    /// Every sample, by series.
    pub samples: BTreeMap<String, Vec<f64>>,
    pub losses: Vec<Loss>,
    pub duplicates: usize,
    pub heartbeats: usize,
    pub defines: usize,
    pub pushes: usize,
    /// Answers to give to the next pushes instead of looking at them.
    pub next_answers: Vec<Answer>,
    pub deny: bool,
}

#[derive(Clone, Debug)]
pub enum Answer {
    RetryAfter(u32),
    Reject,
}

#[derive(Clone)]
pub struct Shared(pub Arc<Mutex<Store>>);

impl Shared {
    pub fn new(cluster: &str) -> Self {
        let store = Store { cluster_id: cluster.as_bytes().to_vec(), ..Store::default() };
        Shared(Arc::new(Mutex::new(store)))
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Store) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    pub fn lines(&self) -> Vec<String> {
        self.with(|store| store.lines.iter().map(|(_, line)| line.clone()).collect())
    }

    /// Starts listening, on `port` or any.
    pub fn listen(&self, place: &Place, port: u16) -> Server {
        let mut table = TokenTable::default();
        table.add(token_digest(TOKEN).unwrap(), Principal::new("web-1", Role::Agent)).unwrap();
        let credentials = Credentials::new(table);
        let config = ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            transport: lm_mesh::Transport::Auto,
            keep_alive: lm_mesh::KeepAlive::default(),
            operator_socket: None,
            certificate: place.path("cert.pem"),
            key: place.path("key.pem"),
            reset_key: [7; 64],
            workers: 1,
        };
        Server::start(config, credentials, lm_mesh::Registry::default(), Arc::new(TestHost(self.clone())))
            .unwrap()
    }
}

struct TestHost(Shared);

impl Host for TestHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        Box::pin(async move {
            let shared = self.0.clone();
            let (cluster_id, deny, resume) = shared.with(|store| {
                let ends = store.ends.iter().map(|((stream, incarnation), end)| Resume {
                    stream: *stream,
                    incarnation: *incarnation,
                    durable_end: *end,
                    landed_end: *end,
                });
                (store.cluster_id.clone(), store.deny, ends.collect())
            });
            if deny {
                return Err(Refusal { code: "denied", message: "by the operator".to_owned() });
            }
            let session = Session { shared, peer };
            Ok(Admission {
                cluster_id,
                resume,
                limits: DecodeLimits::default(),
                batch_bytes_max: 1 << 20,
                calls_in_flight_max: 8,
                capability: Capability::Agent(new_client(session)),
            })
        })
    }
}

struct Session {
    shared: Shared,
    peer: Rc<Peer>,
}

impl agent_session::Server for Session {
    async fn heartbeat(
        self: Rc<Self>,
        _: agent_session::HeartbeatParams,
        mut results: agent_session::HeartbeatResults,
    ) -> Result<(), capnp::Error> {
        self.shared.with(|store| store.heartbeats += 1);
        results.get().init_directives();
        Ok(())
    }

    async fn bulk_ticket(
        self: Rc<Self>,
        _: agent_session::BulkTicketParams,
        mut results: agent_session::BulkTicketResults,
    ) -> Result<(), capnp::Error> {
        let sink = new_client(Sink { shared: self.shared.clone() });
        let ticket = self.peer.tickets.issue(Attachment::Sink(sink))?;
        results.get().set_ticket(&ticket);
        Ok(())
    }
}

struct Sink {
    shared: Shared,
}

impl batch_sink::Server for Sink {
    async fn push(
        self: Rc<Self>,
        params: batch_sink::PushParams,
        mut results: batch_sink::PushResults,
    ) -> Result<(), capnp::Error> {
        let batch = params.get()?.get_batch()?;
        let header = BatchHeader::read(batch).map_err(|error| capnp::Error::failed(error.to_string()))?;
        let body = batch.get_body()?.to_vec();
        let mut receipt = results.get().init_receipt();
        self.shared.with(|store| store.push(&header, &body, receipt.reborrow()));
        receipt.set_credit(8);
        Ok(())
    }

    async fn define(
        self: Rc<Self>,
        params: batch_sink::DefineParams,
        mut results: batch_sink::DefineResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let incarnation = batch::read_incarnation(params.get_incarnation()?);
        let (epoch, entries) = batch::read_dictionary(params.get_dictionary()?, &DecodeLimits::default())
            .map_err(|error| capnp::Error::failed(error.to_string()))?;
        self.shared.with(|store| {
            store.defines += 1;
            store.dictionaries.insert((incarnation, epoch), entries);
        });
        results.get().init_outcome().set_durable(());
        Ok(())
    }
}

impl Store {
    fn push(&mut self, header: &BatchHeader, body: &[u8], mut receipt: receipt::Builder<'_>) {
        self.pushes += 1;
        let key = (header.id.stream, header.id.incarnation);
        let end = self.ends.get(&key).copied().unwrap_or(0);
        receipt.set_durable_end(end);
        receipt.set_landed_end(end);
        if !self.next_answers.is_empty() {
            match self.next_answers.remove(0) {
                Answer::RetryAfter(wait) => return receipt.set_retry_after_ms(wait),
                Answer::Reject => {
                    self.ends.insert(key, header.sequence_end);
                    receipt.set_durable_end(header.sequence_end);
                    return receipt.set_rejected("on request");
                }
            }
        }
        if header.sequence_end <= end {
            self.duplicates += 1;
            return receipt.set_duplicate(());
        }
        if header.id.sequence != end {
            return receipt.set_gap(end);
        }
        let dictionary =
            self.dictionaries.entry((header.id.incarnation, header.dictionary_epoch)).or_default();
        if dictionary.len() < header.dictionary_length as usize {
            return receipt.set_need_dictionary(header.dictionary_epoch);
        }
        let decoded = decode_body(header, body, &DecodeLimits::default()).unwrap();
        dictionary.truncate(header.dictionary_length as usize);
        dictionary.extend(decoded.new_entries);
        match decoded.body {
            Body::Samples(columns) => {
                for (reference, value) in columns.references.iter().zip(&columns.values) {
                    let series = dictionary[*reference as usize].to_string();
                    self.samples.entry(series).or_default().push(*value);
                }
            }
            Body::Logs(columns) => {
                for (reference, _, line) in columns.iter() {
                    let file = dictionary[reference as usize].get("filename").unwrap();
                    self.lines.push((file.to_owned(), String::from_utf8_lossy(line).into_owned()));
                }
            }
            Body::Loss { items, bytes, reason } => self.losses.push(header.loss(items, bytes, reason)),
            Body::Histograms(_) | Body::Events(_) => {}
        }
        self.ends.insert(key, header.sequence_end);
        receipt.set_durable_end(header.sequence_end);
        receipt.set_landed_end(header.sequence_end);
        receipt.set_durable(());
    }
}
