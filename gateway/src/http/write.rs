//! Requests that write. Their bodies are long, so who sends them and whether
//! there is room is asked before a byte is read.

use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use lm_model::Timestamp;
use lm_web::RequestBody;
use warp::Reply as _;
use warp::reply::Response;

use super::call::token;
use super::{Result, State};
use crate::backend::{Failure, FailureKind};
use crate::params::Params;
use crate::session::unix_nano;
use crate::write::{Coding, Counts, Encoding, Format, Given, Stored};

const REMOTE_WRITE: &str = "/api/v1/write";
const OTLP: &str = "/api/v1/otlp/v1/metrics";
const TEXT: &str = "/api/v1/import/prometheus";

/// The paths that are written to.
pub(crate) const PATHS: [&str; 3] = [REMOTE_WRITE, OTLP, TEXT];

/// What remote write 2.0 wants to know of every answer.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// Answers a request to one of [`PATHS`].
pub(super) async fn answer(state: &State, request: Request<RequestBody>) -> Result {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Failure::new(FailureKind::Post, "this path takes what is POSTed"));
    }
    let token = token(&head.headers)?;
    let (format, coding) = match head.uri.path() {
        REMOTE_WRITE => remote_write(&head.headers)?,
        OTLP => otlp(&head.headers)?,
        _ => text(&head.headers, head.uri.query().unwrap_or(""))?,
    };
    let writes = &state.0.writes;
    let writer = writes.writer(token.clone()).await?;
    let stated = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let _place = writes.place(stated).await?;
    let body = body
        .collect()
        .await
        .map_err(|error| Failure::new(FailureKind::BadData, error.to_string()))?
        .to_bytes();
    let stored = writes.write(&token, &writer, format.clone(), coding, body).await?;
    Ok(match format {
        Format::Otlp { encoding, .. } => otlp_answer(encoding, &stored),
        _ => {
            // A sender drops a request that is answered with 400, and does not
            // send it again and again.
            let mut response = match stored.complaint() {
                Some(message) => Failure::new(FailureKind::BadData, message).into_response(),
                None => empty(),
            };
            if format == Format::RemoteWrite2 {
                let Counts { samples, histograms } = stored.stored();
                for (name, count) in WRITTEN.into_iter().zip([samples, histograms, 0]) {
                    response.headers_mut().insert(HeaderName::from_static(name), count.into());
                }
            }
            response
        }
    })
}

fn empty() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// What a body of remote write is, by its headers. A sender that is told 415
/// falls back to 1.0.
fn remote_write(headers: &HeaderMap) -> Result<(Format, Coding)> {
    if !matches!(header(headers, &CONTENT_ENCODING), "" | "snappy") {
        return Err(media("the body has to be a block of snappy: Content-Encoding: snappy"));
    }
    let mut parts = header(headers, &CONTENT_TYPE).split(';').map(str::trim);
    if !matches!(parts.next(), Some("" | "application/x-protobuf")) {
        return Err(media("the body has to be protobuf: Content-Type: application/x-protobuf"));
    }
    match parts.find_map(|part| part.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Ok((Format::RemoteWrite1, Coding::Snappy)),
        Some("io.prometheus.write.v2.Request") => Ok((Format::RemoteWrite2, Coding::Snappy)),
        Some(other) => Err(media(&format!("messages of {other:?} are not understood"))),
    }
}

fn otlp(headers: &HeaderMap) -> Result<(Format, Coding)> {
    let kind = header(headers, &CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    let encoding = match kind {
        "application/x-protobuf" => Encoding::Protobuf,
        "application/json" => Encoding::Json,
        _ => return Err(media("OTLP is application/x-protobuf or application/json")),
    };
    Ok((Format::Otlp { encoding, time: now() }, coding(headers)?))
}

fn text(headers: &HeaderMap, query: &str) -> Result<(Format, Coding)> {
    let params = Params::parse(&[], query.as_bytes())?;
    let get = |name: &str| params.get(name).unwrap_or("").to_owned();
    let given = Given { job: get("job"), instance: get("instance"), time: now() };
    // What says nothing that we know, such as a form of curl's, is text.
    let format = lm_exposition::Format::from_content_type(header(headers, &CONTENT_TYPE));
    let format = format.unwrap_or(lm_exposition::Format::PrometheusText);
    Ok((Format::Text { format, given }, coding(headers)?))
}

/// OTLP answers success with what was refused in it: nothing of that is sent
/// again.
fn otlp_answer(encoding: Encoding, stored: &Stored) -> Response {
    let (refused, message) = (stored.refused(), stored.complaint().unwrap_or_default());
    let (body, kind) = match encoding {
        Encoding::Json => {
            let answer = match refused {
                0 => serde_json::json!({}),
                _ => serde_json::json!({"partialSuccess": {
                    "rejectedDataPoints": refused.to_string(), "errorMessage": message}}),
            };
            (answer.to_string().into_bytes(), "application/json")
        }
        Encoding::Protobuf => {
            let mut body = Vec::new();
            if refused > 0 {
                // ExportMetricsPartialSuccess { rejected_data_points 1, error_message 2 }
                let mut partial = Vec::new();
                prost::encoding::int64::encode(1, &i64::try_from(refused).unwrap_or(i64::MAX), &mut partial);
                prost::encoding::string::encode(2, &message, &mut partial);
                prost::encoding::bytes::encode(1, &partial, &mut body);
            }
            (body, "application/x-protobuf")
        }
    };
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn coding(headers: &HeaderMap) -> Result<Coding> {
    match header(headers, &CONTENT_ENCODING) {
        "" | "identity" => Ok(Coding::None),
        "gzip" => Ok(Coding::Gzip),
        "zstd" => Ok(Coding::Zstd),
        "snappy" => Ok(Coding::Snappy),
        _ => Err(media("a body may be compressed with gzip, zstd or snappy")),
    }
}

fn media(message: &str) -> Failure {
    Failure::new(FailureKind::MediaType, message)
}

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
}

fn now() -> Timestamp {
    Timestamp::from_nanos(unix_nano())
}
