//! Targets over TLS: which certificates are believed.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n";

/// Who vouches for certificates.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// A new one, whose own certificate is in `file`.
    fn new(name: &str, file: &Path) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority(Issuer::new(params, key))
    }

    /// What a target of this name needs, with a certificate that ends with the
    /// year before `end`.
    fn acceptor(&self, name: &str, end: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(end, 1, 1));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Asks a target once that answers over TLS: the body, or why there is none.
fn ask(job: Job, acceptor: TlsAcceptor) -> Result<Vec<u8>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::task::spawn_local(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that does not believe us ends the handshake.
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(tls.read_u8().await.unwrap());
            }
            tls.write_all(ANSWER).await.unwrap();
        });
        let discovered = BTreeMap::from([("__address__".to_owned(), address)]);
        let target = Target::new(&job, &discovered).unwrap().unwrap();
        let answer = Client::new(Rc::new(job), target).get(&Budget::new(1 << 20)).await;
        answer.map(|answer| answer.body)
    })
}

#[test]
fn only_certificates_of_the_right_authority_name_and_time_are_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (dir.path().join("ours.pem"), dir.path().join("others.pem"));
    let (authority, _) = (Authority::new("ours", &ours), Authority::new("others", &others));
    let job = |ca: &Path, name: Option<&str>| Job {
        scheme: Scheme::Https,
        tls_ca_file: ca.to_owned(),
        tls_server_name: name.map(str::to_owned),
        ..Job::default()
    };
    let check =
        |job: Job, acceptor: TlsAcceptor, expected: Result<(), &str>| match (ask(job, acceptor), expected) {
            (Ok(body), Ok(())) => assert_eq!(body, b"a 1\n"),
            (Err(error), Err(why)) => {
                assert!(error.starts_with("cannot connect: ") && error.contains(why), "{error}")
            }
            (found, _) => panic!("{found:?} instead of {expected:?}"),
        };
    let web = || authority.acceptor("web.example", 2999);
    check(job(&ours, Some("web.example")), web(), Ok(()));
    // Without a name of its own, the target's host is what must be certified.
    check(job(&ours, None), authority.acceptor("127.0.0.1", 2999), Ok(()));
    check(job(&ours, None), web(), Err("not valid for name"));
    check(job(&ours, Some("db.example")), web(), Err("not valid for name"));
    check(job(&ours, Some("web.example")), authority.acceptor("web.example", 2001), Err("expired"));
    check(job(&others, Some("web.example")), web(), Err("UnknownIssuer"));
    let none = dir.path().join("none.pem");
    let missing = ask(job(&none, Some("web.example")), web()).unwrap_err();
    assert!(missing.starts_with("tls_ca_file ") && missing.contains("none.pem"), "{missing}");
    std::fs::write(&none, "").unwrap();
    let empty = ask(job(&none, Some("web.example")), web()).unwrap_err();
    assert!(empty.ends_with("holds no certificate"), "{empty}");
}
