//! The stream that users' questions go over, and its renewal.
//!
//! capnp-rpc keeps a slot for every call that is cancelled before its answer,
//! and we cancel one whenever a client leaves early. The collector ends the
//! session of a peer that has too many on one stream; so well before that we
//! open another stream in the same session, put new questions there, and end
//! the old one when its last call is answered.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use lm_mesh::{AttachedStream, Attachment, CANCELLED_CALLS_MAX, Connected};
use lm_schema::mesh_capnp::{gateway_session, user_gate};

use super::users::Users;

/// Ticket and attach together.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to open another stream.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
/// What an old stream may last beyond the longest wait for one call.
const RETIRE_GRACE: Duration = Duration::from_secs(30);

/// One stream of the session, and what it gives.
pub struct QueryStream {
    pub gate: user_gate::Client,
    stream: AttachedStream,
    /// Cancelled calls after which it is to be renewed.
    worn_at: u64,
}

impl QueryStream {
    /// # Errors
    ///
    /// What the collector said, or that it said nothing.
    pub async fn open(
        connected: &Connected,
        gateway: &gateway_session::Client,
    ) -> Result<QueryStream, capnp::Error> {
        in_time(async {
            let response = gateway.query_ticket_request().send().promise.await?;
            let granted = response.get()?;
            let max = match granted.get_cancelled_calls_max() {
                0 => CANCELLED_CALLS_MAX as u64,
                max => max.into(),
            };
            QueryStream::attach(connected, granted.get_ticket()?, max).await
        })
        .await
    }

    /// As [`open`](Self::open), for those who write. `None`: the collector
    /// has no such stream.
    ///
    /// # Errors
    ///
    /// What the collector said, or that it said nothing.
    pub async fn open_for_writes(
        connected: &Connected,
        gateway: &gateway_session::Client,
    ) -> Result<Option<QueryStream>, capnp::Error> {
        in_time(async {
            let response = match gateway.write_ticket_request().send().promise.await {
                Ok(response) => response,
                Err(error) if error.kind == capnp::ErrorKind::Unimplemented => return Ok(None),
                Err(error) => return Err(error),
            };
            let max = CANCELLED_CALLS_MAX as u64;
            QueryStream::attach(connected, response.get()?.get_ticket()?, max).await.map(Some)
        })
        .await
    }

    async fn attach(connected: &Connected, ticket: &[u8], max: u64) -> Result<QueryStream, capnp::Error> {
        let (attachment, stream) = connected.attach_stream(ticket).await?;
        let Attachment::Users(gate) = attachment else {
            return Err(capnp::Error::failed("the ticket was for something else".to_owned()));
        };
        // A quarter is left for what is under way while we move.
        Ok(QueryStream { gate, stream, worn_at: max - max / 4 })
    }

    /// Whether it has seen so many cancelled calls that another should take
    /// its place.
    pub fn is_worn(&self) -> bool {
        self.stream.abandoned_calls() >= self.worn_at
    }
}

async fn in_time<T>(attaching: impl Future<Output = Result<T, capnp::Error>>) -> Result<T, capnp::Error> {
    tokio::time::timeout(ATTACH_TIMEOUT, attaching)
        .await
        .unwrap_or_else(|_| Err(capnp::Error::failed("no answer in time".to_owned())))
}

/// Renews the stream of `users` whenever it is worn. `patience`: the longest
/// wait for one call.
pub async fn renewals(
    connected: &Connected,
    gateway: &gateway_session::Client,
    users: &Users,
    patience: Duration,
) -> Infallible {
    loop {
        users.worn().await;
        match QueryStream::open(connected, gateway).await {
            Ok(stream) => {
                let old = users.renew(stream);
                tracing::debug!(cancelled = old.stream.abandoned_calls(), "another stream for queries");
                retire(old, patience + RETIRE_GRACE);
            }
            Err(error) => {
                tracing::warn!(%error, "no other stream for queries");
                tokio::time::sleep(RENEW_PAUSE).await;
            }
        }
    }
}

/// Ends `old` when nobody uses it, and after `wait` in any case.
fn retire(old: Rc<QueryStream>, wait: Duration) {
    let weak = Rc::downgrade(&old);
    drop(old);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(wait).await;
        if let Some(old) = weak.upgrade() {
            old.stream.end();
        }
    });
}
