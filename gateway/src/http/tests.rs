use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};

use super::call::Call;
use super::*;

#[test]
fn hosts() {
    let allowed = ["metrics.example.org".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
    let check = |host: &str| {
        let request = Request::builder().uri("/").header(HOST, host).body(()).unwrap();
        check_host(&allowed, &request).is_ok()
    };
    for host in ["metrics.example.org", "Metrics.example.org:18080", "127.0.0.1:1", "[::1]:1", "[::1]"] {
        assert!(check(host), "{host}");
    }
    for host in ["evil.example.org", "", "metrics.example.org.evil", "127.0.0.1.evil:1"] {
        assert!(!check(host), "{host}");
    }
    assert!(check_host(&[], &Request::builder().uri("/").body(()).unwrap()).is_ok());
}

#[test]
fn tokens() {
    let token = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        let call = Call {
            method: hyper::Method::GET,
            headers,
            query: "access_token=x".to_owned(),
            body: Bytes::new(),
        };
        call.token().ok().map(|token| token.expose().to_owned())
    };
    assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
    assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
    for wrong in ["Basic abc", "Bearer", "Bearer ", "abc"] {
        assert_eq!(token(wrong), None, "{wrong}");
    }
}

#[test]
fn statuses() {
    let cases = [
        (FailureKind::BadData, 400),
        (FailureKind::Execution, 422),
        (FailureKind::Limit, 422),
        (FailureKind::Timeout, 503),
        (FailureKind::Canceled, 499),
        (FailureKind::Overloaded, 503),
        (FailureKind::Internal, 500),
        (FailureKind::Unavailable, 503),
        (FailureKind::Unauthorized, 401),
        (FailureKind::Forbidden, 403),
        (FailureKind::TooMany, 429),
    ];
    for (kind, expected) in cases {
        let response = Failure::new(kind, "x").into_response();
        assert_eq!(response.status().as_u16(), expected, "{kind:?}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}
