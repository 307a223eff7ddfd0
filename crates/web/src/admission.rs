//! Who has a connection, and whose is given up for a new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::Limits;

/// One open connection, as the accept loop sees it.
pub(crate) struct Connection {
    pub id: u64,
    ip: IpAddr,
    state: Mutex<State>,
    /// Woken once, when the connection must end now.
    pub cut: Notify,
}

struct State {
    /// Requests under way. `Some` since a piece of the answer was handed to
    /// the transport and the next one was not asked for.
    requests: HashMap<u64, Option<Instant>>,
    next_request: u64,
    /// Since when there is no request.
    idle_since: Instant,
    /// First byte of a header that is not complete. HTTP/1 only: on HTTP/2,
    /// pings arrive on idle connections too.
    header_since: Option<Instant>,
    is_http2: bool,
    has_served: bool,
}

impl Connection {
    fn locked(&self) -> MutexGuard<'_, State> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport read `bytes`.
    pub fn on_read(&self, bytes: &[u8], now: Instant) {
        let mut state = self.locked();
        if !state.has_served && state.header_since.is_none() && bytes.starts_with(b"PRI") {
            state.is_http2 = true;
        }
        if state.requests.is_empty() && !state.is_http2 && !bytes.is_empty() {
            state.header_since.get_or_insert(now);
        }
    }

    /// A request's header is complete.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.locked();
        let id = state.next_request;
        state.next_request += 1;
        state.requests.insert(id, None);
        state.header_since = None;
        state.has_served = true;
        InFlight { connection: self.clone(), id }
    }

    /// Whether a bound of time has passed.
    fn is_overdue(&self, limits: &Limits, now: Instant) -> bool {
        let state = self.locked();
        let since = |then: Instant| now.saturating_duration_since(then);
        if state.requests.is_empty() {
            let idle_max =
                if state.has_served || state.is_http2 { limits.idle_timeout } else { limits.header_timeout };
            return since(state.idle_since) > idle_max
                || state.header_since.is_some_and(|then| since(then) > limits.header_timeout);
        }
        state.requests.values().flatten().any(|handed| since(*handed) > limits.stall_timeout)
    }

    /// Order of being given up: who never sent a request first, then who has
    /// been idle for longest. `None` while a request is under way.
    fn dispensable(&self) -> Option<(bool, Instant)> {
        let state = self.locked();
        state.requests.is_empty().then_some((state.has_served, state.idle_since))
    }
}

/// A request under way; dropped when its answer has been handed over.
pub(crate) struct InFlight {
    connection: Arc<Connection>,
    id: u64,
}

impl InFlight {
    /// A piece of the answer went to the transport at `now`; `None`: the
    /// transport asks for more.
    pub fn handed(&self, now: Option<Instant>) {
        self.connection.locked().requests.insert(self.id, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.connection.locked();
        state.requests.remove(&self.id);
        if state.requests.is_empty() {
            state.idle_since = Instant::now();
        }
    }
}

/// All open connections.
#[derive(Clone)]
pub(crate) struct Admission {
    limits: Arc<Limits>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    connections: HashMap<u64, Arc<Connection>>,
    per_ip: HashMap<IpAddr, usize>,
}

impl Open {
    fn remove(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(count) = self.per_ip.get_mut(&connection.ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&connection.ip);
            }
        }
    }

    /// Gives up one connection of `ip` (or of anybody); false when all are busy.
    fn evict(&mut self, ip: Option<IpAddr>) -> bool {
        let victim = self
            .connections
            .values()
            .filter(|connection| ip.is_none_or(|ip| connection.ip == ip))
            .filter_map(|connection| Some((connection.dispensable()?, connection.id)))
            .min();
        let Some((_, id)) = victim else { return false };
        self.connections[&id].cut.notify_one();
        self.remove(id);
        true
    }
}

impl Admission {
    pub fn new(limits: Arc<Limits>) -> Self {
        Admission { limits, open: Arc::default() }
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `ip`, or `None` when all are busy.
    pub fn admit(&self, ip: IpAddr, now: Instant) -> Option<Place> {
        let mut open = self.locked();
        if open.per_ip.get(&ip).is_some_and(|count| *count >= self.limits.connections_per_ip_max)
            && !open.evict(Some(ip))
        {
            return None;
        }
        if open.connections.len() >= self.limits.connections_max && !open.evict(None) {
            return None;
        }
        let id = open.next_id;
        open.next_id += 1;
        let connection = Arc::new(Connection {
            id,
            ip,
            state: Mutex::new(State {
                requests: HashMap::new(),
                next_request: 0,
                idle_since: now,
                header_since: None,
                is_http2: false,
                has_served: false,
            }),
            cut: Notify::new(),
        });
        open.connections.insert(id, connection.clone());
        *open.per_ip.entry(ip).or_default() += 1;
        Some(Place { admission: self.clone(), connection })
    }

    /// Gives up one idle connection, to free its file descriptor.
    pub fn evict_any(&self) -> bool {
        self.locked().evict(None)
    }

    /// Ends every connection whose time is over.
    pub fn sweep(&self, now: Instant) {
        let mut open = self.locked();
        let overdue: Vec<u64> = open
            .connections
            .values()
            .filter(|connection| connection.is_overdue(&self.limits, now))
            .map(|connection| connection.id)
            .collect();
        for id in overdue {
            open.connections[&id].cut.notify_one();
            open.remove(id);
        }
    }

    /// Ends every connection and says how many there were.
    pub fn cut_all(&self) -> usize {
        let open = self.locked();
        open.connections.values().for_each(|connection| connection.cut.notify_one());
        open.connections.len()
    }

    pub fn len(&self) -> usize {
        self.locked().connections.len()
    }
}

/// A connection's place; free again when dropped.
pub(crate) struct Place {
    admission: Admission,
    pub connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.locked().remove(self.connection.id);
    }
}

#[cfg(test)]
mod tests;
