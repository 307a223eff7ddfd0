//! Certificates from PEM files, and the TLS half of QUIC.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

/// The server's half: its chain and key. TLS 1.3 only, no early data.
pub(crate) fn server(certificate: &Path, key: &Path) -> Result<QuicServerConfig, TlsError> {
    let chain = certificates(certificate)?;
    let pem = read_secret(key)?;
    let private =
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Key { path: key.to_owned() })?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| TlsError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            message: error.to_string(),
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config)
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))
}

/// Checks that a certificate chain and key can be read and fit together.
pub fn check_certificate(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    server(certificate, key).map(|_| ())
}

/// The client's half: whom it trusts, nobody but the CA in `ca`.
pub(crate) fn client(ca: &Path) -> Result<QuicClientConfig, TlsError> {
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
    QuicClientConfig::try_from(config)
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))
}
