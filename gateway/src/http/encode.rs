//! Answers compressed on their way out, for clients that take them so.

use std::error::Error;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};

/// Shorter answers are sent as they are.
const WORTH_BYTES: u64 = 1024;
/// Pieces taken in before others get a turn, when they compress to nothing yet.
const PIECES_A_TURN: usize = 4;
/// Speed counts here: answers are made for one client and thrown away.
const ZSTD_LEVEL: i32 = 1;

/// A content coding that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    /// The one that the client likes best, as RFC 9110 reads `Accept-Encoding`;
    /// `None`: as it is. Of two that it likes the same, zstd, which costs less.
    pub fn choose(headers: &HeaderMap) -> Option<Coding> {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let listed: Vec<(&str, f32)> = values.flat_map(|value| value.split(',')).map(weighted).collect();
        let weight = |name: &str| {
            let named = listed.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            named.or_else(|| listed.iter().find(|(known, _)| *known == "*")).map(|(_, weight)| *weight)
        };
        let as_it_is = listed.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity"));
        let bar = as_it_is.map_or(0.0, |(_, weight)| *weight);
        let gzip = weight("gzip").or_else(|| weight("x-gzip")).unwrap_or(0.0);
        let zstd = weight("zstd").unwrap_or(0.0);
        match (zstd, gzip) {
            _ if zstd.max(gzip) <= 0.0 || zstd.max(gzip) < bar => None,
            _ if zstd >= gzip => Some(Coding::Zstd),
            _ => Some(Coding::Gzip),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }
}

/// `gzip;q=0.5`; a weight that makes no sense counts as 0.
fn weighted(item: &str) -> (&str, f32) {
    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
    let weight = parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
    });
    (name.trim(), weight.unwrap_or(1.0))
}

/// Compresses what is worth it. Live tails are left alone: their events must
/// not wait in a compressor.
pub(super) fn encode<B>(response: Response<B>, coding: Option<Coding>) -> Response<Encoded<B>>
where
    B: Body<Data = Bytes>,
{
    let (mut head, body) = response.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_json = [&b"application/json"[..], b"application/problem+json"].contains(&kind);
    let is_worth_it = body.size_hint().upper().is_none_or(|bytes| bytes >= WORTH_BYTES);
    let mut encoder = None;
    if is_json && is_worth_it {
        head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Some(coding) = coding {
            encoder = Encoder::new(coding).ok();
        }
        if let (Some(_), Some(coding)) = (&encoder, coding) {
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            head.headers.remove(CONTENT_LENGTH);
        }
    }
    let state = encoder.map_or(State::Plain, State::Encoding);
    Response::from_parts(head, Encoded { body: Box::pin(body), state })
}

/// A body on its way through a compressor, piece by piece: what is held is one
/// piece and the compressor's window.
pub(super) struct Encoded<B> {
    body: Pin<Box<B>>,
    state: State,
}

enum State {
    Plain,
    Encoding(Encoder),
    Ended,
}

impl<B> Body for Encoded<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        for _ in 0..PIECES_A_TURN {
            if matches!(self.state, State::Ended) {
                return Poll::Ready(None);
            }
            let frame = ready!(self.body.as_mut().poll_frame(ctx)).transpose().map_err(Into::into)?;
            let encoded = match (&mut self.state, frame) {
                (State::Plain, frame) => return Poll::Ready(frame.map(Ok)),
                (State::Encoding(encoder), Some(frame)) => match frame.into_data() {
                    Ok(data) => encoder.push(data)?,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                (state, _) => match std::mem::replace(state, State::Ended) {
                    State::Encoding(encoder) => encoder.finish()?,
                    State::Plain | State::Ended => Bytes::new(),
                },
            };
            if !encoded.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(encoded))));
            }
        }
        ctx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Plain => self.body.is_end_stream(),
            State::Encoding(_) => false,
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Plain => self.body.size_hint(),
            State::Encoding(_) | State::Ended => SizeHint::default(),
        }
    }
}

enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
            Coding::Gzip => {
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()))
            }
        })
    }

    /// Takes a piece in; answers what has come out so far.
    fn push(&mut self, data: Bytes) -> io::Result<Bytes> {
        let out = match self {
            Encoder::Zstd(encoder) => {
                encoder.write_all(data.chunk())?;
                encoder.get_mut()
            }
            Encoder::Gzip(encoder) => {
                encoder.write_all(data.chunk())?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        let check = |accept: &[&str], expected: Option<Coding>| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(Coding::choose(&headers), expected, "{accept:?}");
        };
        check(&[], None);
        check(&[""], None);
        check(&["gzip"], Some(Coding::Gzip));
        check(&["gzip, deflate, br, zstd"], Some(Coding::Zstd));
        check(&["GZIP;q=1, zstd;q=0.5"], Some(Coding::Gzip));
        check(&["gzip;q=0"], None);
        check(&["gzip;q=0, *"], Some(Coding::Zstd));
        check(&["*;q=0"], None);
        check(&["identity, gzip;q=0.5"], None);
        check(&["identity;q=0.5, gzip;q=0.5"], Some(Coding::Gzip));
        check(&["br", "x-gzip"], Some(Coding::Gzip));
        check(&["gzip;q=x"], None);
        check(&["gzip;q=nan"], None);
    }
}
