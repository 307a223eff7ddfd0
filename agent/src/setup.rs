//! `lm-agent setup`: makes this host the agent of a bundle.
//!
//! The token comes from a file or standard input and goes to a file that its
//! owner alone reads. A host that is another agent already is left alone.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lm_enrol::{Access, BUNDLE_BYTES_MAX, Bundle, CA_FILE, CONFIG_DIR, Error, Files, Unit};

use crate::config::Settings;

const UNIT: Unit =
    Unit { name: "lm-agent.service", template: include_str!("../../config/systemd/lm-agent.service") };

/// What to make of a bundle.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    pub dir: PathBuf,
    /// Files to follow: patterns for `logs.files`.
    pub logs: Vec<String>,
    /// Where the systemd unit goes; `None`: nowhere.
    pub unit_dir: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    pub written: Vec<PathBuf>,
    /// The host was this agent before: it has a token, perhaps a new one.
    pub is_known: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Enrol(#[from] Error),
    #[error(
        "this host is agent {known:?} already ({}), and the bundle is for {given:?}; stop the agent and move that \
         file and its queue away, or give the new agent a directory of its own with --dir",
        path.display()
    )]
    OtherAgent { path: PathBuf, known: String, given: String },
    #[error(
        "{} is the CA of another collector than the bundle's; move it away, or use --dir",
        path.display()
    )]
    OtherCa { path: PathBuf },
}

impl SetupError {
    /// As [`Error::exit_code`]; another agent's or collector's host is 78.
    pub fn exit_code(&self) -> u8 {
        match self {
            SetupError::Enrol(error) => error.exit_code(),
            SetupError::OtherAgent { .. } | SetupError::OtherCa { .. } => 78,
        }
    }
}

/// Reads a bundle; `-` is standard input.
///
/// # Errors
///
/// When it cannot be read or has mistakes.
pub fn read_bundle(file: &Path) -> Result<Bundle, Error> {
    let is_stdin = file == Path::new("-");
    let shown = if is_stdin { Path::new("standard input") } else { file };
    let failed = |error| Error::Read { path: shown.to_owned(), error };
    let mut from: Box<dyn Read> =
        if is_stdin { Box::new(io::stdin()) } else { Box::new(fs::File::open(file).map_err(failed)?) };
    let mut text = String::new();
    from.by_ref().take(BUNDLE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Bundle::parse(shown, &text)
}

/// Writes token, CA, settings and unit. Settings and unit that are there stay
/// as they are.
///
/// # Errors
///
/// When the host is another agent, or a file cannot be written; what was
/// written before stays.
pub fn setup(bundle: &Bundle, options: &SetupOptions) -> Result<Outcome, SetupError> {
    let SetupOptions { dir, .. } = options;
    let (config, ca, token) = (dir.join("agent.toml"), dir.join(CA_FILE), dir.join("token"));
    let is_known = config.exists();
    if is_known {
        let known = Settings::load(&config).map_err(Error::Mistakes)?.settings.agent_id;
        if known != bundle.agent_id {
            return Err(SetupError::OtherAgent { path: config, known, given: bundle.agent_id.clone() });
        }
    }
    // A collector's own CA is beside its key.
    let is_foreign = !is_known || dir.join("ca-key.pem").exists();
    if is_foreign && fs::read_to_string(&ca).is_ok_and(|there| there.trim() != bundle.ca.trim()) {
        return Err(SetupError::OtherCa { path: ca });
    }
    let mut files = Files::default();
    Files::dir(dir)?;
    let mut write = |path: &Path, text: String, access| {
        let is_there = fs::read_to_string(path).is_ok_and(|there| there.trim() == text.trim());
        if is_there { Ok(()) } else { files.write(path, &text, access) }
    };
    write(&ca, format!("{}\n", bundle.ca.trim()), Access::Everyone)?;
    write(&token, format!("{}\n", bundle.token), Access::Owner)?;
    files.write_missing(&config, &settings(bundle, options), Access::Everyone)?;
    if let Some(unit_dir) = &options.unit_dir {
        UNIT.install(unit_dir, dir, &mut files)?;
    }
    Ok(Outcome { written: files.written, is_known })
}

fn settings(bundle: &Bundle, options: &SetupOptions) -> String {
    let dir = &options.dir;
    let queue = match dir == Path::new(CONFIG_DIR) {
        true => "/var/lib/lightmetrics/queue".into(),
        false => dir.join("data/queue"),
    };
    let list = |texts: &[String]| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let server_name = bundle
        .server_name
        .as_ref()
        .map(|name| format!("server_name = {}\n", quoted(name)))
        .unwrap_or_default();
    format!(
        "# Written by lm-agent setup, which does not touch it again: it is yours.\n\
         # lm-agent --print-defaults shows every key.\n\
         agent_id = {}\n\
         [collector]\nendpoints = [{}]\n{server_name}tls_ca_cert_file = {}\nauth_token_file = {}\n\
         [queue]\ndir = {}\n\
         [logs]\nfiles = [{}]\n",
        quoted(&bundle.agent_id),
        list(&bundle.endpoints),
        quoted(&dir.join(CA_FILE).display().to_string()),
        quoted(&dir.join("token").display().to_string()),
        quoted(&queue.display().to_string()),
        list(&options.logs),
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn bundle(name: &str, token: char) -> Bundle {
        Bundle {
            agent_id: name.to_owned(),
            endpoints: vec!["mon.example.com:4433".to_owned()],
            server_name: Some("mon".to_owned()),
            token: token.to_string().repeat(64),
            ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_owned(),
        }
    }

    fn options(dir: &Path) -> SetupOptions {
        SetupOptions {
            dir: dir.join("etc"),
            logs: vec!["/var/log/*.log".to_owned()],
            unit_dir: Some(dir.to_owned()),
        }
    }

    #[test]
    fn a_bundle_makes_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let outcome = setup(&bundle("web-1", 'a'), &options).unwrap();
        assert_eq!((outcome.written.len(), outcome.is_known), (4, false), "{outcome:?}");
        let settings = Settings::load(&options.dir.join("agent.toml")).unwrap().settings;
        assert_eq!((&settings.agent_id[..], &settings.logs.files[..]), ("web-1", &options.logs[..]));
        assert_eq!(settings.collector.server_name.as_deref(), Some("mon"));
        let mode = fs::metadata(&settings.collector.auth_token_file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let unit = fs::read_to_string(dir.path().join("lm-agent.service")).unwrap();
        assert!(unit.contains(&format!("LoadCredential=token:{}/token\n", options.dir.display())), "{unit}");

        let again = setup(&bundle("web-1", 'a'), &options).unwrap();
        assert_eq!((again.written.len(), again.is_known), (0, true));
        let rotated = setup(&bundle("web-1", 'b'), &options).unwrap();
        assert_eq!(rotated.written, [options.dir.join("token")]);
    }

    #[test]
    fn another_identity_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        setup(&bundle("web-1", 'a'), &options).unwrap();
        let error = setup(&bundle("web-2", 'b'), &options).unwrap_err().to_string();
        assert!(error.contains("this host is agent \"web-1\" already"), "{error}");
        assert_eq!(fs::read_to_string(options.dir.join("token")).unwrap().trim(), "a".repeat(64));
    }

    #[test]
    fn the_ca_of_another_collector_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        fs::create_dir(&options.dir).unwrap();
        fs::write(options.dir.join(CA_FILE), "another").unwrap();
        assert!(matches!(setup(&bundle("web-1", 'a'), &options), Err(SetupError::OtherCa { .. })));
        assert_eq!(fs::read_dir(&options.dir).unwrap().count(), 1, "nothing was written");
    }

    #[test]
    fn bundles_are_bounded_and_may_be_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        fs::write(&file, "a = ".repeat(1 << 20)).unwrap();
        assert!(matches!(read_bundle(&file), Err(Error::Mistakes(_))));
        assert!(matches!(read_bundle(&dir.path().join("none")), Err(Error::Read { .. })));
        fs::write(&file, bundle("web-1", 'a').text()).unwrap();
        assert_eq!(read_bundle(&file).unwrap().agent_id, "web-1");
    }
}
