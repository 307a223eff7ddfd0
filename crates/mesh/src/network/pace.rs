//! How fast the bytes of one message come.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::budget::Lease;

/// The bytes of so long a time are looked at together.
const WINDOW: Duration = Duration::from_secs(2);
/// A window with fewer is slow: 64 KiB a second. That matters only while
/// others wait for the memory that it holds.
const WINDOW_BYTES_MIN: usize = 128 << 10;
/// After so many windows without a byte nothing is expected any more: 10 s.
const SILENT_WINDOWS_MAX: u32 = 5;

/// Why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    /// No byte came for long.
    Silent,
    /// Its bytes come slowly, and somebody waits for what it holds.
    Cut,
}

/// Watches a reader that has to wait for its bytes.
pub(super) struct Pace {
    /// The end of the window; there is none before the first wait.
    timer: Option<Pin<Box<Sleep>>>,
    window_bytes: usize,
    silent_windows: u32,
    is_slow: bool,
}

impl Pace {
    pub fn new() -> Pace {
        Pace { timer: None, window_bytes: 0, silent_windows: 0, is_slow: false }
    }

    /// Some bytes have come.
    pub fn progress(&mut self, bytes: usize) {
        self.window_bytes += bytes;
    }

    /// Says that there is nothing to read at the moment. Ready when the
    /// message has to be given up; `lease` is what it holds.
    pub fn poll(&mut self, cx: &mut Context<'_>, mut lease: Option<&mut Lease>) -> Poll<Stalled> {
        if self.timer.is_none() {
            self.window_bytes = 0;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(WINDOW)));
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + WINDOW);
            let bytes = std::mem::take(&mut self.window_bytes);
            self.silent_windows = if bytes == 0 { self.silent_windows + 1 } else { 0 };
            if self.silent_windows == SILENT_WINDOWS_MAX {
                return Poll::Ready(Stalled::Silent);
            }
            self.is_slow = bytes < WINDOW_BYTES_MIN;
            if !self.is_slow
                && let Some(lease) = &mut lease
            {
                lease.not_slow();
            }
        }
        match lease {
            Some(lease) if self.is_slow => lease.poll_slow(cx).map(|()| Stalled::Cut),
            _ => Poll::Pending,
        }
    }
}
