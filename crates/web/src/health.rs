//! `/livez`, `/readyz`, `/startupz` and `/healthz`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};

/// Whether this process lives, has started, and is ready. Cheap to clone; all
/// clones are one.
///
/// Alive: it answers at all. Started: [`Health::started`] was called. Ready:
/// started, not stopping, and every [`Check`] passes.
#[derive(Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_started: AtomicBool,
    is_stopping: AtomicBool,
    /// `Some`: why not.
    checks: Mutex<BTreeMap<&'static str, Option<String>>>,
}

/// One named condition of readiness.
#[derive(Clone)]
pub struct Check {
    health: Health,
    name: &'static str,
}

impl Check {
    pub fn pass(&self) {
        self.set(None);
    }

    /// `reason` is shown to anybody who asks: it must hold no secret.
    pub fn fail(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, state: Option<String>) {
        self.health.checks().insert(self.name, state);
    }
}

impl Health {
    pub fn new() -> Self {
        Health::default()
    }

    /// A condition that does not hold yet.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { health: self.clone(), name };
        check.fail("not yet");
        check
    }

    pub fn started(&self) {
        self.0.is_started.store(true, Ordering::Relaxed);
    }

    /// From now on not ready: the process drains.
    pub fn stopping(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.is_stopping() && self.checks().values().all(Option::is_none)
    }

    /// The answer to a health endpoint; `None` for every other path. Text, or
    /// JSON for who accepts that; `?verbose` lists the checks.
    pub fn answer(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Response<Full<Bytes>>> {
        let is_ok = match path {
            "/livez" | "/healthz" | "/-/healthy" => true,
            "/startupz" => self.is_started(),
            "/readyz" | "/-/ready" => self.is_ready(),
            _ => return None,
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(crate::refusal(StatusCode::METHOD_NOT_ALLOWED, "bad_data", "use GET"));
        }
        let is_verbose =
            query.unwrap_or("").split('&').any(|part| part == "verbose" || part.starts_with("verbose="));
        let is_json = headers
            .get(ACCEPT)
            .is_some_and(|accept| accept.as_bytes().windows(16).any(|part| part == b"application/json"));
        let text = if is_json { self.json(is_ok, is_verbose) } else { self.text(is_ok, is_verbose) };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        if !is_ok {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        let to = response.headers_mut();
        to.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        to.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        to.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }

    fn text(&self, is_ok: bool, is_verbose: bool) -> String {
        let mut text = String::new();
        if is_verbose {
            for (name, state) in self.report() {
                let _ = match state {
                    None => writeln!(text, "[+] {name} ok"),
                    Some(reason) => writeln!(text, "[-] {name} failed: {reason}"),
                };
            }
        }
        text.push_str(if is_ok { "ok\n" } else { "not ok\n" });
        text
    }

    fn json(&self, is_ok: bool, is_verbose: bool) -> String {
        let mut text = format!(r#"{{"status":"{}""#, if is_ok { "ok" } else { "failed" });
        if is_verbose {
            text.push_str(r#","checks":["#);
            for (index, (name, state)) in self.report().into_iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(text, r#"{comma}{{"name":{},"ok":{}"#, quoted(name), state.is_none());
                if let Some(reason) = state {
                    let _ = write!(text, r#","reason":{}"#, quoted(&reason));
                }
                text.push('}');
            }
            text.push(']');
        }
        text.push('}');
        text
    }

    /// Every condition of readiness, with the reason when it does not hold.
    fn report(&self) -> Vec<(&'static str, Option<String>)> {
        let mut report = vec![("started", (!self.is_started()).then(|| "not yet".to_owned()))];
        if self.is_stopping() {
            report.push(("stopping", Some("the process drains".to_owned())));
        }
        report.extend(self.checks().iter().map(|(name, state)| (*name, state.clone())));
        report
    }

    fn is_started(&self) -> bool {
        self.0.is_started.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut to = String::with_capacity(text.len() + 2);
    to.push('"');
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(to, "\\u{:04x}", c as u32);
            }
            c => to.push(c),
        }
    }
    to.push('"');
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(health: &Health, path: &str, query: Option<&str>) -> (u16, String) {
        let response = health.answer(&Method::GET, path, query, &HeaderMap::new()).unwrap();
        let status = response.status().as_u16();
        let body = response.into_body();
        // A `Full` body is ready at once.
        let mut body = std::pin::pin!(body);
        let mut ctx = std::task::Context::from_waker(std::task::Waker::noop());
        let frame = match hyper::body::Body::poll_frame(body.as_mut(), &mut ctx) {
            std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
            other => panic!("{other:?}"),
        };
        (status, String::from_utf8(frame.to_vec()).unwrap())
    }

    #[test]
    fn ready_needs_every_check() {
        let health = Health::new();
        let session = health.check("collector session");
        assert_eq!(ask(&health, "/livez", None), (200, "ok\n".to_owned()));
        assert_eq!(ask(&health, "/startupz", None).0, 503);
        health.started();
        assert_eq!(ask(&health, "/startupz", None).0, 200);
        assert_eq!(ask(&health, "/readyz", None), (503, "not ok\n".to_owned()));
        session.pass();
        assert_eq!(ask(&health, "/readyz", None).0, 200);
        session.fail("no \"route\"");
        assert_eq!(
            ask(&health, "/readyz", Some("verbose")),
            (503, "[+] started ok\n[-] collector session failed: no \"route\"\nnot ok\n".to_owned())
        );
        session.pass();
        health.stopping();
        assert_eq!(ask(&health, "/readyz", None).0, 503);
        assert_eq!(ask(&health, "/healthz", None).0, 200);
        assert!(health.answer(&Method::GET, "/other", None, &HeaderMap::new()).is_none());
    }

    #[test]
    fn json_for_who_accepts_it() {
        let health = Health::new();
        let check = health.check("disk");
        check.fail("a \"b\"\n");
        assert_eq!(
            health.json(false, true),
            "{\"status\":\"failed\",\"checks\":[{\"name\":\"started\",\"ok\":false,\"reason\":\"not yet\"},\
             {\"name\":\"disk\",\"ok\":false,\"reason\":\"a \\\"b\\\"\\u000a\"}]}"
        );
    }
}
