//! The two bootstraps, which no guard stands before: whatever a peer sends
//! them, it gets an answer with a stable code, and the others notice nothing.

mod support;

use std::sync::Arc;
use std::time::Duration;

use capnp::any_pointer;
use capnp::capability::Client;
use capnp::traits::HasTypeId;
use capnp_rpc::rpc_twoparty_capnp::Side;
use lm_mesh::Transport;
use lm_schema::mesh_capnp::{attach, gate, grant};
use lm_schema::operator_capnp::session_facts;
use support::{Bench, gateway, run_over, values};

/// A connection of our own, so that its streams' bootstraps are ours to call.
async fn connection(bench: &Bench) -> (quinn::Endpoint, quinn::Connection) {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(bench.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![lm_mesh::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, bench.addr(), "localhost").unwrap().await.unwrap();
    (endpoint, connection)
}

async fn bootstrap(connection: &quinn::Connection) -> Client {
    let (send, receive) = connection.open_bi().await.unwrap();
    let options = capnp::message::ReaderOptions::new();
    let network = capnp_rpc::twoparty::VatNetwork::new(receive, send, Side::Client, options);
    let mut system = capnp_rpc::RpcSystem::new(Box::new(network), None);
    let client: gate::Client = system.bootstrap(Side::Server);
    tokio::task::spawn_local(system);
    client.client
}

type Shape = (&'static str, fn(any_pointer::Builder<'_>));

/// Parameters that no client of ours sends.
const SHAPES: [Shape; 6] = [
    ("absent", |mut to| to.clear()),
    ("a text", |to| to.initn_as::<capnp::text::Builder<'_>>(3).push_str("abc")),
    ("a list", |to| {
        let _: capnp::primitive_list::Builder<'_, u64> = to.initn_as(100);
    }),
    ("texts that are none", |to| {
        let mut to: session_facts::Builder<'_> = to.init_as();
        for length in [2, 3] {
            to.reborrow().init_identity(length).as_bytes_mut().fill(0xff);
            to.reborrow().init_product(length).as_bytes_mut().fill(0xff);
        }
    }),
    ("numbers that are none", |to| {
        let mut to: session_facts::Builder<'_> = to.init_as();
        to.set_id(u64::MAX);
        to.set_connected_unix_ms(-1);
    }),
    ("structs of another kind", |to| {
        let mut to: grant::Builder<'_> = to.init_as();
        to.set_cluster_id(&[0; 4096]);
        to.reborrow().init_resume(10);
        to.init_limits();
    }),
];

async fn call(client: &Client, interface: u64, shape: &Shape) -> String {
    let mut request = client.new_call::<any_pointer::Owned, any_pointer::Owned>(interface, 0, None);
    shape.1(request.get());
    let answer = tokio::time::timeout(Duration::from_secs(5), request.send().promise).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer to {}", shape.0));
    answer.map_or_else(|error| error.to_string(), |_| "granted".to_owned())
}

fn is_coded(answer: &str) -> bool {
    ["invalid: ", "denied: ", "expired: "].iter().any(|code| answer.contains(&format!("exception: {code}")))
}

#[test]
fn whatever_is_sent_to_the_gate_is_refused_in_words() {
    run_over(Transport::Quic, async |bench| {
        for shape in &SHAPES {
            let (_endpoint, connection) = connection(bench).await;
            let gate = bootstrap(&connection).await;
            let answer = call(&gate, gate::Client::TYPE_ID, shape).await;
            assert!(is_coded(&answer), "{}: {answer}", shape.0);
            connection.closed().await;
        }
        assert!(bench.facts().is_empty());
        assert_eq!(bench.registry.incidents().panics.load(std::sync::atomic::Ordering::Relaxed), 0);
        bench.connect(0).await.close().await;
    });
}

#[test]
fn whatever_is_sent_to_a_stream_is_refused_in_words() {
    run_over(Transport::Quic, async |bench| {
        let (_endpoint, connection) = connection(bench).await;
        let control = bootstrap(&connection).await;
        let control = gate::Client { client: control };
        let mut request = control.login_request();
        request.get().init_credential().set_bearer("0123456789abcdef0123456789abcdef");
        let _granted = request.send().promise.await.unwrap();
        let stream = bootstrap(&connection).await;
        for shape in &SHAPES {
            let answer = call(&stream, attach::Client::TYPE_ID, shape).await;
            assert!(is_coded(&answer), "{}: {answer}", shape.0);
        }
        // Neither is any other interface.
        for interface in lm_schema::interfaces::INTERFACES {
            if interface.id != attach::Client::TYPE_ID {
                let answer = call(&stream, interface.id, &SHAPES[0]).await;
                assert!(answer.contains("nimplemented"), "{}: {answer}", interface.name);
            }
        }
        let other = bench.connect(1).await;
        let users = support::users(&other).await;
        values(&support::reader(&users, "bob").await, 1).await.unwrap();
        gateway(&other).heartbeat_request().send().promise.await.unwrap();
    });
}
