//! [`PageCache`]: one bounded cache for the pages of all blocks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::labels::ValuesPage;
use super::series::SeriesPage;
use crate::codec::group::Group;

/// A page after its checksum was verified, in the form that readers use.
#[derive(Clone, Debug)]
pub(super) enum Page {
    /// Decompressed bytes: values, histograms, timestamps, postings.
    Bytes(Arc<Vec<u8>>),
    Group(Arc<Group>),
    Series(Arc<SeriesPage>),
    Values(Arc<ValuesPage>),
    /// A timestamp column, which has no page of its own.
    Column(Arc<Vec<i64>>),
}

impl Page {
    fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Page::Bytes(bytes) => bytes.len(),
                Page::Group(group) => group.bytes(),
                Page::Series(page) => page.bytes(),
                Page::Values(page) => page.bytes(),
                Page::Column(times) => 8 * times.len(),
            }
    }
}

/// What is asked for: a page or a column of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Page(u32),
    Column(u32),
}

/// Estimated memory of an entry besides the page.
const ENTRY_BYTES: usize = 128;

/// Blocks and pages are spread over so many locks.
const SHARDS: usize = 16;

/// Decoded pages of all blocks, under one bound in bytes. Shared behind an `Arc`; a page that is in use stays
/// alive after it was dropped here.
#[derive(Debug)]
pub struct PageCache {
    shards: Box<[Mutex<Shard>]>,
    shard_bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The entries of a shard in a ring: the hand drops the first that was not asked for since it last passed.
#[derive(Debug, Default)]
struct Shard {
    places: HashMap<(u64, Key), usize>,
    ring: Vec<Entry>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: (u64, Key),
    page: Page,
    was_asked_for: bool,
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
        PageCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_bytes_max: bytes_max / SHARDS,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Forgets the pages of a block: call it when its file is deleted.
    pub fn forget(&self, block: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let mut at = 0;
            while let Some(entry) = shard.ring.get(at) {
                if entry.key.0 == block { shard.remove(at) } else { at += 1 }
            }
        }
    }

    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.shards.iter().map(|shard| lock(shard).bytes).sum(),
            bytes_max: self.shard_bytes_max * SHARDS,
        }
    }

    pub(super) fn find(&self, block: u64, key: Key) -> Option<Page> {
        let mut shard = lock(self.shard(block, key));
        let found = shard.places.get(&(block, key)).copied().map(|at| {
            let entry = &mut shard.ring[at];
            entry.was_asked_for = true;
            entry.page.clone()
        });
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps a page, unless it alone is larger than a shard.
    pub(super) fn keep(&self, block: u64, key: Key, page: Page) {
        let bytes = page.bytes();
        if bytes > self.shard_bytes_max {
            return;
        }
        let mut shard = lock(self.shard(block, key));
        if shard.places.contains_key(&(block, key)) {
            return;
        }
        while shard.bytes + bytes > self.shard_bytes_max {
            shard.drop_one();
        }
        let at = shard.ring.len();
        shard.places.insert((block, key), at);
        shard.ring.push(Entry { key: (block, key), page, was_asked_for: false });
        shard.bytes += bytes;
    }

    fn shard(&self, block: u64, key: Key) -> &Mutex<Shard> {
        let number = match key {
            Key::Page(page) => u64::from(page) * 2,
            Key::Column(column) => u64::from(column) * 2 + 1,
        };
        let mixed = (block ^ number.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(mixed >> 60) as usize % SHARDS]
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().expect("no code panics while it holds a shard")
}

impl Shard {
    /// Ends, because a second round finds the marks of the first removed. The ring is not empty.
    fn drop_one(&mut self) {
        loop {
            if self.hand >= self.ring.len() {
                self.hand = 0;
            }
            let entry = &mut self.ring[self.hand];
            if !entry.was_asked_for {
                return self.remove(self.hand);
            }
            entry.was_asked_for = false;
            self.hand += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        let entry = self.ring.swap_remove(at);
        self.bytes -= entry.page.bytes();
        self.places.remove(&entry.key);
        if let Some(moved) = self.ring.get(at) {
            self.places.insert(moved.key, at);
        }
    }
}
