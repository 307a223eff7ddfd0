//! `lm-collector setup`: a directory with what a first installation needs: a
//! certificate authority, a server certificate, and tokens.
//!
//! Made for one machine or a lab: the authority signs once and its key is not
//! kept, so a renewal makes a new authority, whose certificate peers need. What
//! is there already is kept; certificates are made anew when half of their
//! life is over.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Random bytes of a token; written as hex.
const TOKEN_BYTES: usize = 32;

/// What `users.toml` begins with: how to go on.
const USERS_EXAMPLE: &str = "\
# People and applications with HTTP tokens of their own. server.toml names this
# file in [users].tokens_file; SIGHUP reads it again. An entry:
#
# [[users]]
# name = \"ann\"
# role = \"viewer\"                     # or writer, operator
# token_sha256 = \"...\"                # printf %s TOKEN | sha256sum; or token = \"...\"
# scope = '{env=\"prod\"}'              # viewers: the series and lines they see
# expires = 2027-01-31T18:00:00Z
";

/// What to make.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    pub dir: PathBuf,
    /// Names and addresses that the server certificate carries.
    pub names: Vec<String>,
    /// Agents that get a token.
    pub agents: Vec<String>,
    /// How long certificates are valid.
    pub lifetime: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("{0:?} cannot be an agent's name: use letters, digits, '.', '_' or '-'")]
    Name(String),
    #[error("no random bytes: {0}")]
    Random(String),
}

/// Makes what is missing and returns the files that were written.
///
/// Every secret is readable by its owner alone, whatever the umask.
///
/// # Errors
///
/// When a file cannot be written; what was made before stays.
pub fn setup(options: &SetupOptions) -> Result<Vec<PathBuf>, SetupError> {
    let mut written = Vec::new();
    make_dir(&options.dir)?;
    make_dir(&options.dir.join("tls"))?;
    certificates(options, &mut written)?;
    for name in ["gateway-token", "query-token", "write-token", "operator-token"] {
        let path = options.dir.join(name);
        if !path.exists() {
            write_secret(&path, &format!("{}\n", token()?), &mut written)?;
        }
    }
    agent_tokens(options, &mut written)?;
    let users = options.dir.join("users.toml");
    if !users.exists() {
        write_secret(&users, USERS_EXAMPLE, &mut written)?;
    }
    Ok(written)
}

/// The agents' table, and each agent's own copy of its token.
fn agent_tokens(options: &SetupOptions, written: &mut Vec<PathBuf>) -> Result<(), SetupError> {
    let table = options.dir.join("ingest-tokens.toml");
    let mut text = fs::read_to_string(&table).unwrap_or_default();
    let before = text.len();
    for agent in &options.agents {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if agent.is_empty() || agent.len() > 128 || !agent.chars().all(is_plain) {
            return Err(SetupError::Name(agent.clone()));
        }
        let line = format!("agent_id = \"{agent}\"");
        if text.lines().any(|known| known == line) {
            continue;
        }
        let token = token()?;
        write_secret(&options.dir.join(format!("token-{agent}")), &format!("{token}\n"), written)?;
        text.push_str(&format!("[[tokens]]\n{line}\ntoken = \"{token}\"\n\n"));
    }
    if text.is_empty() {
        text.push_str("# [[tokens]] with agent_id and token; lm-collector setup --agent NAME adds one\n");
    }
    if text.len() != before {
        write_secret(&table, &text, written)?;
    }
    Ok(())
}

fn certificates(options: &SetupOptions, written: &mut Vec<PathBuf>) -> Result<(), SetupError> {
    let tls = options.dir.join("tls");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let marker = tls.join("renew-after");
    let renew_after = fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let authority_file = options.dir.join("ca.pem");
    let files = [authority_file.clone(), tls.join("fullchain.pem"), tls.join("key.pem")];
    let is_complete = files.iter().all(|file| file.exists());
    if is_complete && renew_after.is_some_and(|at| now.as_secs() < at) {
        return Ok(());
    }
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.distinguished_name.push(DnType::CommonName, "Lightmetrics CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut authority, now, options.lifetime);
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(options.names.clone())?;
    server.distinguished_name.push(DnType::CommonName, "Lightmetrics collector");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    valid(&mut server, now, options.lifetime);
    let server_pem = server.signed_by(&key, &issuer)?.pem();

    write_secret(&authority_file, &authority_pem, written)?;
    write_secret(&tls.join("fullchain.pem"), &server_pem, written)?;
    write_secret(&tls.join("key.pem"), &key.serialize_pem(), written)?;
    let renew = now + options.lifetime / 2;
    write_secret(&marker, &format!("{}\n", renew.as_secs()), written)
}

fn valid(params: &mut CertificateParams, now: Duration, lifetime: Duration) {
    // An hour of slack for clocks that are behind.
    let at = |offset: i64| {
        let seconds = (now.as_secs() as i64).saturating_add(offset);
        time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(-3600);
    params.not_after = at(lifetime.as_secs() as i64);
}

fn token() -> Result<String, SetupError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| SetupError::Random(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn make_dir(path: &Path) -> Result<(), SetupError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| SetupError::Write { path: path.to_owned(), error })
}

/// Written aside and renamed, so that a reader sees the old file or the new.
fn write_secret(path: &Path, text: &str, written: &mut Vec<PathBuf>) -> Result<(), SetupError> {
    let write = || {
        let aside = path.with_extension("new");
        // Left over from a call that was killed, perhaps with other rights.
        let _ = fs::remove_file(&aside);
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(|error| SetupError::Write { path: path.to_owned(), error })?;
    written.push(path.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn options(dir: &Path) -> SetupOptions {
        SetupOptions {
            dir: dir.to_owned(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            agents: vec!["local-agent".to_owned()],
            lifetime: Duration::from_secs(86_400),
        }
    }

    #[test]
    fn secrets_are_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let written = setup(&options(dir.path())).unwrap();
        assert!(written.len() >= 10, "{written:?}");
        for file in &written {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
        let query = fs::read_to_string(dir.path().join("query-token")).unwrap();
        assert_eq!(setup(&options(dir.path())).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::read_to_string(dir.path().join("query-token")).unwrap(), query);
        let mut more = options(dir.path());
        more.agents.push("second".to_owned());
        assert_eq!(setup(&more).unwrap().len(), 2);
        more.agents.push("no good".to_owned());
        assert!(matches!(setup(&more), Err(SetupError::Name(_))));
    }

    #[test]
    fn certificates_work_and_are_renewed_at_half_life() {
        let dir = tempfile::tempdir().unwrap();
        setup(&SetupOptions { agents: Vec::new(), ..options(dir.path()) }).unwrap();
        let tokens = lm_mesh::read_secret_file(&dir.path().join("ingest-tokens.toml")).unwrap();
        assert!(tokens.starts_with("# [[tokens]]"));
        let users = fs::read_to_string(dir.path().join("users.toml")).unwrap();
        assert!(users.lines().all(|line| line.starts_with('#')), "an example, not a user");
        let tls = dir.path().join("tls");
        lm_mesh::check_certificate(&tls.join("fullchain.pem"), &tls.join("key.pem")).unwrap();
        let before = fs::read(tls.join("fullchain.pem")).unwrap();
        fs::write(tls.join("renew-after"), "5\n").unwrap();
        let without = SetupOptions { agents: Vec::new(), ..options(dir.path()) };
        assert_eq!(setup(&without).unwrap().len(), 4);
        assert_ne!(fs::read(tls.join("fullchain.pem")).unwrap(), before);
    }
}
