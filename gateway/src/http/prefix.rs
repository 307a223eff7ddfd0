//! The path below which a proxy may have put the API.

use hyper::Request;
use hyper::http::uri::PathAndQuery;

/// Takes `prefix` away. A path without it stays as it is, so that a proxy may
/// have done so already.
pub(super) fn strip<B>(prefix: &str, request: &mut Request<B>) {
    if prefix.is_empty() {
        return;
    }
    let rest = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix(prefix));
    let Some(Ok(stripped)) = rest.filter(|rest| rest.starts_with('/')).map(PathAndQuery::try_from) else {
        return;
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(stripped);
    if let Ok(uri) = parts.try_into() {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_taken_away() {
        let check = |uri: &str, expected: &str| {
            let mut request = Request::builder().uri(uri).body(()).unwrap();
            strip("/a/b", &mut request);
            assert_eq!(request.uri().to_string(), expected, "{uri}");
        };
        check("/a/b/api/v1/query?query=up", "/api/v1/query?query=up");
        check("http://h:1/a/b/livez", "http://h:1/livez");
        check("/a/b//x", "//x");
        for other in ["/a/bc/x", "/a/b", "/x/a/b/c", "/", "/api/v1/query"] {
            check(other, other);
        }
    }
}
