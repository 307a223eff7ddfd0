//! Users' capabilities, remembered for a while by the digest of their token.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, Shared};
use lm_schema::mesh_capnp::{authenticated, user_gate};
use lm_schema::operator_capnp::operator;
use lm_schema::query_capnp::reader;
use ring::digest;

use super::{call_failed, failed, timed_out};
use crate::backend::{Failure, FailureKind, Token};

/// How long a refusal is remembered: long enough to blunt a flood of the same
/// wrong token, short enough for a token that has just been made.
const REFUSED_FOR: Duration = Duration::from_secs(1);
const REFUSED_MAX: usize = 256;
/// Exchanges under way; more are answered "overloaded".
const EXCHANGES_MAX: usize = 32;
/// Longest token that is passed on.
const TOKEN_BYTES_MAX: usize = 1024;

/// Someone who may read.
pub(crate) struct User {
    pub name: String,
    pub reader: reader::Client,
    /// Whoever is no operator has none.
    pub operator: Option<operator::Client>,
}

type Digest = [u8; 32];
type Exchange = Shared<LocalBoxFuture<'static, Result<Rc<User>, Failure>>>;

/// The users of one session.
#[derive(Clone)]
pub(crate) struct Users(Rc<Inner>);

struct Inner {
    gate: user_gate::Client,
    users_max: usize,
    cache_max: Duration,
    patience: Duration,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    good: HashMap<Digest, (Rc<User>, Instant)>,
    refused: HashMap<Digest, (Failure, Instant)>,
    exchanges: HashMap<Digest, Exchange>,
}

impl Users {
    pub fn new(gate: user_gate::Client, users_max: usize, cache_max: Duration, patience: Duration) -> Self {
        Users(Rc::new(Inner { gate, users_max, cache_max, patience, known: RefCell::default() }))
    }

    /// The user that `token` belongs to. Requests with the same token share
    /// one exchange.
    pub async fn find(&self, token: &Token) -> Result<Rc<User>, Failure> {
        let digest = digest_of(token.expose());
        let exchange = {
            let mut known = self.0.known.borrow_mut();
            let now = Instant::now();
            if let Some((user, until)) = known.good.get(&digest)
                && now < *until
            {
                return Ok(user.clone());
            }
            if let Some((failure, until)) = known.refused.get(&digest)
                && now < *until
            {
                return Err(failure.clone());
            }
            match known.exchanges.get(&digest) {
                Some(exchange) => exchange.clone(),
                None => {
                    if token.expose().len() > TOKEN_BYTES_MAX {
                        return Err(refused("denied: the token is not known"));
                    }
                    if known.exchanges.len() >= EXCHANGES_MAX {
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
        self.0.known.borrow_mut().good.remove(&digest_of(token.expose()));
    }
}

async fn exchange(inner: Rc<Inner>, digest: Digest, token: Token) -> Result<Rc<User>, Failure> {
    let result = ask(&inner, &token).await;
    let mut known = inner.known.borrow_mut();
    known.exchanges.remove(&digest);
    let now = Instant::now();
    match result {
        Ok((user, cache)) => {
            known.refused.remove(&digest);
            let user = Rc::new(user);
            let cache = cache.min(inner.cache_max);
            if !cache.is_zero() {
                make_room(&mut known.good, inner.users_max, now);
                known.good.insert(digest, (user.clone(), now + cache));
            }
            Ok(user)
        }
        Err(failure) => {
            if failure.kind == FailureKind::Unauthorized {
                known.good.remove(&digest);
                make_room(&mut known.refused, REFUSED_MAX, now);
                known.refused.insert(digest, (failure.clone(), now + REFUSED_FOR));
            }
            Err(failure)
        }
    }
}

async fn ask(inner: &Inner, token: &Token) -> Result<(User, Duration), Failure> {
    let mut request = inner.gate.authenticate_request();
    request.get().init_credential().set_bearer(token.expose());
    let response = tokio::time::timeout(inner.patience, request.send().promise)
        .await
        .map_err(|_| timed_out())?
        .map_err(|error| call_failed(&error))?;
    let result = response.get().and_then(|results| results.get_result()).map_err(|error| failed(&error))?;
    match result.which() {
        Ok(authenticated::User(user)) => {
            let read = || -> Result<(User, Duration), capnp::Error> {
                let user = user?;
                let cache = Duration::from_millis(user.get_cache_ms().into());
                let operator = if user.has_operator() { Some(user.get_operator()?) } else { None };
                let name = user.get_name()?.to_string()?;
                Ok((User { name, reader: user.get_reader()?, operator }, cache))
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

/// Drops what is over, then what would be over first.
fn make_room<T>(entries: &mut HashMap<Digest, (T, Instant)>, max: usize, now: Instant) {
    if entries.len() < max {
        return;
    }
    entries.retain(|_, (_, until)| now < *until);
    while entries.len() >= max {
        let Some(first) = entries.iter().min_by_key(|(_, (_, until))| *until).map(|(digest, _)| *digest)
        else {
            return;
        };
        entries.remove(&first);
    }
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded() {
        let now = Instant::now();
        let mut entries = HashMap::new();
        for n in 0..10u8 {
            entries.insert([n; 32], (n, now + Duration::from_secs(n.into())));
        }
        make_room(&mut entries, 10, now);
        assert_eq!(entries.len(), 9, "what is over goes");
        make_room(&mut entries, 5, now);
        let mut left: Vec<_> = entries.values().map(|(n, _)| *n).collect();
        left.sort();
        assert_eq!(left, [6, 7, 8, 9], "then what ends first");
    }
}
