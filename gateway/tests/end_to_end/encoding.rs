//! What proxies and browsers do to a request: HEAD, compression, a path
//! prefix, other origins.

use std::io::Read as _;

use crate::support::{ALICE, Answer, Said, World};

/// A request of Alice's with more headers.
async fn ask(world: &World, method: &str, path: &str, headers: &str) -> Answer {
    world
        .send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n{headers}\r\n"
        ))
        .await
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_takes_it() {
    let world = World::new().await;
    world.script.say("long", Said::Long(3));
    let path = "/api/v1/query_range?query=long&start=1&end=2&step=1";
    let plain = world.get(path).await;
    assert!(plain.headers.contains("vary: accept-encoding"), "{}", plain.headers);
    assert!(!plain.headers.contains("content-encoding"), "{}", plain.headers);
    let plain = plain.text();
    for (accepted, coding) in [("gzip, deflate", "gzip"), ("gzip;q=0.5, zstd", "zstd")] {
        let answer = ask(&world, "GET", path, &format!("accept-encoding: {accepted}\r\n")).await;
        assert!(answer.headers.contains(&format!("content-encoding: {coding}\r\n")), "{}", answer.headers);
        let bytes = answer.body.expect("the whole body");
        assert!(bytes.len() < plain.len() / 3, "{} of {}", bytes.len(), plain.len());
        let mut text = String::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
            _ => zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text).unwrap(),
        };
        assert!(text == plain, "what was compressed is what was said");
    }
    let short = ask(&world, "GET", "/api/v1/rules", "accept-encoding: gzip\r\n").await;
    assert!(!short.headers.contains("content-encoding"), "{}", short.headers);
    assert_eq!(short.status, 200);
    // One that breaks off is never a whole one.
    world.script.say("long", Said::Breaks(3));
    let broken = ask(&world, "GET", path, "accept-encoding: gzip\r\n").await;
    assert_eq!(broken.body, None);
    // Events must not wait in a compressor.
    let mut live = world.live("", "accept-encoding: gzip\r\n").await;
    world.script.publish([(1, "first".to_owned())]);
    while !live.event().await.unwrap().contains("first") {}
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let world = World::new().await;
    for (path, status) in
        [("/api/v1/rules", 200), ("/api/v1/query", 400), ("/nothing", 404), ("/-/ready", 200)]
    {
        let get = world.get(path).await;
        let request = format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n");
        let mut stream = world.open(&request).await;
        let (found, headers) = stream.head().await;
        assert_eq!(found, status, "{path}");
        let length = format!("content-length: {}\r\n", get.text().len());
        assert!(headers.contains(&length), "{path}: {length} {headers}");
    }
}

#[tokio::test]
async fn the_api_lies_below_a_prefix_too() {
    let world = World::with("[api]\npath_prefix = \"/t/a/prometheus\"\n").await;
    for prefix in ["", "/t/a/prometheus"] {
        assert_eq!(world.get(&format!("{prefix}/api/v1/rules")).await.status, 200, "{prefix}");
        assert_eq!(world.anonymous(&format!("{prefix}/-/ready")).await.status, 200, "{prefix}");
        assert_eq!(world.post(&format!("{prefix}/api/v1/labels"), "").await.status, 200, "{prefix}");
        let refused = world.get(&format!("{prefix}/api/console/v1/status")).await;
        assert_eq!(refused.problem().0, 403, "{prefix}");
    }
    assert_eq!(world.get("/t/b/prometheus/api/v1/rules").await.status, 404);
}

#[tokio::test]
async fn pages_of_other_origins_may_read_when_they_are_named() {
    let world = World::with("[api]\ncors_origins = [\"https://g.example.org\"]\n").await;
    let origin = "origin: https://g.example.org\r\n";
    let allowed = "access-control-allow-origin: https://g.example.org\r\n";
    let preflight = format!("{origin}access-control-request-method: POST\r\n");
    let answer = ask(&world, "OPTIONS", "/api/v1/query", &preflight).await;
    assert_eq!(answer.status, 204);
    assert!(answer.headers.contains(allowed), "{}", answer.headers);
    assert!(
        answer.headers.contains("access-control-allow-headers: accept, authorization"),
        "{}",
        answer.headers
    );
    for path in ["/api/v1/rules", "/api/v1/nothing"] {
        let answer = ask(&world, "GET", path, origin).await;
        assert!(answer.headers.contains(allowed), "{}", answer.headers);
        assert!(answer.headers.contains("vary: origin"), "{}", answer.headers);
        assert!(!answer.headers.contains("allow-credentials"), "{}", answer.headers);
    }
    for other in ["https://evil.example.org", "https://g.example.org.evil", "null"] {
        let headers = format!("origin: {other}\r\naccess-control-request-method: POST\r\n");
        for method in ["OPTIONS", "GET"] {
            let answer = ask(&world, method, "/api/v1/rules", &headers).await;
            assert!(!answer.headers.contains("access-control"), "{other}: {}", answer.headers);
        }
    }
}
