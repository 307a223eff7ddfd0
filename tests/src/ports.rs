//! Ports that stay ours for as long as a test runs.
//!
//! A port that is only bound for a moment to find it can be taken while its
//! process is down, by another test or as the source port of any connection.
//! So ports come from below the ephemeral range and are held by a lock file.

use std::fs::{File, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 12_000;
const COUNT: u32 = 18_000;

/// A port of loopback, free for UDP and TCP when it was reserved.
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    /// Reserves the next free port.
    ///
    /// # Panics
    ///
    /// When none is left.
    pub fn reserve() -> Port {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join("lightmetrics-test-ports");
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..COUNT {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let number = (FIRST + offset) as u16;
            let path = dir.join(number.to_string());
            let Ok(lock) = OpenOptions::new().write(true).create(true).truncate(false).open(&path) else {
                continue;
            };
            if lock.try_lock().is_err() {
                continue;
            }
            let is_free = TcpListener::bind(("127.0.0.1", number)).is_ok()
                && UdpSocket::bind(("127.0.0.1", number)).is_ok();
            if is_free {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port on loopback");
    }
}
