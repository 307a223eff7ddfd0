//! One connection, from handshake to end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_schema::mesh_capnp::attach;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::gate::{self, AttachServer, LoggedIn};
use super::{LOGIN_DEADLINE, Peer, Shared};
use crate::CloseCode;
use crate::network::{Meter, Terms};
use crate::rpc::{StreamEnd, StreamSystem};

/// How long a refusal has to reach the peer before the connection closes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long calls under way have, once their session is revoked, to come to
/// an end: a commit that has begun is answered.
const REVOKED_CALLS_WAIT: Duration = Duration::from_millis(500);
/// quinn forgets to send a close that its pacing holds back behind other data,
/// and the peer would learn of it at its next keep-alive. So what is on its
/// way goes out first; the stream that broke the bound is gone already.
const CLOSE_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn serve(incoming: quinn::Incoming, shared: Arc<Shared>) {
    let remote = incoming.remote_address();
    let handshake = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(LOGIN_DEADLINE, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%remote, "handshake timed out"),
    };
    let (send, receive) = match tokio::time::timeout(LOGIN_DEADLINE, connection.accept_bi()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "no control stream"),
        Err(_) => return close(&connection, CloseCode::LoginTimeout, "no login within 5 s"),
    };
    let meter = Arc::new(Meter::default());
    let terms = Rc::new(Terms::new(shared.registry.limits().anonymous, meter.clone()));
    let (admitted_tx, admitted_rx) = oneshot::channel();
    let gate = gate::client(shared.clone(), connection.clone(), terms.clone(), admitted_tx);
    let control = StreamSystem::server(receive, send, terms, gate);
    let lost = connection.clone();
    let mut control = tokio::task::spawn_local(async move { control.run(lost.closed()).await });

    let LoggedIn { peer, root } = tokio::select! {
        // Its end drops the login too, but is the cause.
        biased;
        ended = &mut control => {
            let reason = control_ended(&connection, &shared, ended).await;
            return tracing::debug!(%remote, %reason, "ended before login");
        }
        admitted = tokio::time::timeout(LOGIN_DEADLINE, admitted_rx) => match admitted {
            Ok(Ok(admitted)) => admitted,
            // The refusal itself goes out as the login's answer first.
            Ok(Err(_)) => {
                tokio::time::sleep(LAST_WORDS).await;
                return close(&connection, CloseCode::Denied, "login refused");
            }
            Err(_) => return close(&connection, CloseCode::LoginTimeout, "no login within 5 s"),
        },
    };
    let session = peer.session.clone();
    shared.registry.insert(session.clone());
    tracing::info!(session = session.id, peer = %session.principal.name, role = session.principal.role.name(), %remote, "session opened");

    let reason = attend(&connection, &peer, control, &shared, meter).await;
    drop(root);
    peer.tickets.clear();
    shared.registry.remove(session.id);
    tracing::info!(session = session.id, peer = %session.principal.name, %reason, "session closed");
}

/// Serves a session until it ends, and says why it did.
async fn attend(
    connection: &quinn::Connection,
    peer: &Rc<Peer>,
    mut control: JoinHandle<Result<(), StreamEnd>>,
    shared: &Arc<Shared>,
    meter: Arc<Meter>,
) -> String {
    let mut attached = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    let terms = Rc::new(Terms::new(shared.registry.limits().anonymous, meter.clone()));
                    let server =
                        AttachServer { peer: peer.clone(), terms: terms.clone(), shared: shared.clone() };
                    let door: attach::Client = capnp_rpc::new_client(server);
                    let stream = StreamSystem::server(receive, send, terms, door.client);
                    let lost = connection.clone();
                    attached.spawn_local(async move { stream.run(lost.closed()).await });
                }
                Err(error) => return error.to_string(),
            },
            ended = &mut control => return control_ended(connection, shared, ended).await,
            Some(ended) = attached.join_next() => {
                if let Some(reason) = stream_ended(connection, shared, ended).await {
                    return reason;
                }
            }
            () = peer.grant().revoked() => return revoked(connection, peer).await,
        }
    }
}

/// Whether the end of a stream is the end of its session, and why. A handler
/// that failed badly ends its session; the others do not notice.
async fn stream_ended(
    connection: &quinn::Connection,
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
            tracing::warn!(remote = %connection.remote_address(), %reason, "a peer broke a bound and is cut");
            let _ = tokio::time::timeout(CLOSE_PAUSE, connection.closed()).await;
            close(connection, CloseCode::Limit, &reason);
            Some(reason)
        }
        Ok(Err(StreamEnd::Panicked)) | Err(_) => {
            shared.registry.panicked();
            tracing::error!(remote = %connection.remote_address(), "a method panicked: its session ends");
            close(connection, CloseCode::Internal, "internal: a call failed inside the collector");
            Some("a method panicked".to_owned())
        }
    }
}

/// Without control there is no session.
async fn control_ended(
    connection: &quinn::Connection,
    shared: &Shared,
    ended: Result<Result<(), StreamEnd>, JoinError>,
) -> String {
    match stream_ended(connection, shared, ended).await {
        Some(reason) => reason,
        None => {
            close(connection, CloseCode::ControlLost, "control stream ended");
            "control stream ended".to_owned()
        }
    }
}

/// Ends a revoked session: new calls are refused already, those under way
/// get their answers, then the peer is told why.
async fn revoked(connection: &quinn::Connection, peer: &Peer) -> String {
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
    close(connection, code, &reason);
    reason
}

fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    connection.close(code.number(), reason.as_bytes());
}
