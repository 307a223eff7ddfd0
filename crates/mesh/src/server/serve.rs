//! One connection, from handshake to end.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use lm_schema::mesh_capnp::attach;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::gate::{self, AttachServer, LoggedIn};
use super::{LOGIN_DEADLINE, Peer, Shared};
use crate::CloseCode;
use crate::rpc::{StreamLimits, system};
use crate::transport::STREAMS_MAX;

/// How long a refusal has to reach the peer before the connection closes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long calls under way have, once their session is revoked, to come to
/// an end: a commit that has begun is answered.
const REVOKED_CALLS_WAIT: Duration = Duration::from_millis(500);

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
    let calls = Arc::new(AtomicU64::new(0));
    let (admitted_tx, admitted_rx) = oneshot::channel();
    let gate = gate::client(shared.clone(), connection.clone(), admitted_tx);
    let control = system(send, receive, Side::Server, StreamLimits::CONTROL, Some(gate), calls.clone());
    let mut control = tokio::task::spawn_local(control);

    let LoggedIn { peer, root } = tokio::select! {
        // Its end drops the login too, but is the cause.
        biased;
        _ = &mut control => return close(&connection, CloseCode::ControlLost, "control stream ended"),
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
    connection.set_max_concurrent_bi_streams(quinn::VarInt::from_u32(STREAMS_MAX));

    let reason = attend(&connection, &peer, control, &shared, calls).await;
    drop(root);
    shared.registry.remove(session.id);
    tracing::info!(session = session.id, peer = %session.principal.name, %reason, "session closed");
}

/// Serves a session until it ends, and says why it did.
async fn attend(
    connection: &quinn::Connection,
    peer: &Rc<Peer>,
    mut control: tokio::task::JoinHandle<Result<(), capnp::Error>>,
    shared: &Shared,
    calls: Arc<AtomicU64>,
) -> String {
    let mut attached = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    let door: attach::Client = capnp_rpc::new_client(AttachServer { peer: peer.clone() });
                    let stream = system(
                        send, receive, Side::Server, StreamLimits::ATTACHED, Some(door.client), calls.clone(),
                    );
                    attached.spawn_local(run(stream));
                }
                Err(error) => return error.to_string(),
            },
            ended = &mut control => {
                if ended.is_err_and(|error| error.is_panic()) {
                    return panicked(connection, shared);
                }
                close(connection, CloseCode::ControlLost, "control stream ended");
                return "control stream ended".to_owned();
            }
            Some(ended) = attached.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    return panicked(connection, shared);
                }
            }
            () = peer.grant().revoked() => return revoked(connection, peer).await,
        }
    }
}

async fn run(stream: RpcSystem<Side>) {
    if let Err(error) = stream.await {
        tracing::debug!(%error, "a stream failed");
    }
}

/// A handler failed badly: the session goes, the others do not notice.
fn panicked(connection: &quinn::Connection, shared: &Shared) -> String {
    shared.registry.panicked();
    close(connection, CloseCode::Internal, "a call failed inside the collector");
    "a handler panicked".to_owned()
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
