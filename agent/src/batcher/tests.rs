use lm_model::{BatchId, Incarnation};
use lm_schema::DecodeLimits;
use lm_schema::batch::{BatchHeader, DecodedBody, decode_body};

use super::*;
use crate::sources::logs::Line;

/// What a collector with the default limits makes of a draft.
fn decode(draft: &Draft) -> DecodedBody {
    let id = BatchId { stream: draft.stream, incarnation: Incarnation::default(), sequence: 0 };
    let header = BatchHeader::new(id, 0, draft.epoch, draft.dictionary_length, &draft.body);
    decode_body(&header, &draft.body.bytes, &DecodeLimits::default()).unwrap()
}

fn table(names: &[&str]) -> (SeriesTable, Vec<Measurement>) {
    let mut table = SeriesTable::new(100);
    let series = names.iter().map(|name| table.get_or_insert(name, &[]).unwrap());
    let measured = series.enumerate().map(|(value, series)| Measurement { series, value: value as f64 });
    let measured = measured.collect();
    (table, measured)
}

fn settings(new_series_max: u32) -> Settings {
    let mut settings = Settings::default();
    settings.limits.series_per_batch_max = new_series_max;
    settings
}

fn summary(draft: &Draft) -> (u32, u32, usize, u32) {
    (draft.epoch, draft.dictionary_length, decode(draft).new_entries.len(), draft.body.item_count)
}

#[test]
fn labels_travel_once() {
    let (table, measured) = table(&["a", "b"]);
    let mut batcher = Batcher::new(&settings(2048)).unwrap();
    for expected in [(0, 0, 2, 2), (0, 2, 0, 2)] {
        let mut rest = &measured[..];
        let draft = batcher.draft_samples(Timestamp::from_millis(5), &mut rest, &table).unwrap().unwrap();
        assert!(rest.is_empty());
        assert_eq!(summary(&draft), expected);
        batcher.commit();
    }
}

#[test]
fn many_new_series_are_split() {
    let (table, measured) = table(&["a", "b", "c"]);
    let mut batcher = Batcher::new(&settings(2)).unwrap();
    let mut rest = &measured[..];
    let mut found = Vec::new();
    while let Some(draft) = batcher.draft_samples(Timestamp::from_millis(5), &mut rest, &table).unwrap() {
        found.push(summary(&draft));
        batcher.commit();
    }
    assert_eq!(found, [(0, 0, 2, 2), (0, 2, 1, 1)]);
}

#[test]
fn a_full_dictionary_begins_another_epoch() {
    let (table, measured) = table(&["a", "b", "c"]);
    let mut batcher = Batcher::with_entries_max(&settings(2048), 2).unwrap();
    let mut rest = &measured[..];
    let mut found = Vec::new();
    while let Some(draft) = batcher.draft_samples(Timestamp::from_millis(5), &mut rest, &table).unwrap() {
        found.push(summary(&draft));
        batcher.commit();
    }
    assert_eq!(found, [(0, 0, 2, 2), (1, 0, 1, 1)]);
}

#[test]
fn what_was_not_queued_is_sent_again() {
    let (table, measured) = table(&["a"]);
    let mut batcher = Batcher::new(&settings(2048)).unwrap();
    for _ in 0..2 {
        let mut rest = &measured[..];
        let draft = batcher.draft_samples(Timestamp::from_millis(5), &mut rest, &table).unwrap().unwrap();
        assert_eq!(summary(&draft), (0, 0, 1, 1));
        batcher.discard();
    }
}

#[test]
fn series_over_a_limit_are_left_out_and_counted() {
    let (table, measured) = table(&["a", &"x".repeat(600)]);
    let mut batcher = Batcher::new(&settings(2048)).unwrap();
    let mut rest = &measured[..];
    let draft = batcher.draft_samples(Timestamp::from_millis(5), &mut rest, &table).unwrap().unwrap();
    assert_eq!((draft.body.item_count, batcher.take_left_out()), (1, 1));
    assert_eq!(batcher.take_left_out(), 0);
}

#[test]
fn lines_keep_their_bytes_and_long_names_are_cut() {
    let (short, long) = (StreamIndex(0), StreamIndex(1));
    let labels = [
        Labels::from_pairs([("filename", "/a")]),
        Labels::from_pairs([("filename", format!("/{}", "\u{e4}".repeat(400)))]),
    ];
    let mut sink = LineSink::default();
    for (stream, line) in [(short, &b"one"[..]), (long, b"\xff\x00"), (short, b"")] {
        let start = sink.bytes.len();
        sink.bytes.extend_from_slice(line);
        let range = start..sink.bytes.len();
        sink.lines.push(Line { stream, time_unix_nano: 7, range, continues: false });
    }
    let mut batcher = Batcher::new(&settings(2048)).unwrap();
    let draft = batcher.draft_logs(&sink, |stream| labels.get(stream.0 as usize)).unwrap();
    let decoded = decode(&draft);
    assert_eq!(decoded.new_entries[0].to_string(), r#"{filename="/a", job="node"}"#);
    assert_eq!(decoded.new_entries[1].get("filename").unwrap().len(), 511);
    let Body::Logs(columns) = decoded.body else { panic!("not lines") };
    let lines: Vec<_> = columns.iter().collect();
    assert_eq!(lines, [(0, 7, &b"one"[..]), (1, 7, b"\xff\x00"), (0, 7, b"")]);
}

#[test]
fn no_lines_are_a_batch_too() {
    let mut batcher = Batcher::new(&settings(2048)).unwrap();
    let draft = batcher.draft_logs(&LineSink::default(), |_| None).unwrap();
    assert_eq!(summary(&draft), (0, 0, 0, 0));
}

#[test]
fn a_batch_of_samples_is_what_every_collector_accepts() {
    let mut table = SeriesTable::new(10_000);
    let series = (0..10_000).map(|number| {
        let path = format!("/{number}/{}", "x".repeat(400));
        table.get_or_insert("a", &[("mountpoint", &path)]).unwrap()
    });
    let measured: Vec<_> =
        series.map(|series| Measurement { series, value: 1.0 / series.0 as f64 }).collect();
    let mut batcher = Batcher::new(&settings(65_536)).unwrap();
    for is_known in [false, true] {
        let (mut rest, mut samples) = (&measured[..], 0);
        while let Some(draft) = batcher.draft_samples(Timestamp::from_millis(5), &mut rest, &table).unwrap() {
            let sizes = (draft.body.raw_bytes as usize, draft.body.bytes.len());
            assert!(sizes.0 <= RAW_BYTES_MAX && sizes.1 <= ENCODED_BYTES_MAX, "{is_known}: {sizes:?}");
            samples += draft.body.item_count;
            batcher.commit();
        }
        assert_eq!(samples, 10_000);
    }
}
