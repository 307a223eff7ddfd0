//! Certificates from PEM files, for QUIC and for TLS over TCP.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::CertificateError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::ALPN;
use crate::secret::{SecretError, read_secret};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read certificates from {path}: {message}")]
    Certificates { path: PathBuf, message: String },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{path} holds no private key in PEM form")]
    Key { path: PathBuf },
    #[error("certificate {certificate} and key {key} do not fit: {message}")]
    Mismatch { certificate: PathBuf, key: PathBuf, message: String },
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |message: String| TlsError::Certificates { path: path.to_owned(), message };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("no certificate in PEM form".to_owned()));
    }
    Ok(found)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server's chain and key, read from two files. Clones share them.
///
/// What a handshake shows is what the files held at the last good read:
/// [`Certificates::reload`] swaps it, and established connections go on.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificates {
    /// # Errors
    ///
    /// When a file cannot be read, the two do not fit, or the certificate is
    /// not valid now.
    pub fn open(certificate: &Path, key: &Path) -> Result<Certificates, TlsError> {
        let current = RwLock::new(Arc::new(certified(certificate, key)?));
        Ok(Certificates(Arc::new(Inner {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current,
        })))
    }

    /// For HTTP over TLS 1.3 with this certificate.
    ///
    /// # Errors
    ///
    /// None in practice: the provider knows TLS 1.3.
    pub fn https(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        server_config(self, &[b"h2", b"http/1.1"]).map(Arc::new)
    }

    /// Reads the files again. Whether the certificate is another one now.
    ///
    /// # Errors
    ///
    /// As [`Certificates::open`]; the last good ones stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let new = Arc::new(certified(&self.0.certificate, &self.0.key)?);
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = current.cert != new.cert;
        *current = new;
        Ok(is_other)
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Reads a chain and its key, and checks all that can be checked here.
fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let pem = read_secret(key)?;
    let private =
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Key { path: key.to_owned() })?;
    check_validity(certificate, &chain)?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| TlsError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        message: error.to_string(),
    })
}

/// Refuses a certificate whose time is over or has not come. Whom it is
/// signed by and for is the peers' business: they know the authority.
fn check_validity(path: &Path, chain: &[CertificateDer<'static>]) -> Result<(), TlsError> {
    let failed = |message: String| TlsError::Certificates { path: path.to_owned(), message };
    let mut roots = rustls::RootCertStore::empty();
    // Some anchor is needed; time is judged before trust.
    roots.add(chain[0].clone()).map_err(|error| failed(error.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let name = ServerName::from(Ipv4Addr::UNSPECIFIED);
    match verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()) {
        Err(rustls::Error::InvalidCertificate(
            error @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::BadEncoding),
        )) => Err(failed(error.to_string())),
        _ => Ok(()),
    }
}

/// The server's half: its chain and key. TLS 1.3 only, no early data.
pub(crate) fn server(certificates: &Certificates) -> Result<rustls::ServerConfig, TlsError> {
    server_config(certificates, &[ALPN])
}

fn server_config(certificates: &Certificates, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates.0.clone());
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.max_early_data_size = 0;
    Ok(config)
}

/// The same for QUIC.
pub(crate) fn quic_server(config: rustls::ServerConfig) -> Result<QuicServerConfig, TlsError> {
    QuicServerConfig::try_from(config)
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))
}

/// Checks that a certificate chain and key can be read, fit together, and are
/// valid now.
///
/// # Errors
///
/// As [`Certificates::open`].
pub fn check_certificate(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    certified(certificate, key).map(|_| ())
}

/// The client's half: whom it trusts, nobody but the CA in `ca`.
pub(crate) fn client(ca: &Path) -> Result<rustls::ClientConfig, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| TlsError::Certificates {
            path: ca.to_owned(),
            message: format!("not a CA certificate: {error}"),
        })?;
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    Ok(config)
}

/// The same for QUIC.
pub(crate) fn quic_client(config: rustls::ClientConfig) -> Result<QuicClientConfig, TlsError> {
    QuicClientConfig::try_from(config)
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))
}
