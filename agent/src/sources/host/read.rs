//! Reading kernel files and the few shapes their lines have.
//!
//! These parsers are ours because the `procfs` crate builds a map or a list of
//! owned strings for each file, each cycle; here a cycle reads into one kept
//! buffer and allocates only for series that are new.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::Error;

/// Kernel files larger than this are refused. The largest is
/// `/proc/interrupts`, 11 bytes for each CPU and interrupt.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

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
    ///
    /// # Errors
    ///
    /// Also when the file is empty: no kernel file is that is read this way.
    pub fn read(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        read_file(&self.path, buffer)?;
        match buffer.is_empty() {
            true => Err(self.malformed(Malformed { line: 0, reason: "is empty" })),
            false => Ok(()),
        }
    }

    /// As [`read`](Self::read); false when there is no such file.
    pub fn read_if_there(&self, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        match self.read(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absence() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the file and goes through its lines.
    pub fn read_lines<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
    ) -> Result<impl Iterator<Item = (usize, &'b [u8])> + use<'b>, Error> {
        self.read(buffer)?;
        lines(buffer).map_err(|malformed| self.malformed(malformed))
    }

    /// Reads a file that holds one count.
    pub fn read_number(&self, buffer: &mut Vec<u8>) -> Result<u64, Error> {
        self.read(buffer)?;
        number(buffer.trim_ascii()).ok_or_else(|| self.wrong(1, "is not a count"))
    }

    /// The error of a line; 0 is the file as a whole.
    pub fn wrong(&self, line: usize, reason: &'static str) -> Error {
        self.malformed(Malformed { line, reason })
    }

    pub fn malformed(&self, Malformed { line, reason }: Malformed) -> Error {
        Error::Malformed { path: self.path.clone(), line, reason }
    }
}

/// Reads a whole file, which may be empty, into `buffer`.
pub fn read_file(path: &Path, buffer: &mut Vec<u8>) -> Result<(), Error> {
    buffer.clear();
    let size = read_to_end(path, buffer).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if size > FILE_BYTES_MAX {
        return Err(Error::Malformed { path: path.to_owned(), line: 0, reason: "is larger than 16 MiB" });
    }
    Ok(())
}

fn read_to_end(path: &Path, buffer: &mut Vec<u8>) -> io::Result<u64> {
    // NONBLOCK: whatever a wrongly set root holds, opening must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    Ok(file.take(FILE_BYTES_MAX + 1).read_to_end(buffer)? as u64)
}

/// The lines of a file and their numbers, counted from one.
///
/// The kernel ends every line; a file that ends within one was cut, and a cut
/// number is a wrong number.
pub fn lines<'b>(bytes: &'b [u8]) -> Result<impl Iterator<Item = (usize, &'b [u8])> + use<'b>, Malformed> {
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

/// A hexadecimal number without a prefix.
pub fn hexadecimal(word: &[u8]) -> Option<u64> {
    let is_plain = !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(word).ok().filter(|_| is_plain)?;
    u64::from_str_radix(text, 16).ok()
}

/// A whole number that may be negative.
pub fn signed(word: &[u8]) -> Option<f64> {
    match word.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|value| -(value as f64)),
        None => number(word).map(|value| value as f64),
    }
}
