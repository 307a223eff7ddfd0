//! `[mesh]`: how much a peer may hold.

use lm_mesh::{MeshLimits, StreamLimits};
use lm_settings::{Section, units};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What a message has beside the body of its batch.
pub(super) const AROUND_A_BATCH: u64 = 64 * KIB;

/// Reads `[mesh]` and the table of each kind of stream below it. Floors are
/// what our own agent and gateway need.
pub(super) fn take(limits: &mut MeshLimits, mut from: Section<'_, '_>) {
    bytes(&mut from, "ingest_memory_bytes", &mut limits.ingest_bytes_max, 16 * MIB, 1 << 40);
    stream(&mut limits.control, from.section("control"), 64 * KIB);
    stream(&mut limits.bulk, from.section("bulk"), MIB);
    stream(&mut limits.query, from.section("query"), 64 * KIB);
    if limits.bulk.message_bytes_max > limits.ingest_bytes_max / 4 {
        from.complain_at(
            "ingest_memory_bytes",
            "ingest_memory_bytes must be at least four times mesh.bulk.message_bytes_max",
        );
    }
    from.finish();
}

fn stream(limits: &mut StreamLimits, mut from: Section<'_, '_>, message_floor: u64) {
    bytes(&mut from, "message_bytes_max", &mut limits.message_bytes_max, message_floor, 64 * MIB);
    count(&mut from, "calls_max", &mut limits.calls_max, 8, 65_536);
    count(&mut from, "unfinished_calls_max", &mut limits.questions_max, 64, 1 << 20);
    count(&mut from, "cancelled_calls_max", &mut limits.cancelled_max, 64, 1 << 20);
    count(&mut from, "references_max", &mut limits.exports_max, 16, 1 << 20);
    bytes(&mut from, "unread_bytes_max", &mut limits.unsent_bytes_max, MIB, 1 << 30);
    // What pauses reading stays below what ends the session.
    limits.unsent_pause_bytes = limits.unsent_pause_bytes.min(limits.unsent_bytes_max / 2);
    limits.held_bytes_max = limits.held_bytes_max.max(limits.message_bytes_max);
    from.finish();
}

fn bytes(from: &mut Section<'_, '_>, key: &'static str, into: &mut usize, floor: u64, ceiling: u64) {
    let mut bytes = *into as u64;
    from.read(key, &mut bytes, |value| units::size(value, floor..=ceiling));
    *into = bytes as usize;
}

fn count(from: &mut Section<'_, '_>, key: &'static str, into: &mut usize, floor: u32, ceiling: u32) {
    let mut count = *into as u32;
    from.read(key, &mut count, |value| units::integer(value, floor..=ceiling));
    *into = count as usize;
}
