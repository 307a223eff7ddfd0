//! The manifest: which blocks there are, and what of the spool they cover.
//!
//! ```text
//! manifest-<number, 16 hex digits>                  all integers little endian
//! ┌──────────┬─────────┬────────┬─────────────────┬───────┬───────┬────────┬────────────┬────────┐
//! │ LMTSDBM1 │ version │ number │ covered         │ next  │ lost  │ blocks │ tombstones │ crc32c │
//! │ 8 bytes  │ u32     │ u64    │ segment, offset │ 2 u64 │ 2 u64 │        │            │ of all │
//! └──────────┴─────────┴────────┴─────────────────┴───────┴───────┴────────┴────────────┴────────┘
//! blocks     = u32 count, each: id u64, generations 2 u64, level u8, start i64, last i64, came i64,
//!              samples u64, series u64, bytes u64
//! tombstones = u32 count, each: before u64, generation u64, start i64, end i64, u32 count of matchers,
//!              each: operator u8 (0 =, 1 !=, 2 =~, 3 !~), name, value   (u32 length and UTF-8)
//! next       = block, generation
//! lost       = samples, blocks
//! ```
//!
//! A manifest is written whole, under a temporary name, synced and renamed; the
//! one before it is kept until the next. `docs/formats/manifest.md` says how a
//! start reads them.

use std::io;
use std::path::Path;

use lm_fs::{File, Fs, read_full, write_all};
use lm_model::{MatchOp, Matcher, TimeRange, Timestamp};

const MAGIC: &[u8; 8] = b"LMTSDBM1";
const VERSION: u32 = 1;
/// A larger one is damaged: it would name a million blocks.
const BYTES_MAX: u64 = 64 << 20;
const PREFIX: &str = "manifest-";
/// A manifest that is being written. Removed at start.
pub(super) const TEMPORARY: &str = "manifest.tmp";

/// A place in the log that feeds the store: everything before it is in
/// blocks. The store does not look at what is in there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    pub segment: u64,
    pub offset: u64,
}

/// What is known of a block without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Names its file. Given once.
    pub id: u64,
    /// Rotations of memory that went into it, first and last. Of two blocks
    /// that have a sample at one time, the one with the smaller first one wins.
    pub first_generation: u64,
    pub last_generation: u64,
    /// 0: written from memory; 1 and more: merged that often at most.
    pub level: u8,
    /// Of the first and the last sample.
    pub start: Timestamp,
    pub last: Timestamp,
    /// When it was written from memory: what is in the future is as old as
    /// that.
    pub came: Timestamp,
    pub samples: u64,
    pub series: u64,
    pub bytes: u64,
}

/// Samples that were deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// Only what is in blocks of smaller ids is meant: they were there, and
    /// have not been written again without it.
    pub before: u64,
    /// Of blocks of these and earlier generations: what came later stays.
    pub generation_through: u64,
    pub range: TimeRange,
    pub matchers: Vec<Matcher>,
}

impl Tombstone {
    /// Whether samples of the block may be deleted.
    pub fn is_about(&self, block: &BlockEntry) -> bool {
        block.id < self.before
            && block.last_generation <= self.generation_through
            && block.start < self.range.end
            && self.range.start <= block.last
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    pub number: u64,
    pub covered: LogPosition,
    /// The id that the next block gets.
    pub next_block: u64,
    /// The generation that memory becomes next.
    pub next_generation: u64,
    /// Samples of blocks that were found damaged, since ever.
    pub lost_samples: u64,
    pub lost_blocks: u64,
    pub blocks: Vec<BlockEntry>,
    pub tombstones: Vec<Tombstone>,
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.blocks.len() * 80);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let numbers = [
            self.number,
            self.covered.segment,
            self.covered.offset,
            self.next_block,
            self.next_generation,
            self.lost_samples,
            self.lost_blocks,
        ];
        numbers.iter().for_each(|number| put_u64(&mut out, *number));
        put_u32(&mut out, self.blocks.len());
        for block in &self.blocks {
            put_u64(&mut out, block.id);
            put_u64(&mut out, block.first_generation);
            put_u64(&mut out, block.last_generation);
            out.push(block.level);
            [block.start, block.last, block.came].iter().for_each(|time| put_time(&mut out, *time));
            [block.samples, block.series, block.bytes].iter().for_each(|number| put_u64(&mut out, *number));
        }
        put_u32(&mut out, self.tombstones.len());
        for tombstone in &self.tombstones {
            put_u64(&mut out, tombstone.before);
            put_u64(&mut out, tombstone.generation_through);
            put_time(&mut out, tombstone.range.start);
            put_time(&mut out, tombstone.range.end);
            put_u32(&mut out, tombstone.matchers.len());
            for matcher in &tombstone.matchers {
                out.push(match matcher.op {
                    MatchOp::Eq => 0,
                    MatchOp::Ne => 1,
                    MatchOp::Re => 2,
                    MatchOp::Nre => 3,
                });
                for text in [&matcher.name, &matcher.value] {
                    put_u32(&mut out, text.len());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// `Err` says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, &'static str> {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Err("too short") };
        if body.get(..8) != Some(MAGIC) {
            return Err("not a manifest");
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err("checksum mismatch");
        }
        let mut input = Input(&body[8..]);
        if input.u32()? != VERSION {
            return Err("written by another version");
        }
        let mut manifest = Manifest {
            number: input.u64()?,
            covered: LogPosition { segment: input.u64()?, offset: input.u64()? },
            next_block: input.u64()?,
            next_generation: input.u64()?,
            lost_samples: input.u64()?,
            lost_blocks: input.u64()?,
            ..Manifest::default()
        };
        for _ in 0..input.u32()? {
            manifest.blocks.push(BlockEntry {
                id: input.u64()?,
                first_generation: input.u64()?,
                last_generation: input.u64()?,
                level: input.u8()?,
                start: input.time()?,
                last: input.time()?,
                came: input.time()?,
                samples: input.u64()?,
                series: input.u64()?,
                bytes: input.u64()?,
            });
        }
        for _ in 0..input.u32()? {
            let (before, generation_through) = (input.u64()?, input.u64()?);
            let range = TimeRange { start: input.time()?, end: input.time()? };
            let mut matchers = Vec::new();
            for _ in 0..input.u32()? {
                let op = match input.u8()? {
                    0 => MatchOp::Eq,
                    1 => MatchOp::Ne,
                    2 => MatchOp::Re,
                    3 => MatchOp::Nre,
                    _ => return Err("unknown operator"),
                };
                matchers.push(Matcher::new(input.text()?, op, input.text()?));
            }
            manifest.tombstones.push(Tombstone { before, generation_through, range, matchers });
        }
        if !input.0.is_empty() {
            return Err("bytes behind the end");
        }
        Ok(manifest)
    }
}

/// Numbers of the manifests in a directory, newest first.
pub(super) fn numbers(names: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16))
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

pub(super) fn name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// Reads one manifest; the inner `Err` says what is wrong with it.
pub(super) fn read<F: Fs>(fs: &F, dir: &Path, number: u64) -> io::Result<Result<Manifest, &'static str>> {
    let file = fs.open(&dir.join(name(number)))?;
    let len = file.len()?;
    if len > BYTES_MAX {
        return Ok(Err("too large"));
    }
    let mut bytes = vec![0; len as usize];
    let read = match read_full(&file, &mut bytes, 0) {
        Ok(read) => read,
        Err(_) => return Ok(Err("cannot be read")),
    };
    Ok(Manifest::decode(&bytes[..read]).and_then(|manifest| {
        if manifest.number == number { Ok(manifest) } else { Err("it has another number than its name") }
    }))
}

/// Makes a manifest durable: from here on a start reads it.
pub(super) fn write<F: Fs>(fs: &F, dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY);
    match fs.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs.create_new(&temporary)?;
    write_all(&file, &manifest.encode(), 0)?;
    file.sync_data()?;
    fs.rename(&temporary, &dir.join(name(manifest.number)))?;
    fs.sync_dir(dir)
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.as_millis().to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("a manifest lists far fewer than 2^32 things");
    out.extend_from_slice(&number.to_le_bytes());
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, &'static str> {
        self.array().map(|bytes| Timestamp::from_millis(i64::from_le_bytes(bytes)))
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        let len = self.u32()? as usize;
        std::str::from_utf8(self.take(len)?).map_err(|_| "text that is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let at = Timestamp::from_millis;
        let block = BlockEntry {
            id: 7,
            first_generation: 3,
            last_generation: 4,
            level: 1,
            start: at(-5),
            last: at(10),
            came: at(20),
            samples: 100,
            series: 5,
            bytes: 1234,
        };
        Manifest {
            number: 9,
            covered: LogPosition { segment: 4, offset: 4096 },
            next_block: 8,
            next_generation: 5,
            lost_samples: 11,
            lost_blocks: 1,
            blocks: vec![block, BlockEntry { id: 5, ..block }],
            tombstones: vec![Tombstone {
                before: 7,
                generation_through: 6,
                range: TimeRange { start: at(0), end: at(9) },
                matchers: vec![Matcher::new("job", MatchOp::Nre, "é.*")],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = example().encode();
        assert_eq!(Manifest::decode(&bytes), Ok(example()));
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/manifest-v1.bin");
        if std::env::var_os("LM_BLESS").is_some() {
            std::fs::write(&golden, &bytes).unwrap();
        }
        assert_eq!(bytes, std::fs::read(golden).unwrap(), "another format needs a new version");
    }

    #[test]
    fn any_damage_is_noticed() {
        let bytes = example().encode();
        for at in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Manifest::decode(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
