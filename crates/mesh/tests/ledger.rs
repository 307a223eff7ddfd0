//! The ledger over real sockets: what is listed, what a revocation cuts and
//! leaves alone, what expires, and what a tap shows.

mod support;

use std::time::{Duration, Instant};

use lm_mesh::{CallState, CloseCode, TapFilter};
use lm_schema::query_capnp::tail;
use support::{
    BRIEF, BRIEF_LIFETIME, Bench, FINISHING, cursor, eventually, gateway, reader, refused, run, users,
    values, verdict,
};

use std::sync::atomic::Ordering::Relaxed;

async fn open_tail(reader: &lm_schema::query_capnp::reader::Client) -> tail::Client {
    let response = reader.tail_request().send().promise.await.unwrap();
    response.get().unwrap().get_tail().unwrap()
}

/// A call that does not end by itself, sent now.
fn wait_for_ever(tail: &tail::Client) -> tokio::task::JoinHandle<Result<(), capnp::Error>> {
    let call = tail.next_request().send().promise;
    tokio::task::spawn_local(async move { call.await.map(drop) })
}

async fn under_way(bench: &Bench, count: u32) {
    eventually("the calls are under way", || bench.host.under_way.load(Relaxed) == count).await;
}

#[test]
fn every_capability_is_listed_below_its_grantor() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let ada = reader(&users, "ada").await;
        let brief = reader(&users, BRIEF).await;
        let opened = cursor(&ada).await.unwrap();

        let root = bench.one("Session", "g0");
        assert_eq!((root.grantor, root.session), (None, connected.session_id));
        let session = bench.one("GatewaySession", "g0");
        assert_eq!((session.grantor, &session.scope[..]), (Some(root.id), "all"));
        let gate = bench.one("UserGate", "g0");
        assert_eq!((gate.grantor, &gate.scope[..]), (Some(session.id), "users"));
        let read = bench.one("Reader", "ada");
        assert_eq!((read.grantor, &read.scope[..], read.expires_unix_ms), (Some(gate.id), "logs", None));
        let of_cursor = bench.one("Cursor", "ada");
        assert_eq!((of_cursor.grantor, of_cursor.session), (Some(read.id), connected.session_id));
        let expiring = bench.one("Reader", BRIEF);
        let lifetime = expiring.expires_unix_ms.unwrap() - expiring.granted_unix_ms;
        assert_eq!(lifetime, BRIEF_LIFETIME.as_millis() as i64);

        // In pages, nothing twice and nothing left out.
        let all: Vec<_> = bench.facts().iter().map(|facts| facts.id).collect();
        let mut paged = Vec::new();
        loop {
            let (page, has_more) =
                bench.ledger().capabilities(paged.last().copied().unwrap_or(0), 2, |_| true);
            paged.extend(page.iter().map(|facts| facts.id));
            if !has_more {
                break;
            }
        }
        assert_eq!(paged, all);

        // Released one by one, then all at once.
        drop(opened);
        eventually("the cursor is released", || bench.facts().iter().all(|f| f.interface != "Cursor")).await;
        drop(brief);
        eventually("the reader is released", || bench.ledger().len() == 3).await;
        // A ticket that nobody redeems must not keep the session alive.
        gateway(&connected).query_ticket_request().send().promise.await.unwrap();
        let session = bench.registry.session(connected.session_id).unwrap();
        assert_eq!(session.activity().capabilities() as usize, bench.facts().len());
        connected.close().await;
        eventually("nothing is left", || bench.facts().is_empty()).await;
        eventually("no calls are left", || session.activity().capabilities() == 0).await;
        let forgotten = std::sync::Arc::downgrade(&session);
        drop(session);
        eventually("the session is forgotten", || forgotten.strong_count() == 0).await;
    });
}

#[test]
fn calls_errors_and_bytes_are_counted() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let ada = reader(&users, "ada").await;
        let before = bench.one("Reader", "ada");
        assert_eq!((before.calls, before.last_method, before.last_use_unix_ms), (0, None, None));
        for _ in 0..3 {
            values(&ada, 10_000).await.unwrap();
        }
        let mut request = ada.series_request();
        request.get().init_selection().init_selectors(1).set(0, "y".repeat(5_000));
        request.send().promise.await.unwrap();
        let facts = bench.one("Reader", "ada");
        assert_eq!((facts.calls, facts.errors, facts.in_flight), (4, 0, 0));
        assert_eq!(facts.last_method, Some("series"));
        assert!(facts.last_use_unix_ms.unwrap() >= facts.granted_unix_ms);
        assert!((5_000..6_000).contains(&facts.bytes_received), "{facts:?}");
        assert!((30_000..31_000).contains(&facts.bytes_sent), "{facts:?}");

        // Not UTF-8: the peer's fault, in a code that it can rely on.
        let mut request = ada.label_values_request();
        let mut name = request.get().init_name(2);
        name.reborrow().push_str("é");
        // Half a character.
        request.get().init_name(1).as_bytes_mut()[0] = 0xc3;
        refused(request.send().promise.await, "invalid:");
        assert_eq!(bench.one("Reader", "ada").errors, 1);

        let tail = open_tail(&ada).await;
        let waiting = wait_for_ever(&tail);
        under_way(bench, 1).await;
        assert_eq!(bench.one("Tail", "ada").in_flight, 1);
        let calls = bench.ledger().calls(Duration::ZERO, 10);
        assert_eq!((calls[0].interface, calls[0].method, calls[0].is_waiting), ("Tail", "next", true));
        assert_eq!((&*calls[0].holder, &calls[0].state), ("ada", &CallState::InFlight));
        assert!(bench.ledger().calls(Duration::from_secs(60), 10).is_empty());

        // The peer takes its call back.
        waiting.abort();
        under_way(bench, 0).await;
        eventually("the call is over", || bench.one("Tail", "ada").in_flight == 0).await;
        assert_eq!(bench.one("Tail", "ada").errors, 1, "canceled");

        ada.label_names_request().send().promise.await.unwrap();
        let slow = bench.ledger().calls(Duration::ZERO, 10);
        assert_eq!(slow.len(), 1, "a long poll is slow on purpose: {slow:?}");
        assert_eq!((slow[0].method, &slow[0].state), ("labelNames", &CallState::Done));
        let totals = bench.ledger().totals();
        let of = |method: &str| {
            totals.iter().find(|of| of.interface == "Reader" && of.method == method).copied().unwrap()
        };
        assert_eq!((of("labelValues").calls, of("labelValues").errors, of("series").calls), (4, 1, 1));
    });
}

/// The guard measures without reading: a message over half of its limit can
/// be read by the method still.
#[test]
fn measuring_takes_nothing_from_the_limit() {
    // Nearly the largest message of a query stream.
    const BYTES: usize = (1 << 20) - 1024;
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let ada = reader(&users, "ada").await;
        let mut request = ada.label_values_request();
        request.get().set_name("z".repeat(BYTES));
        request.send().promise.await.unwrap();
        let facts = bench.one("Reader", "ada");
        assert!((BYTES as u64..BYTES as u64 + 1024).contains(&facts.bytes_received), "{facts:?}");
    });
}

#[test]
fn a_capability_expires_and_all_that_came_of_it() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let brief = reader(&users, BRIEF).await;
        let lasting = reader(&users, "ada").await;
        let opened = cursor(&brief).await.unwrap();
        opened.next_request().send().promise.await.unwrap();
        tokio::time::sleep(BRIEF_LIFETIME).await;
        refused(values(&brief, 1).await, "expired:");
        refused(opened.next_request().send().promise.await, "expired:");
        values(&lasting, 1).await.unwrap();
    });
}

#[test]
fn a_session_with_too_many_calls_is_told_and_others_go_on() {
    run(async |bench| {
        let (busy, calm) = (bench.connect(0).await, bench.connect(1).await);
        let (of_busy, of_calm) = (users(&busy).await, users(&calm).await);
        let (ada, bob) = (reader(&of_busy, "ada").await, reader(&of_calm, "bob").await);
        let tail = open_tail(&ada).await;
        let limits = bench.registry.limits();
        let max = limits.control.calls_max + limits.bulk.calls_max;
        let waiting: Vec<_> = (0..max).map(|_| wait_for_ever(&tail)).collect();
        under_way(bench, max as u32).await;
        refused(values(&ada, 1).await, "overloaded:");
        // On control too: the bound is the session's.
        refused(gateway(&busy).heartbeat_request().send().promise.await, "overloaded:");
        values(&bob, 1).await.unwrap();
        let session = bench.registry.session(busy.session_id).unwrap();
        assert_eq!((session.activity().in_flight(), session.activity().refused()), (max as u32, 2));
        waiting[0].abort();
        eventually("there is room again", || session.activity().in_flight() < max as u32).await;
        values(&ada, 1).await.unwrap();
    });
}

#[test]
fn a_revoked_capability_takes_its_subtree_and_nothing_else() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let (ada, bob) = (reader(&users, "ada").await, reader(&users, "bob").await);
        let (of_ada, of_bob) = (open_tail(&ada).await, open_tail(&bob).await);
        let opened = cursor(&ada).await.unwrap();
        let (cut, left) = (wait_for_ever(&of_ada), wait_for_ever(&of_bob));
        under_way(bench, 2).await;

        let began = Instant::now();
        let id = bench.one("Reader", "ada").id;
        let ended = bench.ledger().revoke(id, &verdict("revoked", "ada left")).unwrap();
        assert_eq!((ended.capabilities, ended.sessions), (3, 0));
        refused(cut.await.unwrap(), "revoked: ada left");
        assert!(began.elapsed() < Duration::from_secs(1));
        under_way(bench, 1).await;
        refused(values(&ada, 1).await, "revoked: ada left");
        refused(opened.next_request().send().promise.await, "revoked: ada left");
        // What would be derived from it is refused as well, before it is there.
        let pipelined = ada.tail_request().send().pipeline.get_tail().next_request().send().promise;
        refused(pipelined.await, "revoked: ada left");
        assert!(bench.facts().iter().all(|facts| *facts.holder != *"ada"), "gone: {:?}", bench.facts());
        assert!(bench.ledger().revoke(id, &verdict("revoked", "twice")).is_none());

        assert!(!left.is_finished());
        values(&bob, 1).await.unwrap();
        let again = reader(&users, "ada").await;
        values(&again, 1).await.unwrap();
        gateway(&connected).heartbeat_request().send().promise.await.unwrap();
    });
}

/// A capability that travels keeps its guard.
#[test]
fn a_pipelined_call_below_a_revoked_parent_is_refused() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let ada = reader(&users, "ada").await;
        let copy = ada.clone();
        let opened = cursor(&ada).await.unwrap();
        drop(ada);
        let gate = bench.one("UserGate", "g0").id;
        let ended = bench.ledger().revoke(gate, &verdict("revoked", "all users")).unwrap();
        assert_eq!(ended.capabilities, 3);
        refused(values(&copy, 1).await, "revoked: all users");
        refused(opened.next_request().send().promise.await, "revoked: all users");
        let mut request = users.authenticate_request();
        request.get().init_credential().set_bearer("eve");
        let sent = request.send();
        refused(sent.promise.await, "revoked: all users");
        assert_eq!(bench.ledger().len(), 1, "the session itself");
    });
}

#[test]
fn a_call_that_checks_itself_runs_to_its_end() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let reader = reader(&users, FINISHING).await;
        let search = || {
            let call = reader.search_logs_request().send().promise;
            tokio::task::spawn_local(async move { call.await.map(drop) })
        };
        let (first, second) = (search(), search());
        under_way(bench, 2).await;
        bench.host.finish.notify_one();
        eventually("one has committed", || bench.host.committed.load(Relaxed) == 1).await;
        let id = bench.one("Reader", FINISHING).id;
        bench.ledger().revoke(id, &verdict("revoked", "enough")).unwrap();
        refused(values(&reader, 1).await, "revoked: enough");
        assert_eq!(bench.host.under_way.load(Relaxed), 1, "it was not cut");
        bench.host.finish.notify_one();
        let answers = [first.await.unwrap(), second.await.unwrap()];
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!((bench.host.committed.load(Relaxed), bench.host.refused.load(Relaxed)), (1, 1));
    });
}

#[test]
fn a_revoked_session_learns_why_within_a_second() {
    run(async |bench| {
        let (victim, other) = (bench.connect(0).await, bench.connect(1).await);
        let (of_victim, of_other) = (users(&victim).await, users(&other).await);
        let ada = reader(&of_victim, "ada").await;
        let tail = open_tail(&ada).await;
        let waiting = wait_for_ever(&tail);
        under_way(bench, 1).await;
        let began = Instant::now();
        let root = bench.one("Session", "g0").id;
        let ended = bench.ledger().revoke(root, &verdict("revoked", "stolen token")).unwrap();
        assert_eq!((ended.capabilities, ended.sessions), (4, 1));
        let closing = victim.closed().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(closing.code, Some(CloseCode::Revoked), "{closing}");
        assert_eq!(closing.reason, "revoked: stolen token");
        refused(waiting.await.unwrap(), "revoked: stolen token");
        eventually("it is not listed", || bench.registry.sessions().len() == 1).await;
        values(&reader(&of_other, "bob").await, 1).await.unwrap();
        // It may come back: that was no denial.
        let again = bench.connect(0).await;
        gateway(&again).heartbeat_request().send().promise.await.unwrap();

        bench.ledger().revoke_holder("g1", &verdict("denied", "not any more"));
        let closing = other.closed().await;
        assert_eq!((closing.code, &closing.reason[..]), (Some(CloseCode::Denied), "denied: not any more"));
    });
}

#[test]
fn revoking_a_holder_ends_what_is_his_in_sessions_of_others() {
    run(async |bench| {
        let (first, second) = (bench.connect(0).await, bench.connect(1).await);
        let (of_first, of_second) = (users(&first).await, users(&second).await);
        let readers = [reader(&of_first, "ada").await, reader(&of_second, "ada").await];
        let bob = reader(&of_first, "bob").await;
        let ended = bench.ledger().revoke_holder("ada", &verdict("denied", "left"));
        assert_eq!((ended.capabilities, ended.sessions), (2, 0));
        for reader in &readers {
            refused(values(reader, 1).await, "denied: left");
        }
        values(&bob, 1).await.unwrap();
        assert_eq!(bench.ledger().revoke_holder("nobody", &verdict("denied", "")).capabilities, 0);
    });
}

#[test]
fn a_tap_filters_samples_and_never_grows() {
    run(async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let (ada, bob) = (reader(&users, "ada").await, reader(&users, "bob").await);
        let tap = |filter| bench.ledger().tap(filter).unwrap();
        let of_ada = tap(TapFilter { holder: "ada".to_owned(), ..TapFilter::default() });
        let errors = tap(TapFilter { errors_only: true, ..TapFilter::default() });
        let sampled = tap(TapFilter {
            interface: "reader".to_owned(),
            method: "labelvalues".to_owned(),
            sample_every: 10,
            ..TapFilter::default()
        });
        for _ in 0..20 {
            values(&ada, 1).await.unwrap();
            values(&bob, 1).await.unwrap();
        }
        let soon = Duration::from_secs(5);
        let batch = of_ada.next(soon, 1000).await;
        assert_eq!((batch.calls.len(), batch.missed), (20, 0));
        assert!(batch.calls.iter().all(|call| *call.holder == *"ada" && call.state == CallState::Done));
        assert_eq!((batch.cost.seen, batch.cost.matched), (40, 20));
        assert!(!batch.cost.duration.is_zero());
        let some = sampled.next(soon, 3).await;
        assert_eq!((some.calls.len(), some.cost.matched), (3, 40), "a reader's limit holds");
        assert_eq!(sampled.next(soon, 100).await.calls.len(), 1);

        // One that nobody reads keeps what it has and counts the rest.
        for _ in 0..1100 {
            values(&ada, 1).await.unwrap();
        }
        let late = of_ada.next(soon, usize::MAX).await;
        assert_eq!((late.calls.len(), late.missed), (1024, 76));
        assert!(late.cost.duration > batch.cost.duration, "its cost grows");

        let waiting = Instant::now();
        assert!(errors.next(Duration::from_millis(50), 10).await.calls.is_empty());
        assert!(waiting.elapsed() >= Duration::from_millis(50));
        let opened = cursor(&ada).await.unwrap();
        let id = bench.one("Reader", "ada").id;
        bench.ledger().revoke(id, &verdict("revoked", "x")).unwrap();
        refused(opened.next_request().send().promise.await, "revoked:");
        let tail = open_tail(&bob).await;
        let waiting = wait_for_ever(&tail);
        under_way(bench, 1).await;
        bench.ledger().revoke(bench.one("Tail", "bob").id, &verdict("revoked", "y")).unwrap();
        refused(waiting.await.unwrap(), "revoked: y");
        let batch = errors.next(soon, 10).await;
        assert_eq!(batch.calls[0].state, CallState::Failed("revoked".to_owned()));
        assert_eq!((batch.calls[0].interface, batch.calls[0].method), ("Tail", "next"));
    });
}

#[test]
fn a_ninth_tap_is_refused_until_one_is_closed() {
    run(async |bench| {
        let mut taps: Vec<_> = (0..8).map(|_| bench.ledger().tap(TapFilter::default()).unwrap()).collect();
        let error = bench.ledger().tap(TapFilter::default()).err().unwrap().to_string();
        assert!(error.starts_with("overloaded:"), "{error}");
        taps.pop();
        let again = bench.ledger().tap(TapFilter::default()).unwrap();

        // A revoked one is closed too, though its reader holds on to it.
        let connected = bench.connect(0).await;
        let session = bench.registry.session(connected.session_id).unwrap();
        let again = again.until_revoked(session.grant());
        let root = bench.one("Session", "g0").id;
        bench.ledger().revoke(root, &verdict("revoked", "x")).unwrap();
        let _ninth = bench.ledger().tap(TapFilter::default()).unwrap();
        drop(again);
    });
}

#[test]
fn a_panic_behind_the_guard_ends_its_session_only() {
    run(async |bench| {
        let (victim, other) = (bench.connect(0).await, bench.connect(1).await);
        let (of_victim, of_other) = (users(&victim).await, users(&other).await);
        let (ada, bob) = (reader(&of_victim, "ada").await, reader(&of_other, "bob").await);
        let errors = bench.ledger().tap(TapFilter { errors_only: true, ..TapFilter::default() }).unwrap();
        assert!(ada.losses_request().send().promise.await.is_err());
        let closing = victim.closed().await;
        assert_eq!(closing.code, Some(CloseCode::Internal), "{closing}");
        eventually("all of it is gone", || {
            bench.facts().iter().all(|facts| facts.session != victim.session_id)
        })
        .await;
        let batch = errors.next(Duration::from_secs(5), 10).await;
        assert_eq!((batch.calls[0].method, &*batch.calls[0].holder), ("losses", "ada"));
        assert_eq!(bench.registry.incidents().panics.load(Relaxed), 1);
        values(&bob, 1).await.unwrap();
        let session = bench.registry.session(other.session_id).unwrap();
        assert_eq!(session.activity().in_flight(), 0);
    });
}
