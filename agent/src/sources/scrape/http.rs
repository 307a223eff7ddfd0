//! One GET at a time, over a connection that is kept.
//!
//! Everything that a target may do is bounded: the time by the caller, the
//! head of an answer by hyper's buffer, its body by the job's limit and the
//! agent's [`Budget`]. Redirects are refused: credentials are meant for the
//! target that the configuration names.

use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lm_exposition::Format;
use lm_mesh::read_secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::budget::{Budget, NoRoom, Share};
use super::job::{Credentials, Job, Scheme};
use super::target::Target;

/// The head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Decompression takes from the budget in steps of this size.
const STEP_BYTES: usize = 64 << 10;

/// What a target answered.
pub struct Answer {
    pub format: Format,
    pub body: Vec<u8>,
    /// Of the budget, held as long as the body.
    _share: Share,
}

/// Asks one target.
pub struct Client {
    job: Rc<Job>,
    target: Target,
    accept: String,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    pub fn new(job: Rc<Job>, target: Target) -> Self {
        let accept = accept(&job);
        Client { job, target, accept, sender: None }
    }

    /// Asks for metrics.
    ///
    /// # Errors
    ///
    /// What went wrong, for people.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call makes a new connection.
    pub async fn get(&mut self, budget: &Budget) -> Result<Answer, String> {
        // Put back when the answer was read to its end.
        let kept = self.sender.take();
        let is_kept = kept.is_some();
        let (mut sender, response) = match self.send(kept).await {
            // The target may have closed a connection that was not in use.
            Err(_) if is_kept => self.send(None).await?,
            sent => sent?,
        };
        let share = budget.share();
        let answer = self.read(response, share).await?;
        if sender.ready().await.is_ok() {
            self.sender = Some(sender);
        }
        Ok(answer)
    }

    async fn send(
        &self,
        sender: Option<SendRequest<Empty<Bytes>>>,
    ) -> Result<(SendRequest<Empty<Bytes>>, Response<Incoming>), String> {
        let mut sender = match sender {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(self.request()?).await;
        Ok((sender, response.map_err(|error| format!("no answer: {}", chain(&error)))?))
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let seconds = format!("{}", self.job.timeout.as_secs_f64());
        let mut request = Request::get(&self.target.path)
            .header(header::HOST, &self.target.address)
            .header(header::USER_AGENT, concat!("lm-agent/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, &self.accept)
            .header(header::ACCEPT_ENCODING, "gzip")
            .header("X-Prometheus-Scrape-Timeout-Seconds", seconds);
        for (name, value) in &self.job.headers {
            request = request.header(name, value);
        }
        let secret = |path| read_secret(path).map_err(|error| error.to_string());
        let authorization = match &self.job.credentials {
            Credentials::None => None,
            Credentials::Bearer { file } => Some(format!("Bearer {}", secret(file)?)),
            Credentials::Basic { username, password_file } => {
                let pair = format!("{username}:{}", secret(password_file)?);
                Some(format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes())))
            }
        };
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| "the credentials are no header's value".to_owned())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Empty::new()).map_err(|error| error.to_string())
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let Target { host, port, scheme, .. } = &self.target;
        let cannot = |error: &dyn std::error::Error| format!("cannot connect: {}", chain(error));
        let stream = TcpStream::connect((&host[..], *port)).await.map_err(|error| cannot(&error))?;
        stream.set_nodelay(true).map_err(|error| cannot(&error))?;
        match scheme {
            Scheme::Http => handshake(stream).await,
            Scheme::Https => {
                let name = self.job.tls_server_name.clone().unwrap_or_else(|| host.clone());
                let name = ServerName::try_from(name).map_err(|error| cannot(&error))?;
                let connector = TlsConnector::from(Arc::new(tls_config(&self.job)?));
                handshake(connector.connect(name, stream).await.map_err(|error| cannot(&error))?).await
            }
        }
    }

    async fn read(&self, response: Response<Incoming>, share: Share) -> Result<Answer, String> {
        let (head, mut body) = response.into_parts();
        if head.status.is_redirection() {
            let to = head.headers.get(header::LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
            let (status, to) = (head.status, to.unwrap_or_default());
            return Err(format!("answered {status} to {to:?}; redirects are not followed"));
        }
        if head.status != 200 {
            return Err(format!("answered {}", head.status));
        }
        let text = |name: HeaderName| match head.headers.get(&name) {
            None => Ok(""),
            Some(value) => value.to_str().map_err(|_| format!("{name} is no text")),
        };
        let format = match text(header::CONTENT_TYPE)? {
            "" => Format::PrometheusText,
            value => Format::from_content_type(value)
                .ok_or_else(|| format!("Content-Type is {value:?}, no format of metrics"))?,
        };
        let limit = usize::try_from(self.job.limits.body_bytes_max).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::select! {
                biased;
                () = share.given_way() => return Err(no_room(NoRoom)),
                frame = body.frame() => frame,
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| format!("the answer was cut: {}", chain(&error)))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(too_large(limit));
            }
            share.grow(data.len()).map_err(no_room)?;
            bytes.extend_from_slice(data);
        }
        let body = match text(header::CONTENT_ENCODING)? {
            "" | "identity" => bytes,
            "gzip" => decompress(&bytes, limit, &share)?,
            other => return Err(format!("Content-Encoding is {other:?}, which was not asked for")),
        };
        Ok(Answer { format, body, _share: share })
    }
}

fn accept(job: &Job) -> String {
    // Weights as Prometheus gives them; anything else comes last.
    let weight = |at: usize| (job.protocols.len() + 1 - at) as f64 / 10.0;
    let types = job.protocols.iter().enumerate();
    let mut types: Vec<_> =
        types.map(|(at, protocol)| format!("{};q={:.1}", protocol.media_type(), weight(at))).collect();
    types.push("*/*;q=0.1".to_owned());
    types.join(",")
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {}", chain(&error)))?;
    // Ends with its sender, or with the target.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Read for each connection, so that a new CA needs no restart.
fn tls_config(job: &Job) -> Result<rustls::ClientConfig, String> {
    let bad = |error: &dyn std::error::Error| format!("tls_ca_file {}: {error}", job.tls_ca_file.display());
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&job.tls_ca_file).map_err(|error| bad(&error))?;
    for certificate in certificates {
        roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(format!("tls_ca_file {} holds no certificate", job.tls_ca_file.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn decompress(compressed: &[u8], limit: usize, share: &Share) -> Result<Vec<u8>, String> {
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut bytes = Vec::new();
    loop {
        let step = STEP_BYTES.min(limit + 1 - bytes.len());
        let read = decoder.by_ref().take(step as u64).read_to_end(&mut bytes);
        if bytes.len() > limit {
            return Err(too_large(limit));
        }
        match read.map_err(|error| format!("broken gzip: {error}"))? {
            0 => return Ok(bytes),
            read => share.grow(read).map_err(no_room)?,
        }
    }
}

fn too_large(limit: usize) -> String {
    format!("more than {limit} bytes (body_size_limit)")
}

fn no_room(NoRoom: NoRoom) -> String {
    "too many bytes of all targets at once".to_owned()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
