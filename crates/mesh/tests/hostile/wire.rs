//! RPC messages by hand, and a peer that sends them.

use std::time::Duration;

use capnp::message::{Builder, HeapAllocator};
use capnp::traits::HasTypeId;
use capnp_rpc::rpc_capnp::{call, cap_descriptor, message, return_};
use lm_schema::mesh_capnp::{agent_session, attach, batch_sink};

/// One stream, as bytes.
pub struct Wire {
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
}

pub enum Target {
    Import(u32),
    Answer(u32),
}

pub fn rpc(build: impl FnOnce(message::Builder<'_>)) -> Builder<HeapAllocator> {
    let mut message = Builder::new_default();
    build(message.init_root());
    message
}

pub fn bootstrap(id: u32) -> Builder<HeapAllocator> {
    rpc(|root| root.init_bootstrap().set_question_id(id))
}

pub fn finish(id: u32, releases: bool) -> Builder<HeapAllocator> {
    rpc(|root| {
        let mut finish = root.init_finish();
        finish.set_question_id(id);
        finish.set_release_result_caps(releases);
    })
}

impl Wire {
    pub async fn open(connection: &quinn::Connection) -> Wire {
        let (send, receive) = connection.open_bi().await.unwrap();
        Wire { send, receive }
    }

    /// The server may have hung up already: what it said is looked at later.
    pub async fn send(&mut self, message: &Builder<HeapAllocator>) {
        let _ = self.send.write_all(&capnp::serialize::write_message_to_words(message)).await;
    }

    pub fn call(
        &self,
        id: u32,
        target: Target,
        interface: u64,
        method: u16,
        fill: impl FnOnce(capnp::any_pointer::Builder<'_>),
    ) -> Builder<HeapAllocator> {
        rpc(|root| {
            let mut call: call::Builder<'_> = root.init_call();
            call.set_question_id(id);
            call.set_interface_id(interface);
            call.set_method_id(method);
            call.reborrow().get_send_results_to().set_caller(());
            match target {
                Target::Import(import) => call.reborrow().init_target().set_imported_cap(import),
                Target::Answer(on) => {
                    call.reborrow().init_target().init_promised_answer().set_question_id(on);
                }
            }
            fill(call.init_params().init_content());
        })
    }

    pub fn push(&self, id: u32, target: Target, body: &[u8]) -> Builder<HeapAllocator> {
        self.call(id, target, batch_sink::Client::TYPE_ID, 0, |params| {
            let mut params: batch_sink::push_params::Builder<'_> = params.init_as();
            params.reborrow().init_batch().set_body(body);
        })
    }

    /// Waits for the answer of a question: the message, and the references.
    pub async fn answer(
        &mut self,
        id: u32,
    ) -> (capnp::message::Reader<capnp::serialize::OwnedSegments>, Vec<u32>) {
        loop {
            let read = capnp_futures::serialize::read_message(&mut self.receive, Default::default());
            let read = read.await.expect("an answer");
            let references = match read.get_root::<message::Reader<'_>>().unwrap().which() {
                Ok(message::Return(Ok(returned))) if returned.get_answer_id() == id => match returned.which()
                {
                    Ok(return_::Results(Ok(results))) => {
                        let table = results.get_cap_table().unwrap();
                        Some(table.iter().map(hosted).collect())
                    }
                    Ok(return_::Exception(Ok(error))) => panic!("{:?}", error.get_reason()),
                    _ => Some(Vec::new()),
                },
                _ => None,
            };
            if let Some(references) = references {
                return (read, references);
            }
        }
    }
}

fn hosted(descriptor: cap_descriptor::Reader<'_>) -> u32 {
    match descriptor.which() {
        Ok(cap_descriptor::SenderHosted(id)) => id,
        _ => panic!("not a hosted capability"),
    }
}

pub struct Hostile {
    pub _endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    pub control: Wire,
    pub agent: u32,
}

impl Hostile {
    /// A bulk stream, and the sink on it.
    pub async fn bulk(&mut self, id: u32) -> (Wire, Target) {
        let agent = Target::Import(self.agent);
        let request = self.control.call(id, agent, agent_session::Client::TYPE_ID, 1, |_| {});
        self.control.send(&request).await;
        let (message, _) = self.control.answer(id).await;
        let Ok(message::Return(Ok(returned))) = message.get_root::<message::Reader<'_>>().unwrap().which()
        else {
            panic!("not a return")
        };
        let Ok(return_::Results(Ok(results))) = returned.which() else { panic!("no results") };
        let results: agent_session::bulk_ticket_results::Reader<'_> = results.get_content().get_as().unwrap();
        let ticket = results.get_ticket().unwrap();

        let mut wire = Wire::open(&self.connection).await;
        wire.send(&bootstrap(0)).await;
        let request = wire.call(1, Target::Answer(0), attach::Client::TYPE_ID, 0, |params| {
            let mut params: attach::attach_params::Builder<'_> = params.init_as();
            params.set_ticket(ticket);
        });
        wire.send(&request).await;
        let sink = wire.answer(1).await.1[0];
        (wire, Target::Import(sink))
    }

    /// Waits for the end of the connection.
    pub async fn ended_because(&self, expected: &str) {
        let closed = tokio::time::timeout(Duration::from_secs(10), self.connection.closed()).await;
        let reason = closed.expect("the connection goes on").to_string();
        assert!(reason.contains(expected), "{reason}, not {expected}");
        let quinn::ConnectionError::ApplicationClosed(close) = self.connection.close_reason().unwrap() else {
            panic!("{reason}")
        };
        assert_eq!(close.error_code.into_inner(), 4, "{reason}");
    }
}

impl Target {
    pub fn same(&self) -> Target {
        match self {
            Target::Import(id) => Target::Import(*id),
            Target::Answer(id) => Target::Answer(*id),
        }
    }
}
