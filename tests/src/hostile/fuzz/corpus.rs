//! Inputs worth keeping, as files.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// Longest input.
pub const INPUT_BYTES_MAX: usize = 512;
/// Inputs that are kept at most; more would only be slow to replay.
const INPUTS_MAX: usize = 250;

/// Inputs, and the answers that made them worth keeping.
#[derive(Debug, Default)]
pub struct Corpus {
    dir: Option<PathBuf>,
    inputs: Vec<Vec<u8>>,
    seen: BTreeSet<String>,
    pub added: usize,
}

impl Corpus {
    /// The inputs of a directory, in the order of their names, or of one file.
    /// New ones go to the directory when `grows`.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(path: &Path, grows: bool) -> io::Result<Corpus> {
        if path.is_file() {
            return Ok(Corpus { inputs: vec![fs::read(path)?], ..Corpus::default() });
        }
        let files: io::Result<Vec<PathBuf>> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
        let mut files = files?;
        files.sort();
        let inputs: io::Result<Vec<_>> = files.into_iter().map(fs::read).collect();
        Ok(Corpus { dir: grows.then(|| path.to_owned()), inputs: inputs?, ..Corpus::default() })
    }

    pub fn inputs(&self) -> &[Vec<u8>] {
        &self.inputs
    }

    /// Kinds of answers that were seen.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.seen.iter().map(String::as_str)
    }

    /// Remembers the answers to an input, and keeps the input when one of
    /// them is new.
    ///
    /// # Errors
    ///
    /// When its file cannot be written.
    pub fn learn(&mut self, input: &[u8], answers: BTreeSet<String>) -> io::Result<()> {
        let known = self.seen.len();
        self.seen.extend(answers);
        if self.seen.len() == known
            || self.inputs.len() >= INPUTS_MAX
            || self.inputs.iter().any(|kept| kept == input)
        {
            return Ok(());
        }
        self.added += 1;
        if let Some(dir) = &self.dir {
            fs::write(dir.join(format!("{:08x}", crc32c::crc32c(input))), input)?;
        }
        self.inputs.push(input.to_vec());
        Ok(())
    }

    /// A new input: something known with changes, or something of its own.
    pub fn invent(&self, random: &mut Random) -> Vec<u8> {
        let mut input = match self.any(random) {
            Some(known) if random.percent(85) => known.to_vec(),
            _ => (0..random.between(4, 200)).map(|_| random.number() as u8).collect(),
        };
        for _ in 0..random.between(1, 5) {
            self.change(&mut input, random);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn any(&self, random: &mut Random) -> Option<&[u8]> {
        let at = random.between(0, self.inputs.len() as u64) as usize;
        self.inputs.get(at).map(|input| &input[..])
    }

    fn change(&self, input: &mut Vec<u8>, random: &mut Random) {
        let length = input.len() as u64;
        let at = random.between(0, length.max(1)) as usize;
        let count = random.between(1, 12) as usize;
        match random.between(0, 6) {
            _ if input.is_empty() => input.push(random.number() as u8),
            0 => input[at] = random.number() as u8,
            1 => input[at] = input[at].wrapping_add(1),
            2 => {
                let new: Vec<u8> = (0..count).map(|_| random.number() as u8).collect();
                input.splice(at..at, new);
            }
            3 => {
                input.drain(at..input.len().min(at + count));
            }
            4 => {
                let chunk = input[at..input.len().min(at + 4 * count)].to_vec();
                for _ in 0..random.between(1, 8) {
                    input.splice(at..at, chunk.iter().copied());
                }
            }
            _ => {
                let other = self.any(random).unwrap_or_default();
                let from = random.between(0, other.len().max(1) as u64) as usize;
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
        }
    }
}
