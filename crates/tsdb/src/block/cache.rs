//! [`PageCache`]: one bounded cache for the pages of all blocks.

/// Decoded pages of all blocks, under one bound in bytes. Shared behind an `Arc`; a page that is in use stays
/// alive after it was dropped here.
#[derive(Debug)]
pub struct PageCache {
    bytes_max: usize,
}

/// How the cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub bytes: usize,
    pub bytes_max: usize,
}

impl PageCache {
    /// A cache of at most `bytes_max` bytes; 0 keeps nothing.
    pub fn new(bytes_max: usize) -> Self {
        PageCache { bytes_max }
    }

    /// Forgets the pages of a block: call it when its file is deleted.
    pub fn forget(&self, _block: u64) {}

    pub fn stats(&self) -> CacheStats {
        CacheStats { bytes_max: self.bytes_max, ..CacheStats::default() }
    }
}
