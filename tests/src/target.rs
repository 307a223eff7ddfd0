//! A scrape target on loopback that answers as a test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ports::Port;

/// What a [`Target`] does with a request.
#[derive(Clone, Debug)]
pub enum Does {
    /// Answers 200 with these headers and bytes.
    Answer { headers: String, body: Vec<u8> },
    /// Answers with this status line and nothing else.
    Refuse(&'static str),
    /// Never answers.
    Hang,
    /// Answers without end.
    Flood,
}

impl Does {
    /// Prometheus' text.
    pub fn text(body: &str) -> Does {
        let headers = "Content-Type: text/plain; version=0.0.4\r\n".to_owned();
        Does::Answer { headers, body: body.as_bytes().to_vec() }
    }
}

/// A server that keeps its port, also while it is stopped.
pub struct Target {
    port: Port,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

struct State {
    does: Mutex<Does>,
    heads: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    is_stopped: AtomicBool,
}

impl Target {
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(does: Does) -> Target {
        let state = State {
            does: Mutex::new(does),
            heads: Mutex::default(),
            connections: Mutex::default(),
            is_stopped: AtomicBool::new(true),
        };
        let mut target = Target { port: Port::reserve(), state: Arc::new(state), accepting: None };
        target.restart();
        target
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    pub fn does(&self, does: Does) {
        *lock(&self.state.does) = does;
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state.heads).clone()
    }

    /// Begins to listen again.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn restart(&mut self) {
        assert!(self.accepting.is_none(), "it runs");
        let listener = TcpListener::bind(("127.0.0.1", self.port.number)).expect("the port is ours");
        self.state.is_stopped.store(false, Ordering::SeqCst);
        let state = self.state.clone();
        self.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                lock(&state.connections).extend(stream.try_clone());
                let state = state.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        }));
    }

    /// Refuses connections, and ends those that there are.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.state.is_stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port.number)));
        let _ = accepting.join();
        for connection in lock(&self.state.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut stream: TcpStream, state: &State) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&chunk[..read]);
        };
        let head: Vec<u8> = bytes.drain(..end).collect();
        lock(&state.heads).push(String::from_utf8_lossy(&head).into_owned());
        let does = lock(&state.does).clone();
        match does {
            Does::Answer { headers, body } => {
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n").ok()?;
                stream.write_all(&body).ok()?;
            }
            Does::Refuse(status) => {
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()?;
            }
            Does::Hang => {
                while !state.is_stopped.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Does::Flood => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n").ok()?;
                for n in 0_u64.. {
                    writeln!(stream, "flood{{n=\"{n}\"}} {n}").ok()?;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
