//! Oversized, malformed and senseless messages: each gets its answer, its
//! place in the stream is filled and declared, and the stream goes on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lm_model::Stream;
use lm_schema::batch::Codec;
use lm_tests::api::{unix_ms, unix_nano};
use lm_tests::mesh::{Batch, BatchMaker, EPOCH, MeshConfig, MeshSession, Outcome, Receipt, block_on};
use lm_tests::random::Random;
use lm_tests::{System, eventually, system_options};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::SOON;

const LABELS: [(&str, &str); 1] = [("filename", "test")];

/// A line that does not compress.
fn noise(random: &mut Random, bytes: usize) -> String {
    (0..bytes).map(|_| char::from(b'!' + random.between(0, 90) as u8)).collect()
}

#[track_caller]
fn expect_rejected(receipt: &Receipt, end: u64) {
    assert!(matches!(receipt.outcome, Outcome::Rejected(_)), "{receipt:?}");
    assert_eq!(receipt.durable_end, end, "its place is filled: {receipt:?}");
}

#[test]
fn a_bad_batch_is_declared_and_the_stream_goes_on() {
    let mut system = System::with(system_options(&["a"], &["m"]));
    system.collector_config.set_text("ingest.max_batch_bytes", "64KiB");
    system.write_configs();
    system.start();
    let mut random = Random::new(5);
    let mut maker = BatchMaker::new(1);
    let lines = |maker: &mut BatchMaker, lines: &[String]| {
        maker.lines(&LABELS, lines.iter().map(|line| (unix_nano(), &line[..])))
    };
    block_on(async {
        let session = MeshSession::open(&MeshConfig::of(&system, "m"), &[]).await.unwrap();
        let push = async |batch: &Batch| session.push(batch).await.unwrap();
        assert_eq!(push(&lines(&mut maker, &["good 0".to_owned()])).await.outcome, Outcome::Durable);

        // Over the limit, for good.
        let large = lines(&mut maker, &(0..40).map(|_| noise(&mut random, 4000)).collect::<Vec<_>>());
        assert!(large.body.len() > 64 << 10);
        expect_rejected(&push(&large).await, 2);
        // Asked again, it is still decided.
        assert_eq!(push(&large).await.outcome, Outcome::Duplicate);

        // Garbage with a right checksum.
        let mut garbage = lines(&mut maker, &["lost".to_owned()]);
        garbage.body = noise(&mut random, 500).into_bytes();
        garbage.header.body_crc32c = crc32c::crc32c(&garbage.body);
        for codec in [Codec::Zstd, Codec::None] {
            garbage.header.codec = codec;
            garbage.header.raw_bytes = 500;
            if codec == Codec::Zstd {
                expect_rejected(&push(&garbage).await, 3);
            }
        }
        // Good bytes with a wrong checksum.
        let mut wrong = lines(&mut maker, &["lost too".to_owned()]);
        wrong.header.body_crc32c ^= 1;
        expect_rejected(&push(&wrong).await, 4);
        // A count that is not true.
        let mut wrong = lines(&mut maker, &["lost as well".to_owned()]);
        wrong.header.item_count = 7;
        expect_rejected(&push(&wrong).await, 5);
        // A line that is too long.
        expect_rejected(&push(&lines(&mut maker, &["x".repeat(70_000)])).await, 6);

        assert_eq!(push(&lines(&mut maker, &["good 1".to_owned()])).await.outcome, Outcome::Durable);
        session.connected.close().await;
    });
    crate::expect_line(&system.api, "{instance=\"m\"}", "good 1");
    let found = system.api.all_lines("{instance=\"m\"}", "").unwrap();
    let found: Vec<_> = found.iter().map(|line| &line.line[..]).collect();
    assert_eq!(found, ["good 0", "good 1"]);
    let (stored, lost) = system.api.account("m", "logs").unwrap();
    assert_eq!(stored, 2);
    assert_eq!(lost, [("rejected".to_owned(), 40 + 1 + 1 + 7 + 1)].into());
    expect_fresh_samples(&system);
}

#[test]
fn each_disorder_has_its_answer() {
    let mut system = System::with(system_options(&["a"], &["m"]));
    system.start();
    let mut maker = BatchMaker::new(5);
    block_on(async {
        let session = MeshSession::open(&MeshConfig::of(&system, "m"), &[]).await.unwrap();
        let push = async |batch: &Batch| session.push(batch).await.unwrap();
        let start = unix_ms() - 1000;
        let sample = |maker: &mut BatchMaker, value: f64| {
            maker.samples(&[("__name__", "disorder")], &[(start + value as i64, value)])
        };
        let first = sample(&mut maker, 1.0);
        assert_eq!(push(&first).await.outcome, Outcome::Durable);
        assert_eq!(
            push(&first).await,
            Receipt { outcome: Outcome::Duplicate, durable_end: 1, dropped_items: 0 }
        );
        // Something is missing before it.
        let (second, third) = (sample(&mut maker, 2.0), sample(&mut maker, 3.0));
        assert_eq!(push(&third).await.outcome, Outcome::Gap(1));
        assert_eq!(push(&second).await.outcome, Outcome::Durable);
        assert_eq!(push(&third).await.outcome, Outcome::Durable);
        // NaN, infinities, and values and times that go backwards.
        for (time, value) in [(10, f64::NAN), (9, f64::INFINITY), (8, -5.0)] {
            let odd = maker.samples(&[("__name__", "odd")], &[(unix_ms() - 10_000 + time, value)]);
            assert_eq!(push(&odd).await.outcome, Outcome::Durable);
        }
        // From the future of the protocol.
        let future = sample(&mut maker, 4.0);
        let mut request = session.sink.push_request();
        future.header.write(&future.body, request.get().init_batch());
        request.get().get_batch().unwrap().set_version(9);
        let response = request.send().promise.await.unwrap();
        let receipt = response.get().unwrap().get_receipt().unwrap();
        assert!(matches!(receipt.which(), Ok(lm_schema::mesh_capnp::receipt::Unsupported(1))));
        assert_eq!(push(&future).await.outcome, Outcome::Durable);

        // A newer incarnation whose dictionary is not known here.
        let mut newer = BatchMaker::new(6);
        let unsent = sample(&mut newer, 0.0);
        let mut needy = sample(&mut newer, 5.0);
        needy.header.id.sequence = 0;
        needy.header.sequence_end = 1;
        needy.header.items_before = 0;
        assert_eq!(push(&needy).await.outcome, Outcome::NeedDictionary(EPOCH));
        session.define(newer.incarnation, EPOCH, &newer.entries).await.unwrap().unwrap();
        assert_eq!(push(&needy).await.outcome, Outcome::Durable);
        // Its place is taken: the other batch of that place is a duplicate.
        assert_eq!(push(&unsent).await.outcome, Outcome::Duplicate);
        // The older one has ended: what it still has is kept apart.
        let late = sample(&mut maker, 9.0);
        assert_eq!(push(&late).await.outcome, Outcome::Quarantined);
        // A reference with another meaning.
        let other = [lm_model::Labels::from_pairs([("__name__", "another")])];
        let refused = session.define(newer.incarnation, EPOCH, &other).await.unwrap();
        assert!(refused.unwrap_err().contains("meaning"));
        session.connected.close().await;
    });
    let found = system.api.query("disorder[5m]", unix_ms() + 1000).unwrap();
    let values: Vec<_> = found[0].samples.iter().map(|(_, value)| *value).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
    expect_fresh_samples(&system);
}

#[test]
fn garbage_ends_only_its_own_session() {
    let mut system = System::with(system_options(&["a"], &["m"]));
    system.start();
    block_on(async {
        // A message that is over every bound of the stream.
        let session = MeshSession::open(&MeshConfig::of(&system, "m"), &[]).await.unwrap();
        let mut maker = BatchMaker::new(1);
        let mut huge = maker.lines(&LABELS, [(unix_nano(), "x")]);
        huge.body = vec![7; 12 << 20];
        session.push(&huge).await.expect_err("12 MiB are over the bound of a message");
        // The place is still free: a good batch of it is taken in a new session.
        let session = MeshSession::open(&MeshConfig::of(&system, "m"), &maker.held()).await.unwrap();
        let good = BatchMaker::new(1).lines(&LABELS, [(unix_nano(), "after all")]);
        assert_eq!(session.push(&good).await.unwrap().outcome, Outcome::Durable);

        let mut random = Random::new(9);
        for round in 0..8 {
            let garbage: Vec<u8> = (0..64).map(|_| random.number() as u8).collect();
            let ended = send_raw(system.mesh_addr(), &system.path("ca.pem"), &garbage).await;
            println!("garbage {round}: {ended}");
        }
        // Segment counts and sizes that would be gigabytes.
        for bomb in [[0xff; 64], [0x7f; 64]] {
            send_raw(system.mesh_addr(), &system.path("ca.pem"), &bomb).await;
        }
        // The other session did not notice.
        let mut maker = BatchMaker::new(2);
        let good = maker.lines(&LABELS, [(unix_nano(), "still here")]);
        assert_eq!(session.push(&good).await.unwrap().outcome, Outcome::Durable);
        session.connected.close().await;
    });
    assert!(system.collector.is_running(), "the collector died");
    crate::expect_line(&system.api, "{filename=\"test\"}", "still here");
    assert_eq!(system.api.all_lines("{filename=\"test\"}", "").unwrap().len(), 2);
    expect_fresh_samples(&system);
    assert!(!system.collector.log_text().contains("panicked"), "{}", system.collector.tail());
}

/// The honest agent beside all that goes on.
#[track_caller]
fn expect_fresh_samples(system: &System) {
    let since = unix_ms();
    eventually("the agent beside it goes on", SOON, || {
        let found = system.api.query("timestamp(lmagent_up{instance=\"a\"}) * 1000", unix_ms() + 1000)?;
        let newest = found.first().map_or(0.0, |series| series.samples[0].1);
        if newest > since as f64 { Ok(()) } else { Err(format!("{newest}")) }
    });
    let (_, lost) = system.api.account("a", Stream::Metrics.name()).unwrap();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Sends bytes on a stream of a connection that never logs in, and answers how
/// that ended.
async fn send_raw(addr: SocketAddr, ca: &Path, bytes: &[u8]) -> String {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    tls.alpn_protocols = vec![lm_mesh::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let connecting =
        endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), addr, "127.0.0.1").unwrap();
    let connection = connecting.await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    match tokio::time::timeout(Duration::from_secs(8), connection.closed()).await {
        Ok(reason) => reason.to_string(),
        Err(_) => panic!("the collector keeps a connection that sent garbage"),
    }
}
