//! What a file is, and how far it was read: data that survives a restart.
//!
//! Bytes of a cursor, integers little-endian:
//!
//! ```text
//! version u8 = 1 | device u64 | inode u64 | offset u64
//! fingerprint: crc32c u32, bytes u16 | path, to the end
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes at the start of a file that its fingerprint covers at most.
pub const FINGERPRINT_BYTES_MAX: usize = 1024;

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 1 + 8 + 8 + 8 + 4 + 2;

/// A file while it exists. Inodes are given to new files once it is deleted,
/// which the [`Fingerprint`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    pub device: u64,
    pub inode: u64,
}

/// The checksum of the first bytes of a file.
///
/// It covers what was read, up to [`FINGERPRINT_BYTES_MAX`], so it is
/// `min(offset, FINGERPRINT_BYTES_MAX)` bytes long and grows while reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    pub crc32c: u32,
    pub bytes: u16,
}

impl Fingerprint {
    /// Takes in what follows the bytes covered so far.
    pub fn extend(&mut self, bytes: &[u8]) {
        let room = FINGERPRINT_BYTES_MAX - self.bytes as usize;
        let covered = &bytes[..bytes.len().min(room)];
        if !covered.is_empty() {
            self.crc32c = crc32c::crc32c_append(self.crc32c, covered);
            self.bytes += covered.len() as u16;
        }
    }
}

/// How far one file was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileCursor {
    pub key: FileKey,
    pub fingerprint: Fingerprint,
    /// The next byte to read. All before it were given out as lines.
    pub offset: u64,
    /// Where the file was first found, and the `filename` label of its lines.
    /// It may be elsewhere by now.
    pub path: PathBuf,
}

/// Why bytes are no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    #[error("a file cursor of {0} bytes is too short")]
    Short(usize),
    #[error("unknown version {0} of a file cursor")]
    Version(u8),
    #[error("a fingerprint of {bytes} bytes does not fit offset {offset}")]
    Fingerprint { bytes: u16, offset: u64 },
}

impl FileCursor {
    pub fn to_bytes(&self) -> Vec<u8> {
        let path = self.path.as_os_str().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_BYTES + path.len());
        bytes.push(VERSION);
        bytes.extend(self.key.device.to_le_bytes());
        bytes.extend(self.key.inode.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.fingerprint.crc32c.to_le_bytes());
        bytes.extend(self.fingerprint.bytes.to_le_bytes());
        bytes.extend(path);
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<FileCursor, CursorError> {
        match bytes.first() {
            Some(&VERSION) if bytes.len() >= FIXED_BYTES => {}
            None | Some(&VERSION) => return Err(CursorError::Short(bytes.len())),
            Some(&version) => return Err(CursorError::Version(version)),
        }
        let mut rest = &bytes[1..];
        let key = FileKey {
            device: u64::from_le_bytes(take(&mut rest)),
            inode: u64::from_le_bytes(take(&mut rest)),
        };
        let offset = u64::from_le_bytes(take(&mut rest));
        let fingerprint = Fingerprint {
            crc32c: u32::from_le_bytes(take(&mut rest)),
            bytes: u16::from_le_bytes(take(&mut rest)),
        };
        if u64::from(fingerprint.bytes) != offset.min(FINGERPRINT_BYTES_MAX as u64) {
            return Err(CursorError::Fingerprint { bytes: fingerprint.bytes, offset });
        }
        let path = Path::new(OsStr::from_bytes(rest)).to_owned();
        Ok(FileCursor { key, fingerprint, offset, path })
    }
}

/// The caller has checked that there are enough.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = bytes.split_first_chunk().expect("from_bytes() checked the length");
    *bytes = rest;
    *taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> FileCursor {
        let mut fingerprint = Fingerprint::default();
        fingerprint.extend(b"123456789");
        let key = FileKey { device: 1, inode: 2 };
        let path = OsStr::from_bytes(b"/var/log/\xff.log").into();
        FileCursor { key, fingerprint, offset: 9, path }
    }

    #[test]
    fn bytes_of_a_cursor() {
        let bytes = cursor().to_bytes();
        assert_eq!(
            bytes[..FIXED_BYTES],
            [
                1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0x83, 0x92, 0x06,
                0xe3, 9, 0
            ]
        );
        assert_eq!(FileCursor::from_bytes(&bytes), Ok(cursor()));
        for end in 0..FIXED_BYTES {
            assert_eq!(FileCursor::from_bytes(&bytes[..end]), Err(CursorError::Short(end)));
        }
        assert_eq!(FileCursor::from_bytes(&[9]), Err(CursorError::Version(9)));
        let mut lying = bytes;
        lying[29] = 8;
        let expected = CursorError::Fingerprint { bytes: 8, offset: 9 };
        assert_eq!(FileCursor::from_bytes(&lying), Err(expected));
    }

    #[test]
    fn a_fingerprint_in_parts_is_the_fingerprint_of_the_whole() {
        let bytes: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
        let mut parts = Fingerprint::default();
        for part in bytes.chunks(700) {
            parts.extend(part);
        }
        let crc32c = crc32c::crc32c(&bytes[..FINGERPRINT_BYTES_MAX]);
        assert_eq!(parts, Fingerprint { crc32c, bytes: FINGERPRINT_BYTES_MAX as u16 });
    }
}
