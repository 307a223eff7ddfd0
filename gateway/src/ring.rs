//! What waits for one live client: a bounded list of events.
//!
//! The session's thread fills it and stops asking the collector while it is
//! full; the client's HTTP body empties it.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Sleep;

/// Events that may wait for one client ...
pub const EVENTS_MAX: usize = 256;
/// ... and their bytes; one event always has room.
pub const BYTES_MAX: usize = 1 << 20;
/// A client that takes nothing while something waits is given up.
const STALL: Duration = Duration::from_secs(30);
/// A comment after this long without an event, so that proxies stay.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events are joined up to this many bytes for one write.
const WRITE_BYTES: usize = 16 << 10;

/// Position of an event; epochs are runs of the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    pub epoch: u64,
    pub position: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.position)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { text.parse().map_err(|_| ()) } else { Err(()) }
        };
        let (epoch, position) = text.split_once('-').ok_or(())?;
        Ok(EventId { epoch: number(epoch)?, position: number(position)? })
    }
}

/// The waiting events of one client.
pub struct Ring {
    state: Mutex<State>,
    /// Something was taken, or the client is gone.
    moved: Notify,
}

struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    taken_at: Instant,
    /// Where the collector's tail goes on.
    cursor: Option<EventId>,
    /// The client is gone.
    is_closed: bool,
    /// Nothing will be added.
    is_finished: bool,
    waker: Option<Waker>,
}

impl Ring {
    pub fn new() -> Self {
        Ring {
            state: Mutex::new(State {
                frames: VecDeque::new(),
                bytes: 0,
                taken_at: Instant::now(),
                cursor: None,
                is_closed: false,
                is_finished: false,
                waker: None,
            }),
            moved: Notify::new(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame, and where the collector's tail goes on after it. False:
    /// there is no room, or nobody to read.
    pub fn push(&self, frame: Bytes, cursor: Option<EventId>) -> bool {
        let mut state = self.locked();
        let is_full = state.frames.len() >= EVENTS_MAX || state.bytes + frame.len() > BYTES_MAX;
        if state.is_closed || state.is_finished || (is_full && !state.frames.is_empty()) {
            return false;
        }
        if state.frames.is_empty() {
            state.taken_at = Instant::now();
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        state.cursor = cursor.or(state.cursor);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        true
    }

    /// The tail has got this far without an event for this client.
    pub fn on_progress(&self, cursor: EventId) {
        self.locked().cursor = Some(cursor);
    }

    pub fn cursor(&self) -> Option<EventId> {
        self.locked().cursor
    }

    /// Waits until events fit and says how many; 0 when the client is gone or
    /// has taken nothing for too long.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn room(&self) -> usize {
        loop {
            let moved = self.moved.notified();
            let due = {
                let state = self.locked();
                if state.is_closed || state.is_finished {
                    return 0;
                }
                let room = EVENTS_MAX.saturating_sub(state.frames.len());
                if state.frames.is_empty() || (room > 0 && state.bytes < BYTES_MAX / 2) {
                    return room;
                }
                state.taken_at + STALL
            };
            if tokio::time::timeout_at(due.into(), moved).await.is_err()
                && self.locked().taken_at + STALL <= due
            {
                return 0;
            }
        }
    }

    /// Waits until the client is gone or the ring is finished.
    pub async fn closed(&self) {
        loop {
            let moved = self.moved.notified();
            {
                let state = self.locked();
                if state.is_closed || state.is_finished {
                    return;
                }
            }
            moved.await;
        }
    }

    /// No more will be added; what waits is still delivered.
    pub fn finish(&self) {
        let mut state = self.locked();
        state.is_finished = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        drop(state);
        self.moved.notify_waiters();
    }
}

/// The client's end of a ring: a stream of bytes for an HTTP body.
pub struct Events {
    ring: Arc<Ring>,
    heartbeat: Pin<Box<Sleep>>,
}

impl Events {
    pub fn new(ring: Arc<Ring>) -> Self {
        Events { ring, heartbeat: Box::pin(tokio::time::sleep(HEARTBEAT)) }
    }
}

impl futures::Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut state = this.ring.locked();
        if let Some(first) = state.frames.pop_front() {
            state.bytes -= first.len();
            let taken = if state.frames.is_empty() { first } else { join(first, &mut state) };
            state.taken_at = Instant::now();
            drop(state);
            this.ring.moved.notify_waiters();
            this.heartbeat.as_mut().reset(tokio::time::Instant::now() + HEARTBEAT);
            return Poll::Ready(Some(Ok(taken)));
        }
        if state.is_finished {
            return Poll::Ready(None);
        }
        state.waker = Some(ctx.waker().clone());
        drop(state);
        if this.heartbeat.as_mut().poll(ctx).is_ready() {
            this.heartbeat.as_mut().reset(tokio::time::Instant::now() + HEARTBEAT);
            return Poll::Ready(Some(Ok(Bytes::from_static(b": still here\n\n"))));
        }
        Poll::Pending
    }
}

/// Joins small frames into one.
fn join(first: Bytes, state: &mut State) -> Bytes {
    let mut joined = BytesMut::from(first);
    while let Some(next) = state.frames.front() {
        if joined.len() + next.len() > WRITE_BYTES {
            break;
        }
        joined.extend_from_slice(next);
        state.bytes -= next.len();
        state.frames.pop_front();
    }
    joined.freeze()
}

impl Drop for Events {
    fn drop(&mut self) {
        self.ring.locked().is_closed = true;
        self.ring.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn frame(size: usize) -> Bytes {
        Bytes::from(vec![b'x'; size])
    }

    #[test]
    fn ids_read_back() {
        let id = EventId { epoch: 7, position: 12 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "7", "7-", "-1", "a-b", "7-1-2", "+7-1", "99999999999999999999-1"] {
            assert_eq!(text.parse::<EventId>(), Err(()), "{text}");
        }
    }

    #[tokio::test]
    async fn both_bounds_hold_and_one_event_always_fits() {
        let ring = Ring::new();
        assert!(ring.push(frame(2 * BYTES_MAX), None), "the only one");
        assert!(!ring.push(frame(1), None));

        let ring = Ring::new();
        for _ in 0..EVENTS_MAX {
            assert!(ring.push(frame(1), None));
        }
        assert!(!ring.push(frame(1), None));

        let ring = Ring::new();
        assert!(ring.push(frame(BYTES_MAX - 1), None));
        assert!(ring.push(frame(1), None));
        assert!(!ring.push(frame(1), None));
    }

    #[tokio::test(start_paused = true)]
    async fn room_comes_with_reading_and_ends_with_the_client() {
        let ring = Arc::new(Ring::new());
        let mut events = Events::new(ring.clone());
        assert_eq!(ring.room().await, EVENTS_MAX);
        while ring.push(frame(WRITE_BYTES), None) {}
        let waiting = ring.room();
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        for _ in 0..40 {
            events.next().await.unwrap().unwrap();
        }
        assert!(waiting.await > 0);
        let closed = ring.closed();
        tokio::pin!(closed);
        assert!(futures::poll!(closed.as_mut()).is_pending());
        drop(events);
        closed.await;
        assert_eq!(ring.room().await, 0);
        assert!(!ring.push(frame(1), None));
    }

    #[tokio::test(start_paused = true)]
    async fn comments_fill_silence() {
        let ring = Arc::new(Ring::new());
        let mut events = Events::new(ring.clone());
        let start = tokio::time::Instant::now();
        assert_eq!(events.next().await.unwrap().unwrap(), ": still here\n\n");
        assert_eq!(start.elapsed().as_secs(), HEARTBEAT.as_secs());
        ring.push(Bytes::from_static(b"a"), None);
        ring.push(Bytes::from_static(b"b"), None);
        ring.finish();
        assert_eq!(events.next().await.unwrap().unwrap(), "ab");
        assert!(events.next().await.is_none());
    }
}
