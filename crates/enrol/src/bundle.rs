//! A bundle: all that a new host needs to know, in one secret text.
//!
//! ```toml
//! agent_id = "web-1"
//! endpoints = ["mon.example.com:4433"]
//! server_name = "mon.example.com"
//! token = "5f0c..."
//! ca = """
//! -----BEGIN CERTIFICATE-----
//! ...
//! """
//! ```

use std::path::Path;

use lm_settings::{Section, Value, units};

use crate::Error;

/// Longest bundle that is read: a CA of a few certificates fits many times.
pub const BUNDLE_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub agent_id: String,
    /// Of one collector, as `host:port`.
    pub endpoints: Vec<String>,
    /// The name in its certificate, when it is not the endpoint's host.
    pub server_name: Option<String>,
    pub token: String,
    /// CA certificates, PEM.
    pub ca: String,
}

impl Bundle {
    /// The text that [`Bundle::parse`] reads.
    pub fn text(&self) -> String {
        let Bundle { agent_id, endpoints, server_name, token, ca } = self;
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| quoted(endpoint)).collect();
        let server_name =
            server_name.as_ref().map(|name| format!("server_name = {}\n", quoted(name))).unwrap_or_default();
        format!(
            "# A secret: with it a host is agent {agent_id}. For: lm-agent setup --bundle FILE\n\
             agent_id = {}\nendpoints = [{}]\n{server_name}token = {}\nca = \"\"\"\n{}\n\"\"\"\n",
            quoted(agent_id),
            endpoints.join(", "),
            quoted(token),
            ca.trim()
        )
    }

    /// Reads a bundle that came from `file`.
    ///
    /// # Errors
    ///
    /// Every mistake in it; none repeats a text of it.
    pub fn parse(file: &Path, text: &str) -> Result<Bundle, Error> {
        lm_settings::parse_secret(file, text, take).map_err(Error::Mistakes)
    }
}

fn take(root: &mut Section<'_, '_>) -> Bundle {
    let empty = String::new;
    let mut bundle =
        Bundle { agent_id: empty(), endpoints: Vec::new(), server_name: None, token: empty(), ca: empty() };
    for key in ["agent_id", "endpoints", "token", "ca"] {
        if !root.has(key) {
            root.complain_at(key, &format!("{key} is missing: is this a bundle of lmctl agent add?"));
        }
    }
    root.read("agent_id", &mut bundle.agent_id, |value| {
        let expected = "expected 1 to 128 letters, digits, '.', '_' or '-'";
        units::text(value).ok().filter(|name| lm_mesh::is_identity(name)).ok_or_else(|| expected.to_owned())
    });
    root.read("endpoints", &mut bundle.endpoints, units::endpoints);
    root.read("server_name", &mut bundle.server_name, |value| units::text(value).map(Some));
    root.read("token", &mut bundle.token, |value| {
        let token = units::text(value)?;
        lm_mesh::token_digest(&token).map(|_| token).map_err(|error| error.to_string())
    });
    root.read("ca", &mut bundle.ca, certificates);
    bundle
}

/// Looks like certificates; whether they are is found out by whoever dials.
fn certificates(value: &Value<'_>) -> Result<String, String> {
    let text = units::text(value).map_err(|_| "expected certificates in PEM form".to_owned())?;
    let is_pem = text.contains("-----BEGIN CERTIFICATE-----") && !text.contains("PRIVATE KEY");
    if is_pem { Ok(text) } else { Err("expected certificates in PEM form, and no key".to_owned()) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        Bundle {
            agent_id: "web-1".to_owned(),
            endpoints: vec!["mon.example.com:4433".to_owned(), "[::1]:4433".to_owned()],
            server_name: Some("mon\"\\\n".to_owned()),
            token: "t".repeat(64),
            ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for server_name in [None, bundle().server_name] {
            let bundle = Bundle { server_name, ..bundle() };
            assert_eq!(Bundle::parse(Path::new("x"), &bundle.text()).unwrap(), bundle);
        }
    }

    #[test]
    fn mistakes_have_lines_and_no_secrets() {
        let check = |text: &str, wanted: &[&str]| {
            let error = Bundle::parse(Path::new("x"), text).unwrap_err().to_string();
            assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
            assert!(!error.contains("secret-secret"), "{error}");
        };
        check("", &["x:1: agent_id is missing", "endpoints is missing", "token is missing", "ca is missing"]);
        check(
            "agent_id = 'a b'\nendpoints = []\ntoken = 'secret-secret'\nca = '-----BEGIN PRIVATE KEY-----'\nmore = 1",
            &["x:1: ", "x:2: ", "x:3: ", "x:4: ", "x:5: "],
        );
        check("-----BEGIN secret-secret", &["x:1: not TOML"]);
    }
}
