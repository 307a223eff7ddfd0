//! `GET /api/v1/live`: log lines and notices as they become durable, as
//! server-sent events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::backend::{Backend, Failure, FailureKind, TailEnd, Token};
use crate::json;
use crate::params::LogFilter;
use crate::ring::{EventId, Events, Ring};
use crate::session::random;

/// How long browsers wait before they come back, in milliseconds.
const PREAMBLE: &[u8] = b"retry: 1000\n\n";
/// Waits between tries while the collector is away.
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Places for live clients, in all and of one user.
#[derive(Clone)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    per_user: Arc<Mutex<HashMap<String, usize>>>,
    per_user_max: usize,
}

impl Places {
    pub fn new(all: usize, per_user_max: usize) -> Self {
        Places { all: Arc::new(Semaphore::new(all)), per_user: Arc::default(), per_user_max }
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let full = || Failure::new(FailureKind::TooMany, "too many live tails on this gateway");
        self.all.clone().try_acquire_owned().map_err(|_| full())
    }

    fn take_of(&self, user: String) -> Result<UserPlace, Failure> {
        let mut per_user = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_user.entry(user.clone()).or_default();
        if *count >= self.per_user_max {
            let message = format!("{user} has {count} live tails; at most {} are allowed", self.per_user_max);
            return Err(Failure::new(FailureKind::TooMany, message));
        }
        *count += 1;
        Ok(UserPlace { places: self.clone(), user })
    }
}

struct UserPlace {
    places: Places,
    user: String,
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut per_user = self.places.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                per_user.remove(&self.user);
            }
        }
    }
}

/// Begins a live tail. The stream goes on over reconnects to the collector.
pub(crate) async fn open(
    backend: Backend,
    places: &Places,
    stopping: watch::Receiver<bool>,
    token: Token,
    filter: LogFilter,
    after: Option<EventId>,
) -> Result<Events, Failure> {
    let place = places.take()?;
    let ring = Arc::new(Ring::new());
    ring.push(Bytes::from_static(PREAMBLE), after);
    // From here on, dropping `events` ends the tail.
    let events = Events::new(ring.clone());
    let (user, end) = backend.tail(token.clone(), filter.clone(), after, ring.clone()).await?;
    let user_place = places.take_of(user)?;
    let tail = Tail { backend, token, filter, ring };
    tokio::spawn(async move {
        tail.keep(end, stopping).await;
        drop((place, user_place));
    });
    Ok(events)
}

struct Tail {
    backend: Backend,
    token: Token,
    filter: LogFilter,
    ring: Arc<Ring>,
}

impl Tail {
    /// Until the client is gone, the collector refuses, or the process stops.
    async fn keep(self, end: oneshot::Receiver<TailEnd>, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow(end) => {}
            () = self.ring.closed() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        self.ring.finish();
    }

    async fn follow(&self, mut end: oneshot::Receiver<TailEnd>) {
        loop {
            match end.await {
                // The session's thread drops what was under way with it.
                Ok(TailEnd::Lost) | Err(_) => {}
                Ok(TailEnd::Closed) => return,
                Ok(TailEnd::Refused(failure)) => return self.refuse(&failure),
            }
            match self.reopen().await {
                Some(next) => end = next,
                None => return,
            }
        }
    }

    async fn reopen(&self) -> Option<oneshot::Receiver<TailEnd>> {
        let mut backoff = lm_mesh::Backoff::new(RETRY_BASE, RETRY_MAX);
        loop {
            // At least a little: a collector that ends tails at once must not spin us.
            tokio::time::sleep(RETRY_BASE / 2 + backoff.next(random())).await;
            let after = self.ring.cursor();
            let opening =
                self.backend.tail(self.token.clone(), self.filter.clone(), after, self.ring.clone());
            match opening.await {
                Ok((_, end)) => {
                    if after.is_none() {
                        // Where we were was never told.
                        self.ring.push(crate::session::gap(0, true), None);
                    }
                    return Some(end);
                }
                Err(failure) => match failure.kind {
                    FailureKind::Unavailable | FailureKind::Overloaded | FailureKind::Timeout => {}
                    _ => {
                        self.refuse(&failure);
                        return None;
                    }
                },
            }
        }
    }

    /// The last event of a stream that will not go on.
    fn refuse(&self, failure: &Failure) {
        let mut frame = b"event: error\ndata: ".to_vec();
        frame.extend_from_slice(&json::error(failure));
        frame.extend_from_slice(b"\n\n");
        self.ring.push(frame.into(), None);
    }
}
