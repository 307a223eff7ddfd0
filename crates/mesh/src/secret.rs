//! Secrets come from files that only their owner can read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest secret file that is read.
const SECRET_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read secret file {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("secret file {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("secret file {path} is empty")]
    Empty { path: PathBuf },
    #[error("secret file {path} is not UTF-8 text or is over {SECRET_BYTES_MAX} bytes")]
    NotText { path: PathBuf },
}

/// Reads a secret, without the white space around it.
///
/// # Errors
///
/// As [`read_secret_file`], and when there is nothing else.
pub fn read_secret(path: &Path) -> Result<String, SecretError> {
    let text = read_secret_file(path)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(SecretError::Empty { path: path.to_owned() });
    }
    Ok(secret.to_owned())
}

/// Where a secret is: systemd may have handed it over (`LoadCredential=`)
/// under the file's own name, and then the file need not be readable for us.
fn locate(path: &Path) -> PathBuf {
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY").zip(path.file_name());
    let handed = handed.map(|(dir, name)| Path::new(&dir).join(name));
    handed.filter(|credential| credential.is_file()).unwrap_or_else(|| path.to_owned())
}

/// Reads a file that holds secrets, as it is; or the credential of its name in
/// `$CREDENTIALS_DIRECTORY`.
///
/// # Errors
///
/// When the file cannot be read, is no text, or can be read or written by
/// others. Group access is allowed: packages install secrets as `root:service 0640`.
pub fn read_secret_file(path: &Path) -> Result<String, SecretError> {
    let path = &*locate(path);
    let read = |error| SecretError::Read { path: path.to_owned(), error };
    let file = File::open(path).map_err(read)?;
    let mode = file.metadata().map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    String::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() as u64 <= SECRET_BYTES_MAX)
        .ok_or_else(|| SecretError::NotText { path: path.to_owned() })
}
