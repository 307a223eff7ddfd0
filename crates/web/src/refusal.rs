//! Answers that the accept loop gives by itself.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

/// An error in the form that Prometheus clients expect:
/// `{"status":"error","errorType":...,"error":...}`. Both texts must need no
/// escaping in JSON.
pub fn refusal(status: StatusCode, kind: &'static str, message: &'static str) -> Response<Full<Bytes>> {
    let body = format!(r#"{{"status":"error","errorType":"{kind}","error":"{message}"}}"#);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(crate) fn body_too_large() -> Response<Full<Bytes>> {
    closing(refusal(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", "the request body is too large"))
}

pub(crate) fn body_too_slow() -> Response<Full<Bytes>> {
    closing(refusal(StatusCode::REQUEST_TIMEOUT, "timeout", "the request body came too slowly"))
}

pub(crate) fn too_many_headers() -> Response<Full<Bytes>> {
    refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_data", "too many header fields")
}

pub(crate) fn too_many_requests() -> Response<Full<Bytes>> {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "too many requests at once; try again")
}

/// For a connection that gets no place, written without waiting.
pub(crate) const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 100\r\n\r\n\
    {\"status\":\"error\",\"errorType\":\"unavailable\",\"error\":\"too many connections at once; try again later\"}";

fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_static_answer_states_its_length() {
        let text = std::str::from_utf8(super::NO_PLACE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
    }
}
