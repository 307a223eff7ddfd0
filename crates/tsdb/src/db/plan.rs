//! Which blocks are merged next, and which go: pure functions of what the
//! manifest says.

use std::time::Duration;

use lm_model::{AHEAD, TimeRange, Timestamp};

use super::manifest::BlockEntry;
use crate::buckets::{BUCKET, aligned, millis};

/// What is older than this when it is written is cut at whole days.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A bucket is closed this long after its end: by then what is in time came.
const GRACE: Duration = Duration::from_secs(20 * 60);
/// This many blocks of one level in one bucket are merged before it is closed.
const BLOCKS_OF_LEVEL_MAX: usize = 8;
/// A block is not merged with others that are together this much smaller:
/// late data would have all of a day written again, a little at a time.
const LARGEST_OF_ALL_MAX: u64 = 4;

/// Blocks that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MergePlan {
    /// Ids, oldest generation first.
    pub sources: Vec<u64>,
    pub level: u8,
}

/// When the samples of a block came, as far as retention is concerned.
fn came(block: &BlockEntry) -> Timestamp {
    block.last.min(block.came)
}

/// Blocks that retention takes: those older than `retention`, and the oldest
/// while all are together over `bytes_max`.
pub(super) fn expired(
    blocks: &[BlockEntry],
    now: Timestamp,
    retention: Duration,
    bytes_max: u64,
) -> Vec<u64> {
    let cutoff = now.saturating_sub(retention);
    let mut oldest_first: Vec<&BlockEntry> = blocks.iter().collect();
    oldest_first.sort_by_key(|block| (came(block), block.id));
    let mut bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
    let mut expired = Vec::new();
    for block in oldest_first {
        if came(block) < cutoff || bytes > bytes_max {
            bytes -= block.bytes;
            expired.push(block.id);
        }
    }
    expired
}

/// The ranges that samples in `buckets` (multiples of [`BUCKET`]) are written
/// in: each bucket is one, but what is older than a day goes in whole days,
/// and what is in the future all together.
pub(super) fn cut(buckets: impl Iterator<Item = i64>, now: Timestamp) -> Vec<TimeRange> {
    let ahead = now.saturating_add(AHEAD);
    let old = now.saturating_sub(DAY);
    let mut ranges: Vec<TimeRange> = Vec::new();
    for bucket in buckets {
        let range = aligned(bucket.saturating_mul(millis(BUCKET)), BUCKET);
        let range = if range.start > ahead {
            TimeRange { start: range.start, end: Timestamp::MAX }
        } else if range.end <= old {
            aligned(range.start.as_millis(), DAY)
        } else {
            range
        };
        // Ascending buckets give ascending ranges.
        if ranges.last().is_none_or(|last| last.end <= range.start) {
            ranges.push(range);
        }
    }
    ranges
}

/// What to merge next, if anything: small ranges before large ones.
pub(super) fn merge(blocks: &[BlockEntry], now: Timestamp, retention: Duration) -> Option<MergePlan> {
    let largest = DAY.min(Duration::from_millis(millis(retention) as u64 / 10));
    let widths = [Some(BUCKET), (largest >= DAY).then_some(DAY)];
    widths.into_iter().flatten().find_map(|width| merge_of(blocks, now, width))
}

fn merge_of(blocks: &[BlockEntry], now: Timestamp, width: Duration) -> Option<MergePlan> {
    let mut inside: Vec<(i64, &BlockEntry)> = blocks
        .iter()
        .filter(|block| block.start <= now.saturating_add(AHEAD))
        .filter_map(|block| {
            let bucket = block.start.as_millis().div_euclid(millis(width));
            (bucket == block.last.as_millis().div_euclid(millis(width))).then_some((bucket, block))
        })
        .collect();
    inside.sort_by_key(|(bucket, block)| (*bucket, block.first_generation, block.id));
    inside.chunk_by(|(a, _), (b, _)| a == b).find_map(|group| {
        let end = aligned(group[0].0.saturating_mul(millis(width)), width).end;
        let group: Vec<&BlockEntry> = group.iter().map(|(_, block)| *block).collect();
        let chosen = if end.saturating_add(GRACE) <= now {
            closed(&group)?
        } else if width == BUCKET {
            open(&group)?
        } else {
            return None;
        };
        let chosen = neighbours(blocks, chosen)?;
        let level = chosen.iter().map(|block| block.level).max()?.saturating_add(1);
        Some(MergePlan { sources: chosen.iter().map(|block| block.id).collect(), level })
    })
}

/// Nothing more will come: all become one, unless that would be mostly
/// copying the largest.
fn closed<'a>(group: &[&'a BlockEntry]) -> Option<Vec<&'a BlockEntry>> {
    let bytes: u64 = group.iter().map(|block| block.bytes).sum();
    let largest = group.iter().map(|block| block.bytes).max()?;
    let is_worth_it = largest / LARGEST_OF_ALL_MAX <= bytes - largest || group.len() >= BLOCKS_OF_LEVEL_MAX;
    (group.len() > 1 && is_worth_it).then(|| group.to_vec())
}

/// More will come: those of a level become one when they are many.
fn open<'a>(group: &[&'a BlockEntry]) -> Option<Vec<&'a BlockEntry>> {
    let lowest = group.iter().map(|block| block.level).max()?;
    (0..=lowest).find_map(|level| {
        let of_level: Vec<_> = group.iter().filter(|block| block.level == level).copied().collect();
        (of_level.len() >= BLOCKS_OF_LEVEL_MAX).then_some(of_level)
    })
}

/// Of blocks in order of their age, as many as may become one: no other block
/// that has samples at the same times may be younger than the oldest of them
/// and older than the youngest, or it would change who came first.
fn neighbours<'a>(all: &[BlockEntry], chosen: Vec<&'a BlockEntry>) -> Option<Vec<&'a BlockEntry>> {
    let start = chosen.iter().map(|block| block.start).min()?;
    let last = chosen.iter().map(|block| block.last).max()?;
    let is_chosen = |id| chosen.iter().any(|block| block.id == id);
    let others: Vec<&BlockEntry> = all
        .iter()
        .filter(|block| block.start <= last && start <= block.last && !is_chosen(block.id))
        .collect();
    let is_apart = |older: &BlockEntry, newer: &BlockEntry| {
        let between = older.first_generation..newer.last_generation;
        others.iter().any(|other| between.contains(&other.first_generation))
    };
    let mut runs = chosen.chunk_by(|older, newer| !is_apart(older, newer));
    runs.find(|run| run.len() > 1).map(<[_]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::bucket_of;

    const HOUR: i64 = 3_600_000;
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    /// A block over these hours; its generation is its id.
    fn block(id: u64, level: u8, from: f64, to: f64, bytes: u64) -> BlockEntry {
        let at = |hours: f64| Timestamp::from_millis((hours * HOUR as f64) as i64);
        BlockEntry {
            id,
            first_generation: id,
            last_generation: id,
            level,
            start: at(from),
            last: at(to),
            came: at(to),
            samples: 1,
            series: 1,
            bytes,
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * HOUR)
    }

    fn merged(blocks: &[BlockEntry], now: i64) -> Option<(Vec<u64>, u8)> {
        merge(blocks, at(now), Duration::from_secs(30 * 86_400)).map(|plan| (plan.sources, plan.level))
    }

    #[test]
    fn a_closed_bucket_becomes_one_block() {
        let blocks = [block(1, 0, 0.0, 0.9, 10), block(2, 0, 1.0, 1.9, 10), block(3, 0, 2.0, 2.5, 10)];
        assert_eq!(merged(&blocks, 2), None, "it is open for a little longer");
        assert_eq!(merged(&blocks, 3), Some((vec![1, 2], 1)));
        let blocks = [block(4, 1, 0.0, 1.9, 10), block(3, 0, 2.0, 2.5, 10)];
        assert_eq!(merged(&blocks, 5), None);
        assert_eq!(merged(&blocks, 25), Some((vec![3, 4], 2)), "a day is closed");
    }

    #[test]
    fn many_small_blocks_do_not_wait_for_the_bucket_to_close() {
        let mut blocks: Vec<_> = (0..7).map(|id| block(id, 0, 0.1, 0.2, 10)).collect();
        assert_eq!(merged(&blocks, 1), None);
        blocks.push(block(7, 0, 0.1, 0.2, 10));
        assert_eq!(merged(&blocks, 1), Some(((0..8).collect(), 1)));
    }

    #[test]
    fn a_little_late_data_does_not_rewrite_a_large_block() {
        let blocks = [block(1, 1, 0.0, 1.9, 1000), block(2, 0, 1.0, 1.0, 10)];
        assert_eq!(merged(&blocks, 100), None);
        let mut blocks = blocks.to_vec();
        blocks.extend((3..9).map(|id| block(id, 0, 1.0, 1.0, 10)));
        assert_eq!(merged(&blocks, 100), Some(((1..9).collect(), 2)));
    }

    #[test]
    fn who_came_first_stays_so() {
        // Block 2 lies over both and is between them in age.
        let blocks = [block(1, 0, 0.0, 1.0, 10), block(3, 0, 0.0, 1.0, 10), block(2, 1, 0.0, 30.0, 10)];
        assert_eq!(merged(&blocks, 10), None);
        let mut blocks = blocks.to_vec();
        blocks.push(block(4, 0, 0.5, 1.0, 10));
        assert_eq!(merged(&blocks, 10), Some((vec![3, 4], 1)));
    }

    #[test]
    fn retention_goes_by_time_and_by_bytes() {
        let blocks = [block(1, 0, 0.0, 1.0, 10), block(2, 0, 2.0, 3.0, 10), block(3, 0, 4.0, 5.0, 10)];
        assert_eq!(expired(&blocks, at(100), WEEK, 30), []);
        assert_eq!(expired(&blocks, at(7 * 24 + 2), WEEK, 30), [1]);
        assert_eq!(expired(&blocks, at(6), WEEK, 19), [1, 2]);
        // What is in the future is as old as its arrival.
        let ahead = BlockEntry { came: at(1), ..block(4, 0, 1000.0, 1001.0, 10) };
        assert_eq!(expired(&[ahead], at(7 * 24), WEEK, 30), []);
        assert_eq!(expired(&[ahead], at(7 * 24 + 2), WEEK, 30), [4]);
        assert_eq!(merged(&[ahead, BlockEntry { id: 5, ..ahead }], 10), None);
    }

    #[test]
    fn late_data_is_cut_by_days_and_the_future_is_kept_apart() {
        let buckets = [-30, 0, 1, 24, 25, 26, 40, 5000].map(|two_hours| two_hours * 2);
        let cut = cut(buckets.map(|hours| bucket_of(at(hours))).into_iter(), at(52));
        let hours: Vec<_> = cut
            .iter()
            .map(|range| {
                (
                    range.start.as_millis() / HOUR,
                    (range.end < Timestamp::MAX).then(|| range.end.as_millis() / HOUR),
                )
            })
            .collect();
        let expected =
            [(-72, Some(-48)), (0, Some(24)), (48, Some(50)), (50, Some(52)), (52, Some(54)), (80, None)];
        assert_eq!(hours, expected);
    }
}
