//! What a collector's data directory is, beyond its data: the cluster's name,
//! which agents pin, and the key that lets a restarted collector tell old
//! connections that they are gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// Bytes of a cluster's name.
pub const CLUSTER_ID_BYTES: usize = 16;
/// Bytes of the stateless-reset key.
pub const RESET_KEY_BYTES: usize = 64;

/// The identity of one data directory.
#[derive(Clone)]
pub struct Identity {
    pub cluster_id: [u8; CLUSTER_ID_BYTES],
    pub reset_key: [u8; RESET_KEY_BYTES],
}

impl Identity {
    /// Reads the identity in `dir`, or makes it with the directory.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used, or a file has the wrong length: a
    /// damaged name must not pass for a new cluster.
    pub fn open(dir: &Path) -> Result<Identity, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| Error::Directory { path: dir.to_owned(), error })?;
        Ok(Identity {
            cluster_id: read_or_make(&dir.join("cluster-id"))?,
            reset_key: read_or_make(&dir.join("reset-key"))?,
        })
    }
}

fn read_or_make<const N: usize>(path: &Path) -> Result<[u8; N], Error> {
    let failed = |error| Error::Directory { path: path.to_owned(), error };
    match File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(N as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
            <[u8; N]>::try_from(&bytes[..]).map_err(|_| {
                failed(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{N} bytes are expected; restore the file from a backup"),
                ))
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Written aside, synced and renamed: after a crash the file is whole or not there.
fn make<const N: usize>(path: &Path) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let aside: PathBuf = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(bytes)
}
