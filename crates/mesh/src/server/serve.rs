//! One connection, from handshake to end.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_schema::mesh_capnp::attach;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::gate::{self, AttachServer, LoggedIn};
use super::{LOGIN_DEADLINE, Peer, Shared};
use crate::link::{Incoming, Link};
use crate::network::{Meter, Terms};
use crate::rpc::StreamEnd;
use crate::transport::STREAMS_MAX;
use crate::{CloseCode, Session};

/// How long a refusal has to reach the peer before the connection closes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long calls under way have, once their session is revoked, to come to
/// an end: a commit that has begun is answered.
const REVOKED_CALLS_WAIT: Duration = Duration::from_millis(500);
/// quinn forgets to send a close that its pacing holds back behind other data,
/// and the peer would learn of it at its next keep-alive. So what is on its
/// way goes out first; the stream that broke the bound is gone already.
const CLOSE_PAUSE: Duration = Duration::from_millis(50);

/// Serves a QUIC connection from its handshake on.
pub(super) async fn serve_quic(incoming: Box<quinn::Incoming>, shared: Arc<Shared>) {
    // What is boxed here and below is soon over, or comes last: a session is
    // idle most of its life, and must not keep room for it.
    let Some(connection) = Box::pin(shake_hands(incoming)).await else { return };
    let link = Link::Quic(connection.clone());
    serve(link, Incoming::Quic(connection), shared, |_| ()).await;
}

async fn shake_hands(incoming: Box<quinn::Incoming>) -> Option<quinn::Connection> {
    let remote = incoming.remote_address();
    let handshake = async { incoming.accept()?.await };
    match tokio::time::timeout(LOGIN_DEADLINE, handshake).await {
        Ok(Ok(connection)) => return Some(connection),
        Ok(Err(error)) => tracing::debug!(%remote, %error, "handshake failed"),
        Err(_) => tracing::debug!(%remote, "handshake timed out"),
    }
    None
}

/// Serves a connection. What `logged_in` answers is kept until the session
/// ends.
pub(super) async fn serve<T>(
    link: Link,
    mut streams: Incoming,
    shared: Arc<Shared>,
    logged_in: impl FnOnce(&Session) -> T,
) {
    let remote = link.path().remote;
    let control = match tokio::time::timeout(LOGIN_DEADLINE, streams.next()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(closing)) => return tracing::debug!(%remote, %closing, "no control stream"),
        Err(_) => return close(&link, CloseCode::LoginTimeout, "no login within 5 s").await,
    };
    let meter = Arc::new(Meter::default());
    let terms = Rc::new(Terms::new(shared.registry.limits().anonymous, meter.clone()));
    let (admitted_tx, admitted_rx) = oneshot::channel();
    let gate = gate::client(shared.clone(), link.clone(), terms.clone(), admitted_tx);
    let mut control = control.server(terms, gate);
    let lost = link.clone();
    let mut control = tokio::task::spawn_local(async move { control.run(pin!(lost.closed())).await });

    let LoggedIn { peer, root } = tokio::select! {
        // Its end drops the login too, but is the cause.
        biased;
        ended = &mut control => {
            let reason = Box::pin(control_ended(&link, &shared, ended)).await;
            return tracing::debug!(%remote, %reason, "ended before login");
        }
        admitted = tokio::time::timeout(LOGIN_DEADLINE, admitted_rx) => match admitted {
            Ok(Ok(admitted)) => admitted,
            // The refusal itself goes out as the login's answer first.
            Ok(Err(_)) => {
                tokio::time::sleep(LAST_WORDS).await;
                return close(&link, CloseCode::Denied, "login refused").await;
            }
            Err(_) => return close(&link, CloseCode::LoginTimeout, "no login within 5 s").await,
        },
    };
    let session = peer.session.clone();
    let listed = Listed { link: &link, peer: &peer, shared: &shared };
    shared.registry.insert(session.clone());
    tracing::info!(session = session.id, peer = %session.principal.name, role = session.principal.role.name(), %remote, transport = session.path().transport, "session opened");
    let kept = logged_in(&session);

    let reason = attend(&link, &mut streams, &peer, control, &shared, meter).await;
    drop((root, kept));
    drop(listed);
    tracing::info!(session = session.id, peer = %session.principal.name, %reason, "session closed");
}

/// A session's place among the others; given up on drop, since what happens
/// meanwhile may panic. Then the peer is told, and its streams end.
struct Listed<'a> {
    link: &'a Link,
    peer: &'a Peer,
    shared: &'a Shared,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.peer.tickets.clear();
        self.shared.registry.remove(self.peer.session.id);
        if std::thread::panicking() {
            self.link.close(CloseCode::Internal, "internal: the session failed inside the collector");
        }
    }
}

/// Serves a session until it ends, and says why it did.
async fn attend(
    link: &Link,
    streams: &mut Incoming,
    peer: &Rc<Peer>,
    mut control: JoinHandle<Result<(), StreamEnd>>,
    shared: &Arc<Shared>,
    meter: Arc<Meter>,
) -> String {
    let mut attached = JoinSet::new();
    loop {
        tokio::select! {
            stream = streams.next() => match stream {
                // QUIC lets the peer open no more than these itself.
                Ok(_) if attached.len() >= STREAMS_MAX as usize => {
                    tracing::debug!(session = peer.session.id, "too many streams: one was dropped");
                }
                Ok(stream) => {
                    let terms = Rc::new(Terms::new(shared.registry.limits().anonymous, meter.clone()));
                    let server =
                        AttachServer { peer: peer.clone(), terms: terms.clone(), shared: shared.clone() };
                    let door: attach::Client = capnp_rpc::new_client(server);
                    let mut stream = stream.server(terms, door.client);
                    let lost = link.clone();
                    attached.spawn_local(async move { stream.run(pin!(lost.closed())).await });
                }
                Err(closing) => return closing.reason,
            },
            ended = &mut control => return Box::pin(control_ended(link, shared, ended)).await,
            Some(ended) = attached.join_next() => {
                if let Some(reason) = Box::pin(stream_ended(link, shared, ended)).await {
                    return reason;
                }
            }
            () = peer.grant().revoked() => return Box::pin(revoked(link, peer)).await,
        }
    }
}

/// Whether the end of a stream is the end of its session, and why. A handler
/// that failed badly ends its session; the others do not notice.
async fn stream_ended(
    link: &Link,
    shared: &Shared,
    ended: Result<Result<(), StreamEnd>, JoinError>,
) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(StreamEnd::Failed(error))) => {
            // The text may be the peer's.
            tracing::debug!(error = ?error.to_string(), "a stream failed");
            None
        }
        Ok(Err(StreamEnd::Violation(reason))) => {
            shared.registry.ended_by_limit();
            tracing::warn!(remote = %link.path().remote, %reason, "a peer broke a bound and is cut");
            let _ = tokio::time::timeout(CLOSE_PAUSE, link.closed()).await;
            close(link, CloseCode::Limit, &reason).await;
            Some(reason)
        }
        Ok(Err(StreamEnd::Panicked)) | Err(_) => {
            shared.registry.panicked();
            tracing::error!(remote = %link.path().remote, "a method panicked: its session ends");
            close(link, CloseCode::Internal, "internal: a call failed inside the collector").await;
            Some("a method panicked".to_owned())
        }
    }
}

/// Without control there is no session.
async fn control_ended(
    link: &Link,
    shared: &Shared,
    ended: Result<Result<(), StreamEnd>, JoinError>,
) -> String {
    match stream_ended(link, shared, ended).await {
        Some(reason) => reason,
        // The stream may have ended because the connection has.
        None => match link.closing() {
            Some(closing) => closing.reason,
            None => {
                close(link, CloseCode::ControlLost, "control stream ended").await;
                "control stream ended".to_owned()
            }
        },
    }
}

/// Ends a revoked session: new calls are refused already, those under way
/// get their answers, then the peer is told why.
async fn revoked(link: &Link, peer: &Peer) -> String {
    let quiet = async {
        while peer.session.activity().in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One turn for the answers to leave.
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let _ = tokio::time::timeout(REVOKED_CALLS_WAIT, quiet).await;
    let (code, reason) = match peer.grant().verdict() {
        Some(verdict) if verdict.code == "denied" => {
            (CloseCode::Denied, format!("denied: {}", verdict.reason))
        }
        Some(verdict) => (CloseCode::Revoked, format!("{}: {}", verdict.code, verdict.reason)),
        None => (CloseCode::Revoked, "revoked".to_owned()),
    };
    close(link, code, &reason).await;
    reason
}

/// Closes, and waits until the peer was told: what its streams find when they
/// break must not reach it before the reason does.
async fn close(link: &Link, code: CloseCode, reason: &str) {
    link.close(code, reason);
    link.closed().await;
}
