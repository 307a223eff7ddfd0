//! Users' capabilities, remembered for a while by a keyed digest of their
//! token: neither a token nor anything that it could be found by is kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, Shared};
use lm_schema::mesh_capnp::{authenticated, writer};
use lm_schema::operator_capnp::operator;
use lm_schema::query_capnp::reader;
use ring::hmac;
use tokio::sync::{Notify, watch};

use super::stream::QueryStream;
use super::{call_failed, failed, timed_out};
use crate::backend::{Failure, FailureKind, Token};

/// How long a refusal is remembered: long enough to blunt a flood of the same
/// wrong token, short enough for a token that has just been made.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Refusals that are remembered. While there is no room for another, tokens
/// that are not known are not exchanged: a flood of wrong ones costs the
/// collector at most these many calls in a second.
const REFUSED_MAX: usize = 256;
/// Exchanges under way; more are answered "overloaded".
const EXCHANGES_MAX: usize = 32;
/// Longest token that is passed on.
const TOKEN_BYTES_MAX: usize = 1024;
/// How often one exchange is begun again because of a revocation meanwhile.
const EXCHANGE_TRIES: usize = 3;

/// Someone who the collector knows.
pub(crate) struct User {
    pub name: String,
    /// `None`: the user may not read.
    reader: Option<reader::Client>,
    /// Whoever is no operator has none.
    pub operator: Option<operator::Client>,
    /// Only over the stream of those who write.
    writer: Option<writer::Client>,
    /// When to ask the collector again.
    pub until: Instant,
    /// What the capabilities live on; it stays open while somebody uses them.
    pub stream: Rc<QueryStream>,
}

impl User {
    /// # Errors
    ///
    /// [`FailureKind::Forbidden`] when the user has no right to read.
    pub fn reader(&self) -> Result<&reader::Client, Failure> {
        self.reader.as_ref().ok_or_else(|| {
            let message = format!("{} may not read: use the token of a viewer or an operator", self.name);
            Failure::new(FailureKind::Forbidden, message)
        })
    }

    /// # Errors
    ///
    /// [`FailureKind::Forbidden`] when the user has no right to write.
    pub fn writer(&self) -> Result<&writer::Client, Failure> {
        self.writer.as_ref().ok_or_else(|| {
            let message = format!("{} may not write: use the token of a writer", self.name);
            Failure::new(FailureKind::Forbidden, message)
        })
    }
}

type Digest = [u8; 32];
type Exchange = Shared<LocalBoxFuture<'static, Result<Rc<User>, Failure>>>;

/// The users of one session.
#[derive(Clone)]
pub(crate) struct Users(Rc<Inner>);

struct Inner {
    /// Where tokens are exchanged now.
    stream: RefCell<Rc<QueryStream>>,
    /// Told when the stream has seen enough cancelled calls.
    is_worn: Notify,
    key: hmac::Key,
    users_max: usize,
    cache_max: Duration,
    patience: Duration,
    /// The collector's, as last heard: what was exchanged before is void.
    generation: watch::Sender<u64>,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    good: Remembered<Rc<User>>,
    refused: Remembered<Failure>,
    exchanges: HashMap<Digest, Exchange>,
}

impl Users {
    pub fn new(stream: QueryStream, users_max: usize, cache_max: Duration, patience: Duration) -> Self {
        let mut secret = [0; 32];
        // Without randomness the digests are still digests.
        let _ = getrandom::fill(&mut secret);
        Users(Rc::new(Inner {
            stream: RefCell::new(Rc::new(stream)),
            is_worn: Notify::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            users_max,
            cache_max,
            patience,
            generation: watch::Sender::new(0),
            known: RefCell::default(),
        }))
    }

    /// Exchanges tokens on another stream from now on, and forgets what came
    /// over the present one, which is returned: it ends when nobody uses it.
    pub fn renew(&self, stream: QueryStream) -> Rc<QueryStream> {
        self.0.known.borrow_mut().good = Remembered::default();
        self.0.stream.replace(Rc::new(stream))
    }

    /// Whether `user` is of a stream that was renewed since.
    pub fn is_old(&self, user: &User) -> bool {
        !Rc::ptr_eq(&user.stream, &self.0.stream.borrow())
    }

    /// Waits until the stream should be renewed.
    pub async fn worn(&self) {
        while !self.0.stream.borrow().is_worn() {
            self.0.is_worn.notified().await;
        }
    }

    /// The user that `token` belongs to. Requests with the same token share
    /// one exchange.
    pub async fn find(&self, token: &Token) -> Result<Rc<User>, Failure> {
        // Whatever is abandoned was asked for through here.
        if self.0.stream.borrow().is_worn() {
            self.0.is_worn.notify_one();
        }
        let digest = self.digest_of(token);
        let exchange = {
            let mut known = self.0.known.borrow_mut();
            let now = Instant::now();
            if let Some(user) = known.good.get(&digest, now) {
                return Ok(user);
            }
            if let Some(failure) = known.refused.get(&digest, now) {
                return Err(failure);
            }
            match known.exchanges.get(&digest) {
                Some(exchange) => exchange.clone(),
                None => {
                    if token.expose().len() > TOKEN_BYTES_MAX {
                        return Err(refused("denied: the token is not known"));
                    }
                    if known.exchanges.len() >= EXCHANGES_MAX || known.refused.is_full(REFUSED_MAX, now) {
                        let message = "too many tokens are being checked; try again in a moment";
                        return Err(Failure::new(FailureKind::Overloaded, message));
                    }
                    let exchange = exchange(self.0.clone(), digest, token.clone()).boxed_local().shared();
                    known.exchanges.insert(digest, exchange.clone());
                    // It ends by itself when every waiting client leaves.
                    tokio::task::spawn_local(exchange.clone());
                    exchange
                }
            }
        };
        exchange.await
    }

    /// Forgets a token that the collector does not honour any more.
    pub fn forget(&self, token: &Token) {
        self.0.known.borrow_mut().good.remove(&self.digest_of(token));
    }

    /// Forgets everybody when the collector's generation is another: refusals
    /// too, since a token may have been given worth.
    pub fn set_generation(&self, generation: u64) {
        let is_new = self.0.generation.send_if_modified(|known| {
            let is_new = generation != *known;
            *known = generation;
            is_new
        });
        if is_new {
            let mut known = self.0.known.borrow_mut();
            known.good = Remembered::default();
            known.refused = Remembered::default();
        }
    }

    /// Notifies when everybody was forgotten.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    fn digest_of(&self, token: &Token) -> Digest {
        let mut digest = Digest::default();
        digest.copy_from_slice(hmac::sign(&self.0.key, token.expose().as_bytes()).as_ref());
        digest
    }
}

async fn exchange(inner: Rc<Inner>, digest: Digest, token: Token) -> Result<Rc<User>, Failure> {
    let mut tries = 1;
    let (result, is_current) = loop {
        let begun = *inner.generation.borrow();
        let stream = inner.stream.borrow().clone();
        let result = ask(&inner, &stream, &token).await;
        // An answer of before a revocation may arrive after it; one that came
        // over a stream that was renewed since must not keep that open.
        let is_current = *inner.generation.borrow() == begun && Rc::ptr_eq(&stream, &inner.stream.borrow());
        if is_current || tries == EXCHANGE_TRIES {
            break (result, is_current);
        }
        tries += 1;
    };
    let mut known = inner.known.borrow_mut();
    known.exchanges.remove(&digest);
    let now = Instant::now();
    match result {
        Ok(user) => {
            let user = Rc::new(user);
            known.refused.remove(&digest);
            if is_current && now < user.until {
                known.good.insert(digest, user.clone(), user.until, inner.users_max, now);
            }
            Ok(user)
        }
        Err(failure) => {
            if failure.kind == FailureKind::Unauthorized {
                known.good.remove(&digest);
                known.refused.insert(digest, failure.clone(), now + REFUSED_FOR, REFUSED_MAX, now);
            }
            Err(failure)
        }
    }
}

async fn ask(inner: &Inner, stream: &Rc<QueryStream>, token: &Token) -> Result<User, Failure> {
    let begun = Instant::now();
    let mut request = stream.gate.authenticate_request();
    request.get().init_credential().set_bearer(token.expose());
    let response = tokio::time::timeout(inner.patience, request.send().promise)
        .await
        .map_err(|_| timed_out())?
        .map_err(|error| call_failed(&error))?;
    let result = response.get().and_then(|results| results.get_result()).map_err(|error| failed(&error))?;
    match result.which() {
        Ok(authenticated::User(user)) => {
            let read = || -> Result<User, capnp::Error> {
                let user = user?;
                let cache = Duration::from_millis(user.get_cache_ms().into()).min(inner.cache_max);
                let reader = if user.has_reader() { Some(user.get_reader()?) } else { None };
                let operator = if user.has_operator() { Some(user.get_operator()?) } else { None };
                let writer = if user.has_writer() { Some(user.get_writer()?) } else { None };
                let name = user.get_name()?.to_string()?;
                Ok(User { name, reader, operator, writer, until: begun + cache, stream: stream.clone() })
            };
            read().map_err(|error| failed(&error))
        }
        Ok(authenticated::Refused(why)) => {
            Err(refused(why.ok().and_then(|why| why.to_str().ok()).unwrap_or("denied")))
        }
        Err(_) => Err(refused("denied: the collector's answer is not understood")),
    }
}

fn refused(why: &str) -> Failure {
    Failure::new(FailureKind::Unauthorized, why)
}

/// What is remembered for a while; when there is no room, what was used least
/// lately goes.
struct Remembered<T> {
    entries: HashMap<Digest, Entry<T>>,
    uses: u64,
}

struct Entry<T> {
    value: T,
    until: Instant,
    used: u64,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Remembered { entries: HashMap::new(), uses: 0 }
    }
}

impl<T: Clone> Remembered<T> {
    fn get(&mut self, digest: &Digest, now: Instant) -> Option<T> {
        self.uses += 1;
        let entry = self.entries.get_mut(digest).filter(|entry| now < entry.until)?;
        entry.used = self.uses;
        Some(entry.value.clone())
    }

    fn insert(&mut self, digest: Digest, value: T, until: Instant, max: usize, now: Instant) {
        self.uses += 1;
        if !self.entries.contains_key(&digest) && self.is_full(max, now) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(digest, _)| *digest);
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(digest, Entry { value, until, used: self.uses });
    }

    /// Whether there is no room once what is over was dropped.
    fn is_full(&mut self, max: usize, now: Instant) -> bool {
        if self.entries.len() >= max {
            self.entries.retain(|_, entry| now < entry.until);
        }
        self.entries.len() >= max
    }

    fn remove(&mut self, digest: &Digest) {
        self.entries.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_lately_goes() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut known = Remembered::default();
        for n in 0..4u8 {
            known.insert([n; 32], n, later, 4, now);
        }
        assert_eq!(known.get(&[0; 32], now), Some(0));
        known.insert([4; 32], 4, later, 4, now);
        let mut left: Vec<_> = known.entries.keys().map(|digest| digest[0]).collect();
        left.sort();
        assert_eq!(left, [0, 2, 3, 4]);
        assert!(known.is_full(4, now) && !known.is_full(4, later), "what is over makes room");
        assert_eq!(known.get(&[4; 32], later), None);
    }
}
