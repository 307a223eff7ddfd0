//! Batches: golden bytes of each kind, round trips, and what a hostile peer
//! may send.

use std::path::PathBuf;
use std::sync::Arc;

use lm_model::{
    BatchId, CUSTOM_BUCKETS_SCHEMA, Histogram, Incarnation, Labels, LossReason, ResetHint, Span, Stream,
    Timestamp,
};
use lm_schema::batch::{
    BatchHeader, Body, Codec, EncodedBody, Encoder, Event, EventKind, HistogramColumns, LogColumns,
    SampleColumns, decode_body,
};
use lm_schema::{DecodeLimits, Error, batch_capnp};
use proptest::prelude::*;

fn entries() -> Vec<Labels> {
    vec![
        Labels::from_pairs([("__name__", "node_load1"), ("job", "node")]),
        Labels::from_pairs([("__name__", "node_cpu_seconds_total"), ("cpu", "0"), ("mode", "idle")]),
    ]
}

fn samples() -> Body {
    Body::Samples(SampleColumns {
        times: vec![Timestamp::from_millis(1_700_000_000_000), Timestamp::from_millis(1_700_000_015_000)],
        lengths: vec![2, 1],
        references: vec![0, 1, 1],
        values: vec![0.5, 1234.25, f64::from_bits(lm_model::STALE_NAN_BITS)],
    })
}

fn histograms() -> Body {
    let exponential = Histogram {
        schema: 3,
        reset_hint: ResetHint::NotReset,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 12.0,
        sum: 1.5,
        positive_spans: vec![Span { offset: -4, length: 2 }, Span { offset: 3, length: 1 }],
        positive_counts: vec![1.0, 2.0, 3.0],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        negative_counts: vec![4.0],
        custom_bounds: Vec::new(),
    };
    let custom = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_counts: vec![1.0, 2.0],
        custom_bounds: vec![0.5],
        ..Histogram::default()
    };
    Body::Histograms(HistogramColumns {
        times: vec![Timestamp::from_millis(1_700_000_000_000), Timestamp::from_millis(1_700_000_015_000)],
        lengths: vec![2, 1],
        references: vec![0, 1, 1],
        values: [exponential, custom, Histogram::default()].map(Arc::new).to_vec(),
    })
}

fn logs() -> Body {
    let mut columns = LogColumns::default();
    columns.push(0, 1_700_000_000_000_000_001, b"first line");
    columns.push(1, 1_700_000_000_000_000_002, b"not \xff utf-8");
    columns.push(0, 1_700_000_000_000_000_003, b"");
    Body::Logs(columns)
}

fn events() -> Body {
    let time = Timestamp::from_millis(1_700_000_000_000);
    Body::Events(vec![
        Event { time, kind: EventKind::Notice { code: "started".to_owned(), message: "hello".to_owned() } },
        Event {
            time,
            kind: EventKind::SourceLoss {
                source: "/var/log/app.log".to_owned(),
                items: 0,
                bytes: 77,
                code: "file_truncated".to_owned(),
            },
        },
    ])
}

fn loss() -> Body {
    Body::Loss { items: 40, bytes: 4096, reason: LossReason::QueueFullOldest }
}

fn header(stream: Stream, body: &EncodedBody) -> BatchHeader {
    let incarnation = Incarnation { ordinal: 1_700_000_000_000, nonce: 0x0123_4567_89ab_cdef };
    let mut header = BatchHeader::new(BatchId { stream, incarnation, sequence: 7 }, 1000, 3, 0, body);
    if matches!(body.kind, lm_schema::batch::Kind::Loss) {
        header.sequence_end = 11;
    }
    header
}

/// The message as it is queued, sent and spooled.
fn message(stream: Stream, new_entries: &[Labels], body: &Body) -> Vec<u8> {
    let encoded = Encoder::new().unwrap().encode(new_entries, body).unwrap();
    let mut message = capnp::message::Builder::new_default();
    header(stream, &encoded).write(&encoded.bytes, message.init_root::<batch_capnp::batch::Builder<'_>>());
    lm_schema::to_bytes(&message)
}

fn read(bytes: &[u8]) -> Result<(BatchHeader, Vec<Labels>, Body), Error> {
    let message = lm_schema::from_bytes(bytes)?;
    let batch = message.get_root::<batch_capnp::batch::Reader<'_>>()?;
    let header = BatchHeader::read(batch)?;
    let decoded = decode_body(&header, batch.get_body()?, &DecodeLimits::default())?;
    Ok((header, decoded.new_entries, decoded.body))
}

/// NaN payloads count, so compare bits.
fn assert_same(found: &Body, expected: &Body) {
    match (found, expected) {
        (Body::Samples(found), Body::Samples(expected)) => {
            let bits = |c: &SampleColumns| c.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(found), bits(expected));
            assert_eq!(
                (&found.times, &found.lengths, &found.references),
                (&expected.times, &expected.lengths, &expected.references)
            );
        }
        _ => assert_eq!(found, expected),
    }
}

/// Old goldens stay readable for ever. `UPDATE_GOLDEN=1` writes missing ones;
/// an existing file is never overwritten: a changed format gets a new name.
#[test]
fn golden_bytes_of_each_kind_are_read_and_written() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for (name, stream, body) in [
        ("samples-v1", Stream::Metrics, samples()),
        ("logs-v1", Stream::Logs, logs()),
        ("events-v1", Stream::Events, events()),
        ("loss-v1", Stream::Metrics, loss()),
        ("histograms-v1", Stream::Metrics, histograms()),
    ] {
        let file = dir.join(format!("{name}.hex"));
        let written = message(stream, &entries(), &body);
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !file.exists() {
            let hex: Vec<String> = written
                .chunks(32)
                .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
                .collect();
            std::fs::write(&file, hex.join("\n") + "\n").unwrap();
        }
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let golden: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let (found_header, found_entries, found) = read(&golden).unwrap();
        assert_same(&found, &body);
        assert_eq!(found_entries, entries());
        assert_eq!(found_header.id.sequence, 7);
        assert_eq!(written, golden, "{name}: the bytes changed; that needs a new version");
    }
}

fn rejects(change: impl FnOnce(&mut BatchHeader, &mut Vec<u8>), says: &str) {
    let mut encoded = Encoder::new().unwrap().encode(&entries(), &samples()).unwrap();
    let mut header = header(Stream::Metrics, &encoded);
    change(&mut header, &mut encoded.bytes);
    let error = decode_body(&header, &encoded.bytes, &DecodeLimits::default()).unwrap_err().to_string();
    assert!(error.contains(says), "{error:?} does not say {says:?}");
}

#[test]
fn broken_promises_are_named() {
    rejects(|header, _| header.item_count = 4, "3 items where 4 were announced");
    rejects(|header, _| header.raw_bytes += 8, "were announced");
    rejects(|header, _| header.raw_bytes = u32::MAX, "at most 4194304");
    rejects(|_, body| body[0] ^= 1, "checksum");
    rejects(|header, _| header.time_max = Timestamp::from_millis(5), "announced range");
    rejects(|header, _| header.kind = lm_schema::batch::Kind::Logs, "announced as Logs");
    rejects(|header, _| header.dictionary_length = u32::MAX, "dictionary");
    // A bomb: announces little, holds much.
    rejects(
        |header, body| {
            *body = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
            header.body_crc32c = crc32c::crc32c(body);
        },
        "zstd",
    );
}

#[test]
fn limits_are_limits() {
    let check = |entries: &[Labels], body: &Body, limits: DecodeLimits, says: &str| {
        let encoded = Encoder::new().unwrap().encode(entries, body).unwrap();
        let stream = if matches!(body, Body::Logs(_)) { Stream::Logs } else { Stream::Metrics };
        let error = decode_body(&header(stream, &encoded), &encoded.bytes, &limits).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    let limits = DecodeLimits::default();
    check(
        &entries(),
        &samples(),
        DecodeLimits { series_per_batch_max: 1, ..limits },
        "2 new series (at most 1)",
    );
    check(
        &entries(),
        &samples(),
        DecodeLimits { samples_per_batch_max: 2, ..limits },
        "3 samples (at most 2)",
    );
    check(&entries(), &samples(), DecodeLimits { labels_per_series_max: 2, ..limits }, "3 labels");
    check(
        &entries(),
        &samples(),
        DecodeLimits { label_name_bytes_max: 5, ..limits },
        "label name of 8 bytes",
    );
    check(&entries(), &samples(), DecodeLimits { label_value_bytes_max: 5, ..limits }, "10 bytes (1 to 5)");
    check(&entries(), &logs(), DecodeLimits { logs_per_batch_max: 2, ..limits }, "3 lines (at most 2)");
    check(
        &entries(),
        &logs(),
        DecodeLimits { log_line_bytes_max: 5, ..limits },
        "line of 10 bytes (at most 5)",
    );
    check(&[], &samples(), limits, "reference outside the dictionary of 0");
    check(&[], &histograms(), limits, "reference outside the dictionary of 0");
    check(
        &entries(),
        &histograms(),
        DecodeLimits { samples_per_batch_max: 2, ..limits },
        "3 samples (at most 2)",
    );
}

#[test]
fn histograms_that_are_none_are_refused() {
    let check = |change: fn(&mut HistogramColumns), says: &str| {
        let Body::Histograms(mut columns) = histograms() else { unreachable!("they are histograms") };
        change(&mut columns);
        let encoded = Encoder::new().unwrap().encode(&entries(), &Body::Histograms(columns)).unwrap();
        let header = header(Stream::Metrics, &encoded);
        let error = decode_body(&header, &encoded.bytes, &DecodeLimits::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    check(|columns| columns.values[0] = Arc::new(Histogram { schema: 9, ..Histogram::default() }), "schema");
    check(|columns| columns.values.truncate(2), "3 references for 2 values");
    check(|columns| columns.lengths[0] = 1, "scrapes of 2 samples hold 3");
    check(|columns| columns.times.truncate(1), "1 times for 2 scrapes");
}

fn any_labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[a-z_]{1,8}", "[ -~]{1,12}", 1..4).prop_map(Labels::from_pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn samples_come_back_bit_by_bit(
        entries in prop::collection::vec(any_labels(), 1..6),
        scrapes in prop::collection::vec((any::<i64>(), prop::collection::vec((any::<u32>(), any::<u64>()), 0..8)), 0..6),
    ) {
        let mut columns = SampleColumns::default();
        for (time, values) in scrapes {
            columns.times.push(Timestamp::from_millis(time));
            columns.lengths.push(values.len() as u32);
            for (reference, bits) in values {
                columns.references.push(reference % entries.len() as u32);
                columns.values.push(f64::from_bits(bits));
            }
        }
        let body = Body::Samples(columns);
        let (_, found_entries, found) = read(&message(Stream::Metrics, &entries, &body)).unwrap();
        assert_same(&found, &body);
        prop_assert_eq!(found_entries, entries);
    }

    /// Any damage is an error or leaves a valid batch; nothing panics.
    #[test]
    fn damage_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        for (stream, body) in
            [(Stream::Metrics, samples()), (Stream::Metrics, histograms()), (Stream::Logs, logs()), (Stream::Events, events()), (Stream::Logs, loss())]
        {
            let mut bytes = message(stream, &entries(), &body);
            let index = at.index(bytes.len());
            bytes[index] ^= 1 << bit;
            let _ = read(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = read(&bytes);
        }
    }

    /// The same below the checksum: the body itself is hostile.
    #[test]
    fn hostile_bodies_never_panic(noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for (stream, body) in [(Stream::Metrics, samples()), (Stream::Metrics, histograms()), (Stream::Logs, logs()), (Stream::Events, events())] {
            let encoded = Encoder::new().unwrap().encode(&entries(), &body).unwrap();
            let mut raw = match encoded.codec {
                Codec::None => encoded.bytes.clone(),
                Codec::Zstd => zstd::bulk::decompress(&encoded.bytes, encoded.raw_bytes as usize).unwrap(),
            };
            for (at, byte) in &noise {
                let at = at.index(raw.len());
                raw[at] = *byte;
            }
            let mut header = header(stream, &encoded);
            header.codec = Codec::None;
            header.raw_bytes = raw.len() as u32;
            header.body_crc32c = crc32c::crc32c(&raw);
            let _ = decode_body(&header, &raw, &DecodeLimits::default());
        }
    }
}
