//! Looking at a store that nobody has open, without changing it.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lm_fs::Fs;

use super::{BlockEntry, DbError, LogPosition, block_name, is_damage, lock_dir, manifest};
use crate::block::{self, Block, PageCache};

/// Pages that a block's verification looks at again.
const CACHE_BYTES: usize = 8 << 20;

/// What [`verify`] says while it works.
#[derive(Debug)]
pub enum Step<'a> {
    /// A manifest cannot be read.
    Manifest { path: PathBuf, reason: &'static str },
    /// The manifest that counts: how many blocks will be read, and their bytes.
    Begin { blocks: usize, bytes: u64, covered: LogPosition },
    /// This block is read next.
    Block { entry: &'a BlockEntry, path: &'a Path },
    /// A part of a block, or all of it, cannot be read.
    Damage(&'a block::Error),
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub blocks: usize,
    pub samples: u64,
    pub bytes: u64,
    /// Damaged parts of blocks, and damaged manifests.
    pub damaged: usize,
    /// The caller ended it.
    pub is_cancelled: bool,
}

/// Reads and checks every byte of the store in `dir`. Changes nothing but the
/// lock file.
///
/// # Errors
///
/// When the directory is in use or cannot be read.
pub fn verify<F: Fs>(
    fs: &F,
    dir: &Path,
    mut tell: impl FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<Verified, DbError> {
    let names = fs.list(dir).map_err(DbError::io("list", dir))?;
    let _lock = lock_dir(fs, dir)?;
    let mut verified = Verified::default();
    let mut found = None;
    for number in manifest::numbers(&names) {
        let path = dir.join(manifest::name(number));
        match manifest::read(fs, dir, number).map_err(DbError::io("open", &path))? {
            Ok(manifest) => {
                found = Some(manifest);
                break;
            }
            Err(reason) => {
                verified.damaged += 1;
                if tell(Step::Manifest { path, reason }).is_break() {
                    return Ok(Verified { is_cancelled: true, ..verified });
                }
            }
        }
    }
    let Some(manifest) = found else {
        let none = io::Error::new(
            io::ErrorKind::NotFound,
            "no manifest that can be read: is this storage.dir/metrics?",
        );
        return Err(DbError::io("open", dir)(none));
    };
    let begin = Step::Begin {
        blocks: manifest.blocks.len(),
        bytes: manifest.blocks.iter().map(|block| block.bytes).sum(),
        covered: manifest.covered,
    };
    let mut flow = tell(begin);
    for entry in &manifest.blocks {
        let path = dir.join(block_name(entry.id));
        if flow.is_break() || tell(Step::Block { entry, path: &path }).is_break() {
            return Ok(Verified { is_cancelled: true, ..verified });
        }
        let mut damaged = |error: &block::Error| {
            verified.damaged += 1;
            if tell(Step::Damage(error)).is_break() {
                flow = ControlFlow::Break(());
            }
        };
        let outcome = Block::open(fs, &path, Arc::new(PageCache::new(CACHE_BYTES)))
            .and_then(|block| block.verify(&mut damaged));
        match outcome {
            Ok(()) => {}
            Err(error) if is_damage(&error) || is_missing(&error) => damaged(&error),
            Err(error) => return Err(error.into()),
        }
        verified.blocks += 1;
        verified.samples += entry.samples;
        verified.bytes += entry.bytes;
    }
    Ok(verified)
}

fn is_missing(error: &block::Error) -> bool {
    matches!(error, block::Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
