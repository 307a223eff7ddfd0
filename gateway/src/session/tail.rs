//! Feeds one client's ring from the collector's live tail.

use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lm_schema::query_capnp::{event_id, tail, tail_event};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ask::{read_labels, write_filter};
use super::users::User;
use super::{Link, Session, call_failed, failed, timed_out};
use crate::backend::{Failure, FailureKind, TailEnd, Token};
use crate::json;
use crate::params::LogFilter;
use crate::ring::{EventId, Ring};

/// How long the collector holds one call when nothing happens.
const WAIT_MS: u32 = 10_000;
/// Events of one call.
const EVENTS_MAX: usize = 128;
/// A tail asks what its token is worth no more often than this.
const CHECK_PERIOD_MIN: Duration = Duration::from_secs(1);

/// Runs until the client, the session or the capability is gone. `None` when
/// it never began, which `opened` has told.
pub(super) async fn run(
    link: &Link,
    mut session: Rc<Session>,
    token: &Token,
    filter: &LogFilter,
    after: Option<EventId>,
    ring: &Arc<Ring>,
    opened: oneshot::Sender<Result<String, Failure>>,
) -> Option<TailEnd> {
    let begin = async {
        let user = session.users.find(token).await?;
        let tail = open(&session, user.reader()?, filter, after).await?;
        Ok::<_, Failure>((user, tail))
    };
    let mut generations = session.users.generations();
    let (mut user, mut tail) = match begin.await {
        Ok(begun) => begun,
        Err(failure) => {
            if failure.kind == FailureKind::Unauthorized {
                session.users.forget(token);
            }
            let _ = opened.send(Err(failure));
            return None;
        }
    };
    if opened.send(Ok(user.name.clone())).is_err() {
        return None;
    }
    let mut check_at = next_check(&user);
    loop {
        let room = ring.room().await;
        if room == 0 {
            return Some(TailEnd::Closed);
        }
        let stepped = tokio::select! {
            stepped = step(&session, &tail, room.min(EVENTS_MAX), ring) => Stepped::Told(stepped),
            () = ring.closed() => return Some(TailEnd::Closed),
            // What we were granted may be void, or another by now.
            _ = generations.changed() => Stepped::Void,
            () = tokio::time::sleep_until(check_at) => Stepped::Void,
        };
        let reopened = match stepped {
            Stepped::Told(Ok(true)) => {
                let newest = link.borrow().clone().unwrap_or_else(|_| session.clone());
                if Rc::ptr_eq(&newest, &session) && !session.users.is_old(&user) {
                    continue;
                }
                // What we are on is to end: between two calls is the time to
                // leave it.
                generations = newest.users.generations();
                session = newest;
                let renewed = renew(&session, token, &mut user, filter, ring).await;
                check_at = next_check(&user);
                renewed
            }
            Stepped::Void => {
                if ring.cursor().is_none() && !ring.push(gap(0, true), None) {
                    return Some(TailEnd::Closed);
                }
                let renewed = renew(&session, token, &mut user, filter, ring).await;
                check_at = next_check(&user);
                renewed
            }
            // Not everything fitted: what did not is asked for again.
            Stepped::Told(Ok(false)) => {
                if ring.room().await == 0 {
                    return Some(TailEnd::Closed);
                }
                again(&session, &user, filter, ring).await
            }
            Stepped::Told(Err(failure)) if failure.kind == FailureKind::Unauthorized => {
                session.users.forget(token);
                renew(&session, token, &mut user, filter, ring).await
            }
            Stepped::Told(Err(failure)) => Err(failure),
        };
        match reopened {
            Ok(again) => tail = again,
            Err(failure) => {
                if failure.kind == FailureKind::Unauthorized {
                    session.users.forget(token);
                }
                return Some(match failure.kind {
                    // What the exchange granted lasts for a while only: the
                    // next one says whether the token is still worth it.
                    FailureKind::Unauthorized if failure.message.starts_with("expired:") => TailEnd::Lost,
                    FailureKind::Unavailable | FailureKind::Timeout | FailureKind::Overloaded => {
                        TailEnd::Lost
                    }
                    _ => TailEnd::Refused(failure),
                });
            }
        }
    }
}

/// How a call of a running tail ended.
enum Stepped {
    Told(Result<bool, Failure>),
    /// It was given up: the user is to be exchanged again.
    Void,
}

/// When a running tail asks what its token is worth now.
fn next_check(user: &User) -> Instant {
    Instant::from(user.until).max(Instant::now() + CHECK_PERIOD_MIN)
}

/// Goes on where the ring is, with the rights that the token has now.
async fn renew(
    session: &Session,
    token: &Token,
    user: &mut Rc<User>,
    filter: &LogFilter,
    ring: &Ring,
) -> Result<tail::Client, Failure> {
    *user = session.users.find(token).await?;
    again(session, user, filter, ring).await
}

async fn again(
    session: &Session,
    user: &User,
    filter: &LogFilter,
    ring: &Ring,
) -> Result<tail::Client, Failure> {
    open(session, user.reader()?, filter, ring.cursor()).await
}

async fn open(
    session: &Session,
    reader: &lm_schema::query_capnp::reader::Client,
    filter: &LogFilter,
    after: Option<EventId>,
) -> Result<tail::Client, Failure> {
    let mut request = reader.tail_request();
    if let Some(after) = after {
        let mut to = request.get().init_after();
        to.set_epoch(after.epoch);
        to.set_position(after.position);
    }
    write_filter(filter, request.get().init_filter());
    let response = tokio::time::timeout(session.patience, request.send().promise)
        .await
        .map_err(|_| timed_out())?
        .map_err(|error| call_failed(&error))?;
    response.get().and_then(|results| results.get_tail()).map_err(|error| failed(&error))
}

/// One call. False when an event did not fit.
async fn step(
    session: &Session,
    tail: &tail::Client,
    events_max: usize,
    ring: &Ring,
) -> Result<bool, Failure> {
    let mut request = tail.next_request();
    request.get().set_wait_ms(WAIT_MS);
    request.get().set_events_max(events_max as u32);
    let patience = session.patience + Duration::from_millis(WAIT_MS.into());
    let response = tokio::time::timeout(patience, request.send().promise)
        .await
        .map_err(|_| timed_out())?
        .map_err(|error| call_failed(&error))?;
    let read = || -> Result<bool, capnp::Error> {
        let results = response.get()?;
        let (missed, is_restarted) = (results.get_missed(), results.get_is_restarted());
        if (missed > 0 || is_restarted) && !ring.push(gap(missed, is_restarted), None) {
            return Ok(false);
        }
        for event in results.get_events()? {
            let id = read_id(event.get_id()?);
            if !ring.push(frame(event, id)?, Some(id)) {
                return Ok(false);
            }
        }
        ring.on_progress(read_id(results.get_next()?));
        Ok(true)
    };
    read().map_err(|error| failed(&error))
}

fn read_id(from: event_id::Reader<'_>) -> EventId {
    EventId { epoch: from.get_epoch(), position: from.get_position() }
}

/// Says that events are missing: the client was too slow, or the collector
/// has begun anew.
pub(crate) fn gap(missed: u64, is_restarted: bool) -> Bytes {
    format!("event: gap\ndata: {{\"missed\":{missed},\"restarted\":{is_restarted}}}\n\n").into()
}

fn frame(event: tail_event::Reader<'_>, id: EventId) -> Result<Bytes, capnp::Error> {
    let mut to = Vec::with_capacity(256);
    match event.which()? {
        tail_event::Log(line) => {
            let line = line?;
            let mut labels = Vec::new();
            read_labels(line.get_labels()?, &mut labels)?;
            let _ = write!(to, "event: log\nid: {id}\ndata: ");
            json::push_line(&mut to, line.get_time_unix_nano(), labels.into_iter(), line.get_line()?);
        }
        tail_event::Notice(notice) => {
            let notice = notice?;
            let _ = write!(
                to,
                "event: notice\nid: {id}\ndata: {{\"timestamp\":\"{}\"",
                event.get_time_unix_nano()
            );
            for (key, text) in [
                ("code", notice.get_code()?),
                ("agent", notice.get_agent()?),
                ("message", notice.get_message()?),
            ] {
                let _ = write!(to, ",\"{key}\":");
                json::push_string(&mut to, text.to_str()?);
            }
            let _ = write!(to, ",\"items\":{}}}", notice.get_items());
        }
    }
    to.extend_from_slice(b"\n\n");
    Ok(to.into())
}
