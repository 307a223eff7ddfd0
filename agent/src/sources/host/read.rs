//! Reading kernel files and the few shapes their lines have.
//!
//! These parsers are ours because the `procfs` crate builds a map or a list of
//! owned strings for each file, each cycle; here a cycle reads into one kept
//! buffer and allocates only for series that are new.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::Error;

/// Kernel files larger than this are refused. `/proc/stat` of 1,024 CPUs with
/// all their interrupts is about 200 KiB.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is wrong with the contents of a kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Counts from one; 0 is the file as a whole.
    pub line: usize,
    pub reason: &'static str,
}

/// A kernel file by its path.
#[derive(Debug)]
pub struct KernelFile {
    path: PathBuf,
}

impl KernelFile {
    pub fn new(root: &Path, relative: &str) -> Self {
        KernelFile { path: root.join(relative) }
    }

    /// Reads the whole file into `buffer`, replacing what was there.
    pub fn read(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        buffer.clear();
        let size = self.read_to_end(buffer).map_err(|source| self.unreadable(source))?;
        if size > FILE_BYTES_MAX {
            return Err(self.malformed(Malformed { line: 0, reason: "is larger than 4 MiB" }));
        }
        if size == 0 {
            return Err(self.malformed(Malformed { line: 0, reason: "is empty" }));
        }
        Ok(())
    }

    pub fn unreadable(&self, source: io::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }

    pub fn malformed(&self, Malformed { line, reason }: Malformed) -> Error {
        Error::Malformed { path: self.path.clone(), line, reason }
    }

    fn read_to_end(&self, buffer: &mut Vec<u8>) -> io::Result<u64> {
        // NONBLOCK: whatever a wrongly set root holds, opening must not hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = std::fs::File::from(rustix::fs::open(&self.path, flags, Mode::empty())?);
        Ok(file.take(FILE_BYTES_MAX + 1).read_to_end(buffer)? as u64)
    }
}

/// The lines of a file and their numbers, counted from one.
///
/// The kernel ends every line; a file that ends within one was cut, and a cut
/// number is a wrong number.
pub fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &[u8])>, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed { line: 0, reason: "was not read" });
    }
    let Some(bytes) = bytes.strip_suffix(b"\n") else {
        return Err(Malformed { line: 0, reason: "ends within a line" });
    };
    Ok(bytes.split(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line)))
}

/// The words of a line, between spaces and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty())
}

/// Fills `numbers` from the front and returns how many words there were to
/// fill it with; words beyond its end (fields of newer kernels) are ignored.
pub fn numbers<'a>(words: impl Iterator<Item = &'a [u8]>, numbers: &mut [u64]) -> Option<usize> {
    let mut count = 0;
    for (slot, word) in numbers.iter_mut().zip(words) {
        *slot = number(word)?;
        count += 1;
    }
    Some(count)
}

pub fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// A finite decimal number.
pub fn decimal(word: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}
