//! An open directory of small files.
//!
//! Files are opened relative to it: the kernel walks the path to a device
//! once and not once for each of its attributes.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};

use crate::sources::host::Error;

/// A sysfs attribute is at most a page, and the kernel fills it in one read.
const ATTRIBUTE_BYTES_MAX: usize = 4096;
/// Entries of one directory beyond these are not looked at.
const ENTRY_COUNT_MAX: usize = 4096;

#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self, Error> {
        match open_directory(CWD, path) {
            Ok(fd) => Ok(Directory { fd }),
            Err(error) => Err(Error::Read { path: path.to_owned(), source: error.into() }),
        }
    }

    /// The directory at `path` below this one; symbolic links are followed.
    pub fn inside(&self, path: &str) -> Option<Directory> {
        let fd = open_directory(&self.fd, Path::new(path)).ok()?;
        Some(Directory { fd })
    }

    /// The names in it, sorted, so that series begin in the same order
    /// everywhere. Empty when it cannot be listed. Can be asked once.
    pub fn names(&self) -> Vec<String> {
        self.names_of(|_| true)
    }

    /// As [`names`](Self::names), of directories alone.
    pub fn directory_names(&self) -> Vec<String> {
        self.names_of(|kind| kind == FileType::Directory)
    }

    fn names_of(&self, is_wanted: impl Fn(FileType) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        // What was read before an error is there.
        let _ = for_each_name(&self.fd, |name, kind| {
            let name = std::str::from_utf8(name).ok().filter(|_| is_wanted(kind));
            names.extend(name.map(str::to_owned));
            names.len() < ENTRY_COUNT_MAX
        });
        names.sort_unstable();
        names
    }

    /// The contents of a file without the white space around them.
    pub fn bytes<'b>(&self, file: &str, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        // NONBLOCK: whatever a wrongly set root holds, opening must not hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::openat(&self.fd, file, flags, Mode::empty()).ok()?;
        buffer.clear();
        buffer.reserve(ATTRIBUTE_BYTES_MAX);
        rustix::io::read(file, spare_capacity(buffer)).ok()?;
        Some(buffer.trim_ascii())
    }

    /// The contents of a file; what is not UTF-8 is replaced.
    pub fn text<'b>(&self, file: &str, buffer: &'b mut Vec<u8>) -> Option<Cow<'b, str>> {
        self.bytes(file, buffer).map(String::from_utf8_lossy)
    }

    /// The number in a file: decimal, with a sign or fraction, or hexadecimal
    /// after `0x`.
    pub fn number(&self, file: &str, buffer: &mut Vec<u8>) -> Option<f64> {
        parse_number(self.bytes(file, buffer)?)
    }

    /// Where a symbolic link points to, as it is written in the link.
    pub fn link(&self, name: &str) -> Option<String> {
        rustix::fs::readlinkat(&self.fd, name, Vec::new()).ok()?.into_string().ok()
    }
}

/// Every entry of a directory, hidden ones left out, in no order, until
/// `wants_more` does not.
pub fn for_each_name(
    directory: impl AsFd,
    mut wants_more: impl FnMut(&[u8], FileType) -> bool,
) -> rustix::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") && !wants_more(name, entry.file_type()) {
            break;
        }
    }
    Ok(())
}

pub fn open_directory(at: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

pub fn parse_number(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|value| value as f64);
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check =
            |text: &str, expected: Option<f64>| assert_eq!(parse_number(text.as_bytes()), expected, "{text}");
        check("12", Some(12.0));
        check("-1", Some(-1.0));
        check("0x1303", Some(4867.0));
        check("18446744073709551615", Some(18446744073709551615.0));
        check("2.5", Some(2.5));
        check("inf", None);
        check("", None);
        check("0x", None);
        check("N/A (no PMA)", None);
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), " 7 \n").unwrap();
        std::fs::write(dir.path().join("large"), vec![b'1'; 3 * ATTRIBUTE_BYTES_MAX]).unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(directory.number("a", &mut buffer), Some(7.0));
        assert_eq!(directory.number("b", &mut buffer), None);
        assert_eq!(directory.number("c", &mut buffer), None);
        assert!(directory.bytes("large", &mut buffer).unwrap().len() <= buffer.capacity());
        assert!(buffer.len() < 3 * ATTRIBUTE_BYTES_MAX);
        assert_eq!(directory.names(), ["a", "b", "large"]);
        assert!(directory.inside("a").is_none());
        assert!(Directory::open(&dir.path().join("c")).is_err());
    }

    #[test]
    fn a_fifo_in_place_of_a_file_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, dir.path().join("a"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        assert_eq!(directory.number("a", &mut Vec::new()), None);
    }
}
