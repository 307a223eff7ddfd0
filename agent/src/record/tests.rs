use lm_model::{BatchId, Incarnation, Stream};
use lm_schema::batch::{Body, Encoder, LogColumns};

use super::*;

fn cursor(path: &str, offset: u64) -> FileCursor {
    let bytes = offset.min(FINGERPRINT_BYTES_MAX as u64) as u16;
    FileCursor {
        key: FileKey { device: 1, inode: offset },
        fingerprint: Fingerprint { crc32c: 7, bytes },
        offset,
        path: path.into(),
    }
}

fn lines() -> (BatchHeader, Vec<u8>) {
    let mut columns = LogColumns::default();
    columns.push(0, 1_000_000, b"one");
    let labels = Labels::from_pairs([("filename", "/a")]);
    let body = Encoder::new().unwrap().encode(&[labels], &Body::Logs(columns)).unwrap();
    let incarnation = Incarnation { ordinal: 5, nonce: 6 };
    let id = BatchId { stream: Stream::Logs, incarnation, sequence: 3 };
    (BatchHeader::new(id, 10, 1, 0, &body), body.bytes)
}

#[test]
fn a_record_holds_batch_and_positions() {
    let (header, body) = lines();
    let cursors = vec![cursor("/a", 4), cursor("/b\u{e4}", 5000)];
    let bytes = record_bytes(&header, &body, &cursors);
    assert_eq!(Record::from_bytes(&bytes).unwrap(), Record { header, body, cursors });
}

#[test]
fn a_snapshot_holds_dictionary_and_positions() {
    let entries = vec![Labels::from_pairs([("__name__", "up")]), Labels::from_pairs([("filename", "/a")])];
    let cursors = vec![cursor("/a", 0)];
    let bytes = snapshot_bytes(3, &entries, &cursors);
    assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), Snapshot { epoch: 3, entries, cursors });
}

#[test]
fn damaged_bytes_are_an_error() {
    let (header, body) = lines();
    let bytes = record_bytes(&header, &body, &[cursor("/a", 4)]);
    for cut in 0..bytes.len() {
        assert!(Record::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let _ = Record::from_bytes(&damaged);
        let _ = Snapshot::from_bytes(&damaged);
    }
}

#[test]
fn a_position_that_cannot_be_is_refused() {
    let (header, body) = lines();
    let mut wrong = cursor("/a", 4);
    wrong.fingerprint.bytes = 9;
    let error = Record::from_bytes(&record_bytes(&header, &body, &[wrong])).unwrap_err();
    assert_eq!(error.to_string(), "invalid batch: a fingerprint of 9 bytes does not fit offset 4");
}
