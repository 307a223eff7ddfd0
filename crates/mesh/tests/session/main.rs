//! Sessions over real sockets: who gets in, what a ticket is worth, and what
//! becomes of peers that misbehave. Everything holds over QUIC and over TCP.

mod bench;
#[path = "../support/place.rs"]
mod place;
mod raw;
mod transports;
#[path = "../support/trusting.rs"]
mod trusting;

use std::time::{Duration, Instant};

use lm_mesh::{Attachment, DialError, Transport};
use lm_model::{Incarnation, Stream};

use bench::{peer, push, run, ticket};
use place::{certificates, eventually};

#[test]
fn a_login_grants_a_session_and_a_ticket_a_stream() {
    run(async |bench| {
        let held = [(Stream::Logs, Incarnation { ordinal: 3, nonce: 4 })];
        let connected = bench.dialer("token", "ca.pem").dial(&peer(), b"cluster", &held).await.unwrap();
        assert_eq!((&connected.identity[..], &connected.cluster_id[..]), ("a1", &b"cluster"[..]));
        assert_eq!((connected.resume[0].incarnation.ordinal, connected.resume[0].durable_end), (3, 5));
        let Attachment::Sink(sink) = connected.attach(&ticket(&connected).await).await.unwrap() else {
            panic!("not a sink")
        };
        assert_eq!(push(&sink, &[1; 500_000]).await.unwrap(), 500_000);

        let registry = bench.registry();
        eventually("the session is listed", || registry.sessions().len() == 1).await;
        let session = &registry.sessions()[0];
        assert_eq!(session.peer.hostname, "h[1m", "control characters are left out");
        let expected = if bench.transport == Transport::Quic { "quic" } else { "tcp" };
        assert_eq!((session.path().transport, connected.path().transport), (expected, expected));
        assert!(session.path().bytes_received > 500_000);
        connected.close().await;
        eventually("the session ends", || registry.sessions().is_empty()).await;
    });
}

#[test]
fn a_ticket_works_once_and_only_on_its_connection() {
    run(async |bench| {
        let (first, second) = (bench.connect().await, bench.connect_as("token-2").await);
        let of_first = ticket(&first).await;
        let error = second.attach(&of_first).await.err().unwrap().to_string();
        assert!(error.contains("expired:"), "{error}");
        assert!(first.attach(&of_first).await.is_ok());
        assert!(first.attach(&of_first).await.is_err(), "used twice");
        assert!(first.attach(b"").await.is_err());
    });
}

#[test]
fn wrong_credentials_are_refused_alike() {
    run(async |bench| {
        match bench.dialer("wrong", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Refused { message, .. }) => assert!(message.starts_with("denied:"), "{message}"),
            other => panic!("{:?}", other.err()),
        }
        certificates(bench.dir.path(), "other-ca.pem", "other-chain.pem", "other-key.pem");
        match bench.dialer("token", "other-ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Untrusted { message, .. }) => {
                assert!(message.contains("certificate"), "{message}")
            }
            other => panic!("{:?}", other.err()),
        }
        *bench.host.refuse.lock().unwrap() = Some("not today");
        match bench.dialer("token", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Refused { message, .. }) => assert_eq!(message, "denied: not today"),
            other => panic!("{:?}", other.err()),
        }
        assert!(bench.registry().sessions().is_empty());
    });
}

#[test]
fn a_newer_session_of_an_agent_takes_over() {
    run(async |bench| {
        let (older, other) = (bench.connect().await, bench.connect_as("token-2").await);
        let newer = bench.connect().await;
        let reason = older.closed().await;
        assert_eq!(reason.code, Some(lm_mesh::CloseCode::Superseded), "{reason}");
        let registry = bench.registry();
        eventually("two sessions are left", || registry.sessions().len() == 2).await;
        ticket(&newer).await;
        ticket(&other).await;
    });
}

#[test]
fn a_new_certificate_is_shown_to_the_next_peer() {
    run(async |bench| {
        let older = bench.connect().await;
        certificates(bench.dir.path(), "new-ca.pem", "chain.pem", "key.pem");
        assert!(bench.server.as_ref().unwrap().certificates().reload().unwrap());
        let newer = bench.dialer("token-2", "new-ca.pem").dial(&peer(), b"", &[]).await.unwrap();
        match bench.dialer("token-2", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Untrusted { .. }) => {}
            other => panic!("{:?}", other.err()),
        }
        ticket(&newer).await;
        ticket(&older).await;
    });
}

#[test]
fn secrets_that_others_can_read_are_not_used() {
    run(async |bench| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(bench.path("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
        match bench.dialer("token", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Secret(error)) => assert!(error.to_string().contains("chmod 600"), "{error}"),
            other => panic!("{:?}", other.err()),
        }
    });
}

#[test]
fn a_panic_in_one_session_leaves_the_others_alone() {
    run(async |bench| {
        let (victim, other) = (bench.connect().await, bench.connect_as("token-2").await);
        let Attachment::Sink(sink) = victim.attach(&ticket(&victim).await).await.unwrap() else {
            panic!("not a sink")
        };
        let Attachment::Sink(calm) = other.attach(&ticket(&other).await).await.unwrap() else {
            panic!("not a sink")
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), push(&sink, b"panic")).await;
        assert_eq!(push(&calm, b"fine").await.unwrap(), 4);
        assert_eq!(push(&calm, b"again").await.unwrap(), 5);
        // Both workers still take logins.
        for _ in 0..4 {
            bench.connect().await.close().await;
        }
    });
}

#[test]
fn a_restarted_server_tells_old_connections_at_once() {
    run(async |bench| {
        let connected = bench.connect().await;
        let addr = bench.addr();
        let began = Instant::now();
        bench.stop();
        let reason = tokio::time::timeout(Duration::from_secs(5), connected.closed()).await.unwrap();
        assert_eq!(reason.code, Some(lm_mesh::CloseCode::Drain), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(5));
        bench.start(addr);
        bench.connect().await.close().await;
    });
}
