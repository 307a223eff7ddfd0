//! The settings that `setup` writes: what differs from the defaults, and the
//! files that it made.

use std::path::{Path, PathBuf};

use super::{SetupOptions, is_of_host};

/// `host:port`, with brackets around an IPv6 address.
pub fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub fn collector(options: &SetupOptions) -> String {
    let dir = &options.dir;
    let (data, run): (PathBuf, PathBuf) = match is_of_host(dir) {
        true => ("/var/lib/lightmetrics".into(), "/run/lightmetrics".into()),
        false => (dir.join("data"), dir.clone()),
    };
    let files: String = ["gateway", "query", "write", "operator"]
        .map(|name| format!("{name}_token_file = {}\n", quoted(&dir.join(format!("{name}-token")))))
        .concat();
    format!(
        "# Written by lm-collector setup, which does not touch it again: it is yours.\n\
         # lm-collector --print-defaults shows every key.\n\
         [ingest]\nlisten = \"{}\"\n\
         [ingest.tls]\ncertificate_file = {}\nkey_file = {}\n\
         [auth]\nagent_tokens_file = {}\n{files}\
         [users]\ntokens_file = {}\n\
         [operator]\nsocket = {}\n\
         [storage]\ndir = {}\n",
        options.listen,
        quoted(&dir.join("tls/fullchain.pem")),
        quoted(&dir.join("tls/key.pem")),
        quoted(&dir.join(lm_enrol::AGENTS_FILE)),
        quoted(&dir.join("users.toml")),
        quoted(&run.join("collector.sock")),
        quoted(&data.join("collector")),
    )
}

pub fn gateway(options: &SetupOptions) -> String {
    let dir = &options.dir;
    let tls = format!(
        "[tls]\ncertificate_file = {}\nkey_file = {}\n",
        quoted(&dir.join("tls/fullchain.pem")),
        quoted(&dir.join("tls/key.pem"))
    );
    let tls = match options.gateway_listen.ip().is_loopback() {
        // Ready for the day when it listens elsewhere.
        true => tls.lines().map(|line| format!("# {line}\n")).collect(),
        false => tls,
    };
    format!(
        "# Written by lm-collector setup, which does not touch it again: it is yours.\n\
         # lm-gateway --print-defaults shows every key.\n\
         listen = \"{}\"\n\
         [collector]\nendpoints = [\"127.0.0.1:{}\"]\nserver_name = \"{}\"\n\
         tls_ca_cert_file = {}\nauth_token_file = {}\n{tls}",
        options.gateway_listen,
        options.listen.port(),
        options.names[0],
        quoted(&dir.join(lm_enrol::CA_FILE)),
        quoted(&dir.join("gateway-token")),
    )
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}
