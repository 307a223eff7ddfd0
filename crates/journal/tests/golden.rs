//! The bytes of a queue segment do not change by accident.
//!
//! `testdata/segment-v1.hex` was written by this code at version 1. If this test fails after a deliberate change,
//! raise `FORMAT_VERSION` and add a new file; `UPDATE_GOLDEN=1 cargo test -p lm-journal --test golden` writes it.

use std::path::{Path, PathBuf};

use lm_fs::fault::FaultFs;
use lm_journal::{Incarnation, Pending, Queue, QueueOptions};

const DIR: &str = "/queue";

fn options() -> QueueOptions {
    QueueOptions { preallocate: false, ..QueueOptions::default() }
}

fn segment() -> PathBuf {
    Path::new(DIR).join("00000000000000000001.seg")
}

/// A small life: two streams, a cluster, an acknowledgement, an orderly end.
fn written() -> Vec<u8> {
    let fs = FaultFs::new(0);
    let candidate = Incarnation { ordinal: 1_700_000_000_000, nonce: 0x0123_4567_89ab_cdef };
    let (mut queue, _) = Queue::open(fs.clone(), Path::new(DIR), options(), candidate).expect("open");
    let mut snapshot = || b"dictionary".to_vec();
    queue.append(0, 3, b"first batch", &mut snapshot).expect("append");
    queue.append(2, 1, b"an event", &mut snapshot).expect("append");
    queue.sync(&mut snapshot).expect("sync");
    queue.acknowledge(0, candidate, 1, 0).expect("acknowledge");
    queue.append(0, 4, b"second batch", &mut snapshot).expect("append");
    queue.pin_cluster(b"cluster", &mut snapshot).expect("pin");
    queue.close(&mut snapshot).expect("close");
    fs.contents(&segment()).expect("segment 1 exists")
}

fn hex(bytes: &[u8]) -> String {
    let line =
        |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(16).map(line).collect()
}

fn golden_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/segment-v1.hex")
}

fn golden() -> Vec<u8> {
    let text = std::fs::read_to_string(golden_path()).expect("the golden file is committed");
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

#[test]
fn segments_are_written_as_ever() {
    let bytes = written();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden_path(), hex(&bytes)).expect("write the golden file");
    }
    assert_eq!(hex(&bytes), hex(&golden()));
}

#[test]
fn old_segments_stay_readable() {
    let fs = FaultFs::new(0);
    fs.put(&segment(), &golden());
    let candidate = Incarnation { ordinal: 5, nonce: 6 };
    let (mut queue, report) = Queue::open(fs, Path::new(DIR), options(), candidate).expect("open");
    assert_eq!(report.recovered.quarantined, []);
    assert_eq!(report.incarnation.ordinal, 1_700_000_000_001);
    assert_eq!(queue.cluster(), Some(&b"cluster"[..]));
    let mut payloads = Vec::new();
    for stream in 0..3 {
        while let Some(Pending::Payload { payload, .. }) = queue.next_unsent(stream).expect("read") {
            payloads.push(String::from_utf8(payload).expect("text"));
        }
    }
    assert_eq!(payloads, ["second batch", "an event"], "the first batch was acknowledged");
}
