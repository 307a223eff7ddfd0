//! What each transport does in its own way: bounds and how they are named,
//! falling back, the unix socket, bytes that are no protocol of ours.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use capnp::any_pointer;
use lm_mesh::{CloseCode, Closing, Connected, DialError, Transport, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{agent, peer, run, run_over, ticket};
use crate::place::{certificates, eventually};
use crate::raw::{Raw, tls_connection};

/// Sends a message of over 256 KiB on the control stream of a session that is
/// logged in, and answers how that ended it.
async fn shout(connected: &Connected) -> Closing {
    let client = agent(connected).client;
    let mut request = client.new_call::<any_pointer::Owned, any_pointer::Owned>(0, 0, None);
    request.get().set_as("x".repeat(256 << 10).as_str()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), request.send().promise).await.unwrap();
    assert!(answer.is_err());
    connected.last_words().await.expect("the session is over")
}

#[test]
fn a_bound_that_is_broken_is_named_on_every_transport() {
    let is_told = |closing: &Closing, most: &str| {
        assert_eq!(closing.code, Some(CloseCode::Limit), "{closing}");
        assert!(
            closing.reason.starts_with("limit: 26") || closing.reason.starts_with("limit: 10"),
            "{closing}"
        );
        assert!(closing.reason.ends_with(most), "{closing}");
    };
    run(async |bench| {
        let (loud, other) = (bench.connect().await, bench.connect_as("token-2").await);
        is_told(&shout(&loud).await, "(at most 262144)");
        // A further stream is a stranger's until its ticket is redeemed.
        let loud = bench.connect().await;
        assert!(loud.attach(&[7; 100_000]).await.is_err());
        is_told(&loud.last_words().await.expect("the session is over"), "(at most 65536)");
        ticket(&other).await;

        let local = lm_mesh::dial_local(&bench.path("operator.sock"), &peer()).await.unwrap();
        is_told(&shout(&local).await, "(at most 262144)");
        let registry = bench.registry();
        eventually("the others are gone", || registry.sessions().len() == 1).await;
        assert_eq!(registry.incidents().limits_broken.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_revoked_session_is_told_on_the_unix_socket_too() {
    run_over(Transport::Quic, &async |bench| {
        let local = lm_mesh::dial_local(&bench.path("operator.sock"), &peer()).await.unwrap();
        let registry = bench.registry();
        eventually("the session is listed", || registry.sessions().len() == 1).await;
        let root = registry.session(local.session_id).unwrap().grant().id();
        let listed = registry.ledger().capabilities(0, usize::MAX, |_| true).0;
        assert!(
            listed.iter().any(|facts| facts.id == root && facts.holder.starts_with("local:")),
            "{listed:?}"
        );
        let verdict = Verdict { code: "revoked", reason: "by hand".to_owned() };
        registry.ledger().revoke(root, &verdict).unwrap();
        let closing = tokio::time::timeout(Duration::from_secs(5), local.closed()).await.unwrap();
        assert_eq!((closing.code, &closing.reason[..]), (Some(CloseCode::Revoked), "revoked: by hand"));
    });
}

#[test]
fn a_peer_that_does_not_log_in_is_cut() {
    run(async |bench| {
        let silent = Raw::open(bench, &[0]).await;
        let began = Instant::now();
        let reason = silent.closed().await;
        assert!(reason.contains("no login within 5 s"), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(8));
    });
}

#[test]
fn garbage_and_giant_claims_end_the_connection_only() {
    run(async |bench| {
        // A segment table that claims 60 MiB, and plain noise.
        let hostile = [
            ([0, 0, 0, 0, 0, 0, 0x78, 0].as_slice(), "limit: 62914560 bytes in a message (at most 65536)"),
            (&[0xff; 64], "invalid: a message of no segments"),
        ];
        for (bytes, expected) in hostile {
            let hostile = Raw::open(bench, bytes).await;
            let reason = tokio::time::timeout(Duration::from_secs(8), hostile.closed()).await.unwrap();
            assert!(reason.contains(expected), "{reason}");
        }
        bench.connect().await.close().await;
    });
}

#[test]
fn what_is_no_frame_and_joins_no_session_is_closed() {
    run_over(Transport::Tcp, &async |bench| {
        for (bytes, farewell) in [
            (vec![9; 64], ""),
            (vec![0, 0, 0, 0], ""),
            ([[1, 32, 0, 0].as_slice(), &[5; 32]].concat(), "no such session"),
        ] {
            let mut hostile = tls_connection(bench).await;
            hostile.write_all(&bytes).await.unwrap();
            hostile.flush().await.unwrap();
            let mut said = Vec::new();
            let reading = hostile.read_to_end(&mut said);
            let _ = tokio::time::timeout(Duration::from_secs(4), reading).await.expect("it is closed");
            assert!(String::from_utf8_lossy(&said).ends_with(farewell), "{said:?}");
            assert_eq!(said.is_empty(), farewell.is_empty());
        }
        bench.connect().await.close().await;
    });
}

#[test]
fn where_quic_does_not_get_through_a_session_falls_back_and_can_return() {
    run_over(Transport::Auto, &async |bench| {
        let addr = bench.addr();
        bench.stop();
        bench.listen_with = Transport::Tcp;
        bench.start(addr);
        let connected = bench.connect().await;
        assert_eq!(connected.path().transport, "tcp");
        let returns = connected.can_return();
        tokio::pin!(returns);
        // A try every 200 ms, each for 3 s, gets no answer.
        assert!(tokio::time::timeout(Duration::from_millis(600), &mut returns).await.is_err());
        bench.stop();
        bench.listen_with = Transport::Auto;
        bench.start(addr);
        tokio::time::timeout(Duration::from_secs(8), returns).await.expect("QUIC works again");
        assert_eq!(bench.connect().await.path().transport, "quic");
        // A wrong certificate is no reason to fall back.
        certificates(bench.dir.path(), "other-ca.pem", "other-chain.pem", "other-key.pem");
        bench.stop();
        bench.listen_with = Transport::Quic;
        bench.start(addr);
        let nobody = std::net::TcpListener::bind(addr).unwrap();
        nobody.set_nonblocking(true).unwrap();
        let error = bench.dialer("token", "other-ca.pem").dial(&peer(), b"", &[]).await.err().unwrap();
        assert!(matches!(error, DialError::Untrusted { .. }), "{error}");
        assert!(nobody.accept().is_err(), "TCP was tried too");
    });
}

#[test]
fn root_and_our_own_user_log_in_over_the_unix_socket() {
    use std::os::unix::fs::PermissionsExt;
    run_over(Transport::Quic, &async |bench| {
        let path = bench.path("operator.sock");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let connected = lm_mesh::dial_local(&path, &peer()).await.unwrap();
        assert!(connected.identity.starts_with("local:"), "{}", connected.identity);
        assert_eq!(connected.path().transport, "unix");
        let registry = bench.registry();
        eventually("the session is listed", || registry.sessions().len() == 1).await;
        assert_eq!(registry.sessions()[0].principal.role, lm_mesh::Role::Operator);
        assert!(connected.attach(b"").await.is_err(), "a local session has one stream");
        connected.close().await;
        eventually("the session ends", || registry.sessions().is_empty()).await;
        // What a killed server left is replaced; a drained one leaves nothing.
        let addr = bench.addr();
        bench.stop();
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        bench.start(addr);
        lm_mesh::dial_local(&path, &peer()).await.unwrap().close().await;
    });
}
