//! A gateway on real sockets, in front of a scripted collector.

mod cancelled;
mod encoding;
mod moving;
mod status;
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use lm_schema::operator::SessionFacts;
use lm_schema::query_capnp::{ResultType, failure};
use support::{ALICE, LONG_CHUNK, ROOT, Said, WRITER, World};
use tokio::io::AsyncWriteExt as _;

const QUICK: Duration = Duration::from_secs(10);

/// Waits until `holds`.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + QUICK;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn queries_have_the_shape_of_prometheus() {
    let world = World::new().await;
    world.script.say(
        "up",
        Said::Rows(
            ResultType::Vector,
            vec![vec![
                (vec![("__name__", "up"), ("job", "a\"b")], vec![(4_123, 1.0)], false),
                (vec![], vec![(4_123, f64::INFINITY)], false),
            ]],
            vec!["careful".to_owned()],
        ),
    );
    let expected = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[4.123,"1"]},{"metric":{},"value":[4.123,"+Inf"]}]},"warnings":["careful"]}"#;
    let answer = world.get("/api/v1/query?query=up&time=4.123").await;
    assert_eq!((answer.status, &answer.text()[..]), (200, expected));
    for header in
        ["content-type: application/json", "x-content-type-options: nosniff", "cache-control: no-store"]
    {
        assert!(answer.headers.contains(header), "{header} in {}", answer.headers);
    }
    assert!(!answer.headers.contains("access-control"), "{}", answer.headers);
    assert_eq!(world.post("/api/v1/query", "query=up&time=4.123").await.text(), expected);

    world
        .script
        .say("1+1", Said::Rows(ResultType::Scalar, vec![vec![(vec![], vec![(4_000, 2.0)], false)]], vec![]));
    assert_eq!(
        world.post("/api/v1/query", "query=1%2B1&time=4").await.text(),
        r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#
    );
    world.script.say("\"x\"", Said::Text("x".to_owned()));
    assert_eq!(
        world.get("/api/v1/query?query=%22x%22&time=4").await.text(),
        r#"{"status":"success","data":{"resultType":"string","result":[4,"x"]}}"#
    );
    world.script.say(
        "m",
        Said::Rows(
            ResultType::Matrix,
            vec![
                vec![(vec![("a", "1")], vec![(1_000, 0.5)], false)],
                vec![(vec![], vec![(2_000, f64::NAN)], true), (vec![("a", "2")], vec![(1_000, 1e21)], false)],
            ],
            vec![],
        ),
    );
    let range = "/api/v1/query_range?query=m&start=1&end=2&step=1";
    assert_eq!(
        world.get(range).await.text(),
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"0.5"],[2,"NaN"]]},{"metric":{"a":"2"},"values":[[1,"1e+21"]]}]}}"#
    );
    let cut = world.get(&format!("{range}&limit=1")).await.json();
    assert_eq!(cut["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(cut["warnings"][0], "results truncated due to limit");
}

#[tokio::test]
async fn metadata_logs_and_losses() {
    let world = World::new().await;
    assert_eq!(
        world.post("/api/v1/labels", "").await.text(),
        r#"{"status":"success","data":["__name__","job"]}"#
    );
    assert_eq!(
        world.get("/api/v1/label/U__http_2e_status/values").await.text(),
        r#"{"status":"success","data":["http.status"],"warnings":["results truncated due to limit"]}"#
    );
    assert_eq!(world.get("/api/v1/label/%C3%A4/values").await.json()["data"][0], "ä");
    assert_eq!(
        world.get("/api/v1/series?match[]=up").await.text(),
        r#"{"status":"success","data":[{"__name__":"up","job":"a"}]}"#
    );
    let constants = [
        (
            "query_exemplars?query=test&start=1700000000000&end=1700000000000",
            r#"{"status":"success","data":[]}"#,
        ),
        ("rules", r#"{"status":"success","data":{"groups":[]}}"#),
        ("alerts", r#"{"status":"success","data":{"alerts":[]}}"#),
    ];
    for (path, expected) in constants {
        assert_eq!(world.get(&format!("/api/v1/{path}")).await.text(), expected);
        assert_eq!(world.anonymous(&format!("/api/v1/{path}")).await.status, 401, "{path}");
    }
    let built = world.get("/api/v1/status/buildinfo").await.json();
    assert_eq!(built["data"]["version"], "3.5.0");
    assert!(built["data"]["revision"].as_str().unwrap().starts_with("lightmetrics-"));

    let logs = "/api/v1/logs?query=disk+full&contains=x&selector={a%3D%221%22}&direction=forward";
    assert_eq!(
        world.get(logs).await.text(),
        "{\"status\":\"success\",\"data\":{\"lines\":[{\"timestamp\":\"1\",\"labels\":{},\"line\":\
         \"{a=\\\"1\\\"} [\\\"disk\\\", \\\"full\\\", \\\"x\\\"] 100 true\"},{\"timestamp\":\"0\",\"labels\":{},\
         \"line\":\"\u{fffd}\",\"lossy\":true}],\"truncated\":true}}"
    );
    assert_eq!(
        world.get("/api/v1/losses").await.text(),
        r#"{"status":"success","data":{"streams":[{"agent":"host-a","stream":"metrics","incarnation":"5-0000000000000000","durable_end":9,"stored_items":80,"fenced":true,"lost":[{"reason":"corrupt","items":3,"batches":1}]}]}}"#
    );
}

#[tokio::test]
async fn failures_are_json_with_their_code() {
    let world = World::new().await;
    let kinds = [
        (failure::Kind::BadData, 400, "bad_data"),
        (failure::Kind::Execution, 422, "execution"),
        (failure::Kind::Timeout, 503, "timeout"),
        (failure::Kind::Canceled, 499, "canceled"),
        (failure::Kind::Limit, 422, "execution"),
        (failure::Kind::Overloaded, 503, "unavailable"),
        (failure::Kind::Internal, 500, "internal"),
    ];
    for (kind, status, word) in kinds {
        world.script.say("bad", Said::Failed(kind, "why".to_owned()));
        let answer = world.get("/api/v1/query?query=bad").await;
        // As Prometheus says what is wrong with which parameter.
        let why = if kind == failure::Kind::BadData { "invalid parameter \"query\": why" } else { "why" };
        assert_eq!(answer.failed(), (status, word.to_owned(), why.to_owned()));
        assert_eq!(answer.headers.contains("retry-after: 1"), kind == failure::Kind::Overloaded);
    }
    let cases = [
        ("/api/v1/query", 400, "bad_data"),
        ("/api/v1/query?query=up&time=x", 400, "bad_data"),
        ("/api/v1/query?query=up&timeout=x", 400, "bad_data"),
        ("/api/v1/query?query=up&limit=-1", 400, "bad_data"),
        ("/api/v1/query_range?query=up&start=0&end=20000&step=1", 400, "bad_data"),
        ("/api/v1/query_range?query=up&start=2&end=1&step=1", 400, "bad_data"),
        ("/api/v1/series", 400, "bad_data"),
        ("/api/v1/labels?start=2&end=1", 400, "bad_data"),
        ("/api/v1/logs?limit=5001", 400, "bad_data"),
        ("/api/v1/live?last_event_id=x", 400, "bad_data"),
        ("/api/v1/nothing", 404, "not_found"),
        ("/", 404, "not_found"),
    ];
    for (path, status, word) in cases {
        let (found, kind, message) = world.get(path).await.failed();
        assert_eq!((found, &kind[..]), (status, word), "{path}: {message}");
    }
    let posted = world.post("/api/v1/metadata", "").await;
    assert_eq!((posted.failed().0, posted.failed().1), (405, "bad_data".to_owned()));
    assert!(posted.headers.contains("allow: get, head\r\n"), "{}", posted.headers);
    let large = world.post("/api/v1/query", &format!("query={}", "x".repeat(2 << 20))).await;
    assert_eq!(large.failed().0, 413);
    assert_eq!(world.script.asked.lock().unwrap().len(), kinds.len(), "nothing wrong was passed on");
}

#[tokio::test]
async fn users_are_asked_for_once() {
    let world = World::new().await;
    for _ in 0..5 {
        assert_eq!(world.get("/api/v1/rules").await.status, 200);
    }
    assert_eq!(world.script.exchanges.load(Ordering::Relaxed), 1);

    // A wrong token is refused, and a flood of it is not passed on.
    let wrong = "GET /api/v1/rules HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n\r\n";
    for _ in 0..20 {
        let answer = world.send(wrong).await;
        assert_eq!(answer.failed().0, 401);
        assert!(answer.headers.contains("www-authenticate: bearer"), "{}", answer.headers);
    }
    let exchanges = world.script.exchanges.load(Ordering::Relaxed);
    assert!((2..=4).contains(&exchanges), "{exchanges} exchanges");
    assert_eq!(world.anonymous("/api/v1/query?query=up").await.failed().0, 401);
    let in_query = format!("/api/v1/rules?access_token={ALICE}");
    assert_eq!(world.anonymous(&in_query).await.status, 401);

    // What was revoked is forgotten at once.
    world.script.say("gone", Said::Revoked);
    let (status, _, message) = world.get("/api/v1/query?query=gone").await.failed();
    assert_eq!((status, &message[..]), (401, "revoked: an operator took this back"));
    assert_eq!(world.script.exchanges.load(Ordering::Relaxed), exchanges + 1, "tried once more");
    let before = world.script.exchanges.load(Ordering::Relaxed);
    assert_eq!(world.get("/api/v1/rules").await.status, 200);
    assert_eq!(world.script.exchanges.load(Ordering::Relaxed), before + 1);
}

#[tokio::test]
async fn a_token_that_may_not_read_is_forbidden_and_remembered() {
    let world = World::new().await;
    for path in READ_PATHS {
        let (status, kind, message) = world.get_as(WRITER, path).await.failed();
        assert_eq!((status, &kind[..]), (403, "forbidden"), "{path}");
        assert!(message.contains("use the token of a viewer"), "{path}: {message}");
    }
    assert_eq!(world.script.exchanges.load(Ordering::Relaxed), 1);
    assert!(world.script.asked.lock().unwrap().is_empty(), "nothing was asked with it");
}

#[tokio::test]
async fn a_flood_of_different_wrong_tokens_is_not_passed_on() {
    let world = World::new().await;
    assert_eq!(world.get("/api/v1/rules").await.status, 200);
    let begun = std::time::Instant::now();
    let mut refused = 0;
    for n in 0..2000 {
        let (status, ..) = world.get_as(&format!("wrong-{n}"), "/api/v1/rules").await.failed();
        assert!(status == 401 || status == 503, "{status}");
        refused += usize::from(status == 503);
    }
    // 256 in each second.
    let most = 1 + 256 * (1 + begun.elapsed().as_millis() as usize / 1000);
    let exchanges = world.script.exchanges.load(Ordering::Relaxed);
    assert!(exchanges <= most, "{exchanges} exchanges in {:?}", begun.elapsed());
    assert_eq!(refused, 2001 - exchanges);
    assert_eq!(world.get("/api/v1/rules").await.status, 200, "who is known is served");
}

#[tokio::test]
async fn a_revocation_is_heard_at_once() {
    let world = World::new().await;
    assert_eq!(world.get("/api/v1/rules").await.status, 200);
    let mut live = world.live("", "").await;
    world.script.publish([(1, "first".to_owned())]);
    while !live.event().await.unwrap().contains("first") {}

    // Somebody else's: Alice is exchanged again, and her tail goes on.
    world.script.generation.send_replace(1);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while world.script.exchanges.load(Ordering::Relaxed) < 2 {
        assert!(tokio::time::Instant::now() < deadline, "the running tail asks again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.script.publish([(2, "second".to_owned())]);
    while !live.event().await.unwrap().contains("second") {}
    world.script.is_alice_gone.store(true, Ordering::Relaxed);
    assert_eq!(world.get("/api/v1/rules").await.status, 200, "remembered");

    world.script.generation.send_replace(2);
    let error = loop {
        let event = live.event().await.expect("the tail says why it ends");
        if event.starts_with("event: error") {
            break event;
        }
    };
    assert!(error.contains("unauthorized"), "{error}");
    assert_eq!(world.get("/api/v1/rules").await.failed().0, 401);
}

/// Every route that reads.
const READ_PATHS: [&str; 25] = [
    "/api/v1/query?query=up",
    "/api/v1/query_range?query=up&start=0&end=1&step=1",
    "/api/v1/labels",
    "/api/v1/label/job/values",
    "/api/v1/series?match[]=up",
    "/api/v1/query_exemplars",
    "/api/v1/metadata",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/status/buildinfo",
    "/api/v1/format_query?query=up",
    "/api/v1/parse_query?query=up",
    "/api/v1/targets",
    "/api/v1/targets?state=dropped",
    "/api/v1/targets/metadata",
    "/api/v1/alertmanagers",
    "/api/v1/notifications",
    "/api/v1/metadata?limit=0",
    "/api/v1/status/config",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/tsdb",
    "/api/v1/status/walreplay",
    "/api/v1/logs",
    "/api/v1/losses",
    "/api/v1/live",
];

#[tokio::test]
async fn a_capability_is_kept_no_longer_than_the_collector_says() {
    let world = World::new().await;
    world.script.cache_ms.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(world.get("/api/v1/rules").await.status, 200);
    }
    assert_eq!(world.script.exchanges.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn long_answers_arrive_whole_and_piece_by_piece() {
    let world = World::new().await;
    world.script.say("long", Said::Long(30));
    let answer = world.get("/api/v1/query_range?query=long&start=1&end=2&step=1").await;
    let json = answer.json();
    let values = json["data"]["result"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 30 * LONG_CHUNK);
    assert_eq!(values[30 * LONG_CHUNK - 1][0], 30 * LONG_CHUNK as u64 - 1);
    assert_eq!(world.script.chunks.load(Ordering::SeqCst), 30);
    until("the cursor is dropped", || world.script.cursors_alive.load(Ordering::SeqCst) == 0).await;

    // One that breaks off is not taken for a whole one.
    world.script.say("breaks", Said::Breaks(3));
    let answer = world.get("/api/v1/query_range?query=breaks&start=1&end=2&step=1").await;
    assert_eq!((answer.status, answer.body), (200, None));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_query() {
    let world = World::new().await;
    let ask = |query: &str| {
        format!(
            "GET /api/v1/query?query={query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n"
        )
    };
    // While it is evaluated.
    world.script.say("hangs", Said::Hangs);
    let stream = world.open(&ask("hangs")).await;
    until("the query runs", || world.script.cursors_alive.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    until("the query is cancelled", || world.script.cursors_alive.load(Ordering::SeqCst) == 0).await;

    // While it is read; one that does not read is not read ahead for.
    world.script.say("endless", Said::Long(1_000_000));
    let mut stream = world.open(&ask("endless")).await;
    assert_eq!(stream.head().await.0, 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pulled = world.script.chunks.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.script.chunks.load(Ordering::SeqCst), pulled, "pulled without a reader");
    drop(stream);
    until("the cursor is dropped", || world.script.cursors_alive.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn places_for_queries_are_bounded() {
    let world = World::with("[limits]\nqueries_max = 2\n").await;
    world.script.say("hangs", Said::Hangs);
    let request =
        format!("GET /api/v1/query?query=hangs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n");
    let held = [world.open(&request).await, world.open(&request).await];
    until("both run", || world.script.cursors_alive.load(Ordering::SeqCst) == 2).await;
    let answer = world.get("/api/v1/query?query=up").await;
    assert_eq!(answer.failed().0, 503);
    assert!(answer.headers.contains("retry-after"), "{}", answer.headers);
    assert_eq!(world.anonymous("/livez").await.status, 200);
    drop(held);
    until("they are gone", || world.script.cursors_alive.load(Ordering::SeqCst) == 0).await;
    assert_eq!(world.get("/api/v1/query?query=up").await.status, 200);
}

#[tokio::test]
async fn a_collector_that_is_away_and_back() {
    let mut world = World::new().await;
    assert_eq!(world.get("/api/v1/query?query=up").await.status, 200);
    world.stop_collector().await;
    world.until_ready(false).await;
    let answer = world.get("/api/v1/query?query=up").await;
    let (status, kind, message) = answer.failed();
    assert_eq!((status, &kind[..]), (503, "unavailable"), "{message}");
    assert!(message.contains("no session with a collector"), "{message}");
    assert!(answer.headers.contains("retry-after"), "{}", answer.headers);
    assert_eq!(world.anonymous("/livez").await.status, 200);
    assert!(world.anonymous("/readyz?verbose").await.text().contains("[-] collector session failed"));

    world.start_collector();
    world.until_ready(true).await;
    assert_eq!(world.get("/api/v1/query?query=up").await.status, 200);
    assert_eq!(world.script.exchanges.load(Ordering::Relaxed), 2, "users die with the session");
}

#[tokio::test]
async fn a_live_tail_resumes_and_tells_of_gaps() {
    let world = World::new().await;
    world.script.publish([(1, "old".to_owned())]);
    let mut live = world.live("", "").await;
    assert_eq!(live.event().await.unwrap(), "retry: 1000\n");
    until("the tail is open", || world.script.tail_after.lock().unwrap().len() == 1).await;
    world.script.publish([(2, "two".to_owned()), (3, "notice:queue_full".to_owned())]);
    assert_eq!(
        live.event().await.unwrap(),
        "event: log\nid: 7-2\ndata: {\"timestamp\":\"0\",\"labels\":{},\"line\":\"two\"}\n"
    );
    assert_eq!(
        live.event().await.unwrap(),
        "event: notice\nid: 7-3\ndata: {\"timestamp\":\"7\",\"code\":\"queue_full\",\"agent\":\"\",\"message\":\"\",\"items\":0}\n"
    );
    drop(live);

    // By header and by parameter; events 4 to 8 are not kept any more.
    world.script.publish([(9, "nine".to_owned())]);
    for (query, headers) in [("", "last-event-id: 7-3\r\n"), ("?last_event_id=7-3", "")] {
        let mut live = world.live(query, headers).await;
        live.event().await.unwrap();
        assert_eq!(live.event().await.unwrap(), "event: gap\ndata: {\"missed\":5,\"restarted\":false}\n");
        assert!(live.event().await.unwrap().contains("id: 7-9\n"));
    }
    // Of another run of the collector.
    let mut live = world.live("?last_event_id=5-3", "").await;
    live.event().await.unwrap();
    assert_eq!(live.event().await.unwrap(), "event: gap\ndata: {\"missed\":0,\"restarted\":true}\n");
}

#[tokio::test]
async fn a_live_tail_survives_a_reconnect() {
    let mut world = World::new().await;
    let mut live = world.live("", "").await;
    live.event().await.unwrap();
    world.script.publish([(1, "one".to_owned())]);
    assert!(live.event().await.unwrap().contains("\"one\""));
    world.stop_collector().await;
    world.script.publish([(2, "two".to_owned())]);
    world.start_collector();
    let event = live.event().await.unwrap();
    assert!(event.contains("id: 7-2\n"), "{event}");
    assert_eq!(world.script.tail_after.lock().unwrap().last(), Some(&(7, 1)));
}

#[tokio::test]
async fn live_tails_are_bounded() {
    let world = World::with("[limits]\nlive_max = 4\nlive_per_user_max = 3\n").await;
    let mut tails = Vec::new();
    for _ in 0..3 {
        tails.push(world.live("", "").await);
    }
    let (status, _, message) = world.get("/api/v1/live").await.failed();
    assert_eq!(status, 429, "{message}");
    assert!(message.contains("alice has 3 live tails"), "{message}");
    tails.pop();
    let deadline = tokio::time::Instant::now() + QUICK;
    let request = format!("GET /api/v1/live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n");
    while world.open(&request).await.head().await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the place is not free again");
    }
}

#[tokio::test]
async fn a_slow_live_reader_holds_little_and_hurts_nobody() {
    let world = World::with("[limits]\nstall_timeout = \"1s\"\n").await;
    let mut slow = world.live("", "").await;
    slow.event().await.unwrap();
    let mut good = world.live("", "").await;
    good.event().await.unwrap();
    until("both are open", || world.script.tail_after.lock().unwrap().len() == 2).await;
    // 32 MiB: far more than sockets take.
    let line = "x".repeat(64 << 10);
    world.script.publish((1..=512).map(|at| (at, line.clone())));
    for at in 1..=512 {
        let event = good.event().await.unwrap();
        assert!(event.contains(&format!("id: 7-{at}\n")), "{at}: {}", &event[..event.len().min(60)]);
    }
    // The slow one is cut: what it had not taken is not in memory.
    let mut seen = 0;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    while let Some(event) = slow.event().await {
        seen += usize::from(event.starts_with("event: log"));
    }
    assert!(seen < 400, "{seen} events");
    assert_eq!(world.get("/api/v1/rules").await.status, 200);
}

#[tokio::test]
async fn a_drain_ends_tails_and_finishes_answers() {
    let mut world = World::new().await;
    let mut live = world.live("", "").await;
    live.event().await.unwrap();
    world.script.say("long", Said::Long(20));
    let request =
        format!("GET /api/v1/query?query=long HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n");
    let mut answer = world.open(&request).await;
    answer.head().await;
    world.stop_gateway();
    while live.event().await.is_some() {}
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.expect("the answer broke off") {
        bytes += chunk.len();
    }
    assert!(bytes > 20 * LONG_CHUNK * 8, "{bytes}");
    world.gateway_ended().await;
    assert!(tokio::net::TcpStream::connect(world.addr).await.is_err());
}

#[tokio::test]
async fn half_open_clients_do_not_hurt() {
    let world = World::new().await;
    let mut half_open = Vec::new();
    for _ in 0..300 {
        let mut tcp = tokio::net::TcpStream::connect(world.addr).await.unwrap();
        tcp.write_all(b"GET /api/v1/query?query=").await.unwrap();
        half_open.push(tcp);
    }
    let begun = std::time::Instant::now();
    assert_eq!(world.get("/api/v1/query?query=up").await.status, 200);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reader_that_pauses_loses_nothing() {
    let world = World::new().await;
    let mut live = world.live("", "").await;
    live.event().await.unwrap();
    until("it is open", || world.script.tail_after.lock().unwrap().len() == 1).await;
    let line = "x".repeat(64 << 10);
    world.script.publish((1..=512).map(|at| (at, line.clone())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for at in 1..=512 {
        let event = live.event().await.unwrap();
        assert!(event.contains(&format!("id: 7-{at}\n")), "{at}: {}", &event[..event.len().min(60)]);
    }
    assert!(world.script.tail_after.lock().unwrap().len() > 1, "nothing was asked for again");
}

fn sessions(count: u64) -> Vec<SessionFacts> {
    let session = |id: u64| SessionFacts {
        id,
        identity: format!("host-{id}"),
        role: if id.is_multiple_of(5) { "gateway" } else { "agent" }.to_owned(),
        ..SessionFacts::default()
    };
    (1..=count).map(session).collect()
}

#[tokio::test]
async fn operators_see_the_mesh() {
    let world = World::new().await;
    *world.script.sessions.lock().unwrap() = sessions(20);
    let ids = |json: &serde_json::Value| -> Vec<u64> {
        let sessions = json["sessions"].as_array().unwrap();
        sessions.iter().map(|session| session["id"].as_u64().unwrap()).collect()
    };
    let all = world.get_as(ROOT, "/api/console/v1/sessions").await;
    assert!(all.headers.contains("content-type: application/json"), "{}", all.headers);
    assert!(all.headers.contains("x-content-type-options: nosniff"), "{}", all.headers);
    let all = all.json();
    assert_eq!(ids(&all), (1..=20).collect::<Vec<_>>());
    assert!(all["next_after"].is_null());
    assert_eq!(all["sessions"][0]["admission"]["read_pauses"], 0, "the same names as lmctl's");

    // Parts of the list, put together again.
    let (mut found, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let path = format!("/api/console/v1/sessions?limit=7&after={after}");
        let part = world.get_as(ROOT, &path).await.json();
        assert!(ids(&part).len() <= 7);
        found.extend(ids(&part));
        match part["next_after"].as_u64() {
            Some(next) => after = format!("s{next}"),
            None => break,
        }
    }
    assert_eq!(found, (1..=20).collect::<Vec<_>>());
    let gateways = world.get_as(ROOT, "/api/console/v1/sessions?role=gateway&limit=3").await.json();
    assert_eq!(ids(&gateways), [5, 10, 15]);
    assert_eq!(gateways["next_after"], 15);
    let one = world.get_as(ROOT, "/api/console/v1/sessions?identity=host-11").await.json();
    assert_eq!(ids(&one), [11]);
    // A filter that nothing fits looks at a bounded part.
    *world.script.sessions.lock().unwrap() = sessions(500);
    let none = world.get_as(ROOT, "/api/console/v1/sessions?identity=nobody").await.json();
    assert_eq!((ids(&none).len(), none["next_after"].as_u64()), (0, Some(96)));

    let path = "/api/console/v1/capabilities?session=s7&holder=alice&interface=Reader&after=c41";
    let capabilities = world.get_as(ROOT, path).await.json();
    let capability = &capabilities["capabilities"][0];
    assert_eq!((&capability["id"], &capability["session"]), (&42.into(), &7.into()));
    assert_eq!((&capability["holder"], &capability["interface"]), (&"alice".into(), &"Reader".into()));

    let micros = async |query: &str| -> Vec<u64> {
        let json = world.get_as(ROOT, &format!("/api/console/v1/calls{query}")).await.json();
        assert_eq!(json["slow_after_micros"], 100);
        json["calls"].as_array().unwrap().iter().map(|call| call["micros"].as_u64().unwrap()).collect()
    };
    assert_eq!(micros("").await, [30_000, 5_000, 200_000, 9_000]);
    assert_eq!(micros("?over=10ms").await, [30_000, 200_000]);
    assert_eq!(micros("?state=in_flight").await, [30_000, 5_000]);
    assert_eq!(micros("?state=finished&limit=1").await, [200_000]);
    assert_eq!(world.get_as(ROOT, "/api/console/v1/status").await.json()["cluster_id"], "fe");
}

#[tokio::test]
async fn only_operators_see_the_mesh() {
    let world = World::new().await;
    for list in ["sessions", "capabilities", "calls", "status"] {
        let path = format!("/api/console/v1/{list}");
        let (status, why) = world.get(&path).await.problem();
        assert_eq!(status, 403);
        assert!(why.contains("the token of alice is not an operator's"), "{why}");
        let (status, why) = world.anonymous(&path).await.problem();
        assert_eq!(status, 401);
        assert!(why.contains("Authorization"), "{why}");
        assert_eq!(world.get_as("wrong", &path).await.problem().0, 401);
        assert_eq!(world.post(&path, "").await.problem().0, 405, "nothing can be changed here");
    }
    // A refusal of the console does not take the right to read.
    assert_eq!(world.get("/api/v1/labels").await.status, 200);
    assert_eq!(world.get_as(ROOT, "/api/v1/labels").await.status, 200);
    for path in [
        "/api/console/v1/nothing",
        "/api/console/v1/sessions/3",
        "/api/console/v1",
        "/api/console/v2/sessions",
    ] {
        assert_eq!(world.get_as(ROOT, path).await.problem().0, 404, "{path}");
    }
    let (status, why) = world.get_as(ROOT, "/api/console/v1/sessions?limit=many").await.problem();
    assert_eq!((status, &why[..]), (400, "invalid parameter \"limit\": expected a number from 1 to 1000"));
    let (status, why) = world.get_as(ROOT, "/api/console/v1/calls?sate=finished").await.problem();
    assert_eq!(status, 400);
    assert!(why.contains("\"sate\"") && why.contains("over, state"), "{why}");
}

#[tokio::test]
async fn what_the_collector_refuses_an_operator_is_said() {
    let world = World::new().await;
    let cases = [
        ("revoked: by bob", 401),
        ("denied: you were denied", 401),
        ("overloaded: 16 calls", 503),
        ("quota: taps", 422),
        ("invalid: filter", 400),
        ("the disk is gone", 500),
    ];
    for (said, status) in cases {
        *world.script.operator_error.lock().unwrap() = Some(said.to_owned());
        for list in ["sessions", "capabilities", "calls", "status"] {
            let found = world.get_as(ROOT, &format!("/api/console/v1/{list}")).await.problem();
            assert_eq!(found, (status, said.to_owned()));
        }
    }
    // A revoked capability is not remembered.
    let before = world.script.exchanges.load(Ordering::Relaxed);
    *world.script.operator_error.lock().unwrap() = Some("revoked: by bob".to_owned());
    world.get_as(ROOT, "/api/console/v1/status").await;
    *world.script.operator_error.lock().unwrap() = None;
    assert_eq!(world.get_as(ROOT, "/api/console/v1/status").await.status, 200);
    assert!(world.script.exchanges.load(Ordering::Relaxed) > before);
}
