//! Every method of every interface, with parameters that no client of ours
//! sends: an answer with a stable code or a failure that the schema has, in
//! time, and never a panic. The bootstraps are in the mesh's own tests.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use capnp::any_pointer;
use capnp::capability::{Client, FromClientHook};
use lm_mesh::{Attachment, Connected, Granted};
use lm_schema::batch_capnp::batch;
use lm_schema::interfaces::INTERFACES;
use lm_schema::mesh_capnp::{authenticated, grant, user_gate};
use lm_schema::operator_capnp::session_facts;
use lm_schema::query_capnp::answer;
use lm_tests::mesh::{MeshConfig, MeshSession, block_on, code_of};
use lm_tests::operator::OperatorSession;
use lm_tests::{System, system_options};

type Shape = (&'static str, fn(any_pointer::Builder<'_>));

const SHAPES: [Shape; 8] = [
    ("absent", |mut to| to.clear()),
    ("a text", |to| to.initn_as::<capnp::text::Builder<'_>>(3).push_str("abc")),
    ("a list", |to| {
        let _: capnp::primitive_list::Builder<'_, u64> = to.initn_as(100);
    }),
    ("texts that are none", |to| {
        let mut to: session_facts::Builder<'_> = to.init_as();
        to.reborrow().init_identity(3).as_bytes_mut().fill(0xff);
        to.reborrow().init_product(3).as_bytes_mut().fill(0xff);
        to.reborrow().init_version(3).as_bytes_mut().fill(0xff);
    }),
    ("numbers of all ones", |to| {
        let mut to: session_facts::Builder<'_> = to.init_as();
        to.set_id(u64::MAX);
        to.set_connected_unix_ms(-1);
        to.set_last_heartbeat_unix_ms(-1);
        to.set_clock_skew_ms(-1);
        to.set_queue_pending_bytes(u64::MAX);
    }),
    ("a batch", |to| {
        let mut to: batch::Builder<'_> = to.init_as();
        to.set_sequence(u64::MAX);
        to.set_body(&[0xff; 20_000]);
    }),
    ("structs of another kind", |to| {
        let mut to: grant::Builder<'_> = to.init_as();
        to.set_cluster_id(&[0; 4096]);
        to.reborrow().init_resume(10);
        to.init_limits();
    }),
    ("long texts", |to| {
        let long = "x".repeat(16_000);
        let mut to: session_facts::Builder<'_> = to.init_as();
        to.set_identity(&long[..]);
        to.set_product(&long[..]);
    }),
];

/// Long polls wait 20 s at most, whatever they are asked.
const PATIENCE: Duration = Duration::from_secs(25);

/// One of each capability, by interface, and the sessions that hold them.
struct Held {
    clients: BTreeMap<&'static str, Client>,
    _sessions: Vec<Connected>,
}

async fn hold(system: &System) -> Held {
    let as_token = |name: &str| MeshConfig { token: system.path(name), ..MeshConfig::of(system, "m") };
    let mut clients = BTreeMap::new();
    let agent = MeshSession::open(&as_token("token-m"), &[]).await.unwrap();
    clients.insert("AgentSession", untyped(agent.agent.clone()));
    clients.insert("BatchSink", untyped(agent.sink.clone()));

    let operator = OperatorSession::open(&as_token("operator-token")).await.unwrap();
    clients.insert("Operator", untyped(operator.operator.clone()));
    let tap = operator.operator.tap_request().send().promise.await.unwrap();
    clients.insert("Tap", untyped(tap.get().unwrap().get_tap().unwrap()));

    let gateway = as_token("gateway-token").dial(&[]).await.unwrap();
    let Granted::Gateway(session) = gateway.granted.clone() else { panic!("not a gateway") };
    clients.insert("GatewaySession", untyped(session.clone()));
    let ticket = session.query_ticket_request().send().promise.await.unwrap();
    let users = gate(&gateway, ticket.get().unwrap().get_ticket().unwrap()).await;
    clients.insert("UserGate", untyped(users.clone()));
    let response = authenticate(system, &users, "query-token").await;
    let authenticated::User(user) = response.get().unwrap().get_result().unwrap().which().unwrap() else {
        panic!("refused")
    };
    let reader = user.unwrap().get_reader().unwrap();
    clients.insert("Reader", untyped(reader.clone()));
    let mut request = reader.query_request();
    request.get().set_expression("1 + 1");
    let response = request.send().promise.await.unwrap();
    let answer::Ok(opened) = response.get().unwrap().get_answer().unwrap().which().unwrap() else {
        panic!("failed")
    };
    clients.insert("Cursor", untyped(opened.unwrap().get_cursor().unwrap()));
    let tail = reader.tail_request().send().promise.await.unwrap();
    clients.insert("Tail", untyped(tail.get().unwrap().get_tail().unwrap()));
    let ticket = session.write_ticket_request().send().promise.await.unwrap();
    let users = gate(&gateway, ticket.get().unwrap().get_ticket().unwrap()).await;
    let response = authenticate(system, &users, "write-token").await;
    let authenticated::User(user) = response.get().unwrap().get_result().unwrap().which().unwrap() else {
        panic!("refused")
    };
    clients.insert("Writer", untyped(user.unwrap().get_writer().unwrap()));
    Held { clients, _sessions: vec![agent.connected, operator.connected, gateway] }
}

async fn gate(gateway: &Connected, ticket: &[u8]) -> user_gate::Client {
    let Attachment::Users(users) = gateway.attach(ticket).await.unwrap() else { panic!("not users") };
    users
}

async fn authenticate(
    system: &System,
    users: &user_gate::Client,
    token_file: &str,
) -> capnp::capability::Response<user_gate::authenticate_results::Owned> {
    let mut request = users.authenticate_request();
    let token = fs::read_to_string(system.path(token_file)).unwrap();
    request.get().init_credential().set_bearer(token.trim());
    request.send().promise.await.unwrap()
}

fn untyped(client: impl FromClientHook) -> Client {
    Client { hook: client.into_client_hook() }
}

/// What an answer may not be; `None` when it is fine.
fn complaint(error: Option<&capnp::Error>) -> Option<String> {
    let error = error?;
    let words = code_of(error);
    let is_coded = ["invalid:", "overloaded:", "denied:"].iter().any(|code| words.starts_with(code));
    let is_known = error.kind == capnp::ErrorKind::Unimplemented;
    (!is_coded && !is_known).then_some(words)
}

#[test]
fn every_method_answers_whatever_it_is_sent() {
    let mut system = System::with(system_options(&[], &["m"]));
    system.collector.start();
    system.wait_collector();
    let complaints = block_on(async {
        let held = hold(&system).await;
        let (mut calls, mut seen) = (Vec::new(), Vec::new());
        for interface in INTERFACES.iter().filter(|interface| !interface.methods.is_empty()) {
            let Some(client) = held.clients.get(interface.name) else {
                seen.push(interface.name);
                continue;
            };
            for (ordinal, method) in interface.methods.iter().enumerate() {
                for (shape, fill) in SHAPES {
                    // Its `all` would end the sessions of this test.
                    if method.name == "revokeSessions" && shape == "numbers of all ones" {
                        continue;
                    }
                    let mut request = client.new_call::<any_pointer::Owned, any_pointer::Owned>(
                        interface.id,
                        ordinal as u16,
                        None,
                    );
                    fill(request.get());
                    let name = format!("{}.{} with {shape}", interface.name, method.name);
                    let call = async move {
                        match tokio::time::timeout(PATIENCE, request.send().promise).await {
                            Ok(answer) => {
                                complaint(answer.err().as_ref()).map(|why| format!("{name}: {why}"))
                            }
                            Err(_) => Some(format!("{name}: no answer")),
                        }
                    };
                    if method.signature.contains("waitMs ") {
                        calls.push(tokio::task::spawn_local(call));
                    } else {
                        calls.push(tokio::task::spawn_local(std::future::ready(call.await)));
                    }
                }
            }
        }
        seen.sort_unstable();
        // The first is an agent's, which the collector calls.
        assert_eq!(seen, ["AgentControl", "Attach", "Gate"], "an interface that this test does not know");
        let mut complaints = Vec::new();
        for call in calls {
            complaints.extend(call.await.unwrap());
        }
        complaints
    });
    assert!(complaints.is_empty(), "{complaints:#?}");
    let status = lm_tests::operator::as_operator(&system, async |operator| operator.status().await);
    assert_eq!(status.panics, 0);
    assert!(!system.collector.log_text().contains("panicked"));
}
