//! The gateway over TLS: what listens where, and certificates that change.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lm_tests::process::{binary, run};
use lm_tests::{System, eventually, http};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::SOON;

type Https = StreamOwned<ClientConnection, TcpStream>;

/// A connection whose handshake is done.
fn connect(addr: SocketAddr, ca: &Path) -> Result<Https, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tcp = TcpStream::connect(addr).map_err(|error| error.to_string())?;
    tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.complete_io(&mut tcp).map_err(|error| error.to_string())?;
    Ok(StreamOwned::new(client, tcp))
}

/// Asks on a connection and leaves it open.
fn get(connection: &mut Https, path: &str, token: &str) -> Result<String, String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    connection.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = vec![0; 65_536];
    let read = connection.read(&mut answer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

fn certificate(connection: &Https) -> Vec<u8> {
    connection.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn the_gateway_speaks_tls_and_takes_a_new_certificate_without_a_restart() {
    let mut system = System::new(&[]);
    let (ca, chain) = (system.path("ca.pem"), system.path("tls/fullchain.pem"));
    let key = system.path("tls/key.pem");
    system.gateway_config.set_path("tls.certificate_file", &chain).set_path("tls.key_file", &key);
    system.write_configs();
    system.collector.start();
    system.wait_collector();
    system.gateway.start();
    let (addr, token) = (system.api.addr, system.api.token.clone());
    let query = "/api/v1/query?query=1";
    let mut first = eventually("an answer over TLS", SOON, || {
        let mut connection = connect(addr, &ca)?;
        let answer = get(&mut connection, query, &token)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(connection) } else { Err(answer) }
    });
    assert!(http::get(addr, "/readyz", None).is_err(), "plain HTTP is not answered");
    // One who says nothing keeps nobody else waiting.
    let _silent = TcpStream::connect(addr).unwrap();
    connect(addr, &ca).unwrap();

    let dir = system.dir.display().to_string();
    let other = ["setup", "--dir", &dir, "--name", "localhost", "--name", "other.example.com"];
    run(&binary("lm-collector"), &other, SOON).expect_code(0);
    system.gateway.hang_up();
    eventually("the new certificate is shown", SOON, || {
        let is_new = certificate(&connect(addr, &ca)?) != certificate(&first);
        if is_new { Ok(()) } else { Err("the old one".to_owned()) }
    });
    assert!(get(&mut first, query, &token).unwrap().starts_with("HTTP/1.1 200"), "connections go on");

    let good = certificate(&connect(addr, &ca).unwrap());
    fs::write(&chain, "no certificate").unwrap();
    system.gateway.hang_up();
    eventually("the mistake is told", SOON, || {
        let log = system.gateway.log_text();
        if log.contains("the last good certificate holds") { Ok(()) } else { Err(log) }
    });
    assert_eq!(certificate(&connect(addr, &ca).unwrap()), good);
    assert!(system.gateway.stop().success());
    let start = run(&binary("lm-gateway"), &[system.path("gateway.toml").display().to_string()], SOON);
    start.expect_code(78).expect_stderr(&["cannot read certificates from", "fullchain.pem"]);
}

#[test]
fn nothing_listens_beyond_loopback_without_encryption_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    for (program, text, key) in [
        ("lm-gateway", "listen = \"0.0.0.0:18080\"\n", "allow_plaintext_beyond_loopback"),
        ("lm-collector", "[health]\nlisten = \"[::]:18081\"\n", "health.allow_plaintext_beyond_loopback"),
    ] {
        fs::write(&file, text).unwrap();
        let start = run(&binary(program), &[&file], SOON);
        start.expect_code(78).expect_stderr(&["listen", "set", key]);
    }
}
