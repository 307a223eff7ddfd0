use std::time::Instant;

use lm_schema::DecodeLimits;
use lm_schema::batch::{Body, Encoder, decode_body};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;
use crate::write::series::SeriesTable;

/// A field with a length.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut to);
    encode_varint(bytes.len() as u64, &mut to);
    to.extend_from_slice(bytes);
    to
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
}

fn sample_of(time: i64, value: f64) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(1, WireType::SixtyFourBit, &mut to);
    to.extend_from_slice(&value.to_le_bytes());
    encode_key(2, WireType::Varint, &mut to);
    encode_varint(time as u64, &mut to);
    field(2, &to)
}

fn series_of(parts: &[Vec<u8>]) -> Vec<u8> {
    field(1, &parts.concat())
}

struct World {
    table: SeriesTable,
    hash: SeriesHash,
    encoder: Encoder,
    /// What the collector knows, by epoch.
    dictionaries: Vec<Vec<lm_model::Labels>>,
}

impl World {
    fn new() -> World {
        World {
            table: SeriesTable::new(1, 1 << 20, Instant::now()),
            hash: SeriesHash::new(),
            encoder: Encoder::new().unwrap(),
            dictionaries: Vec::new(),
        }
    }

    /// Samples as the collector reads them, and what was refused.
    fn write(&mut self, message: &[u8]) -> Result<(Vec<String>, RefusedSeries), Broken> {
        let mut drafts = Drafts::new(&mut self.table, &mut self.encoder);
        let (mut refused, mut metadata) = (RefusedSeries::default(), Vec::new());
        if let Err(broken) = read(message, &self.hash, &mut drafts, &mut refused, &mut metadata) {
            drafts.abandon();
            return Err(broken);
        }
        let mut shown = Vec::new();
        for batch in drafts.finish().unwrap() {
            let header = &batch.header;
            let decoded = decode_body(header, &batch.body, &DecodeLimits::WRITER).unwrap();
            let epoch = header.dictionary_epoch as usize;
            self.dictionaries.resize(self.dictionaries.len().max(epoch + 1), Vec::new());
            let dictionary = &mut self.dictionaries[epoch];
            assert_eq!(dictionary.len(), header.dictionary_length as usize, "no gap, nothing twice");
            dictionary.extend(decoded.new_entries);
            let columns = match decoded.body {
                Body::Samples(columns) => columns,
                Body::Histograms(columns) => {
                    for (reference, histogram) in columns.references.iter().zip(&columns.values) {
                        let labels = &dictionary[*reference as usize];
                        shown.push(format!("{labels} histogram of {}", histogram.count));
                    }
                    continue;
                }
                other => panic!("not samples: {other:?}"),
            };
            let mut at = 0;
            for (time, length) in columns.times.iter().zip(&columns.lengths) {
                for index in at..at + *length as usize {
                    let labels = &dictionary[columns.references[index] as usize];
                    shown.push(format!("{labels} {time} {:x}", columns.values[index].to_bits()));
                }
                at += *length as usize;
            }
        }
        Ok((shown, refused))
    }
}

#[test]
fn known_series_are_found_again_and_values_keep_their_bits() {
    let mut world = World::new();
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let up = [label("__name__", "up"), label("job", "a")].concat();
    let first = [
        series_of(&[up.clone(), sample_of(1000, 1.0), sample_of(2000, stale)]),
        series_of(&[label("__name__", "x"), sample_of(-5, -0.0)]),
    ];
    let (shown, refused) = world.write(&first.concat()).unwrap();
    let expected = [
        r#"{__name__="up", job="a"} 1.000 3ff0000000000000"#,
        r#"{__name__="up", job="a"} 2.000 7ff0000000000002"#,
        r#"{__name__="x"} -0.005 8000000000000000"#,
    ];
    assert_eq!(shown, expected);
    assert_eq!(refused, RefusedSeries::default());
    // The same series and one more: only that one is new.
    let second = [
        series_of(&[up, sample_of(3000, 2.0)]),
        series_of(&[label("__name__", "y"), sample_of(3000, 3.0)]),
        // Without a sample it is nothing.
        series_of(&[label("__name__", "z")]),
    ];
    let (shown, _) = world.write(&second.concat()).unwrap();
    assert_eq!(
        shown,
        [r#"{__name__="up", job="a"} 3.000 4000000000000000"#, r#"{__name__="y"} 3.000 4008000000000000"#]
    );
    assert_eq!(world.dictionaries[0].len(), 3);
}

#[test]
fn a_series_that_makes_no_sense_is_refused_and_the_others_are_not() {
    let mut world = World::new();
    let message = [
        series_of(&[label("job", "a"), sample_of(1, 1.0), sample_of(2, 1.0)]),
        series_of(&[label("__name__", "b"), label("__name__", "b"), sample_of(1, 1.0)]),
        series_of(&[label("__name__", "good"), sample_of(1, 1.0)]),
        series_of(&[field(1, &field(1, b"\xff")), sample_of(1, 1.0)]),
    ];
    for _ in 0..2 {
        let (shown, refused) = world.write(&message.concat()).unwrap();
        assert_eq!(shown, [r#"{__name__="good"} 0.001 3ff0000000000000"#]);
        assert_eq!(refused, RefusedSeries { samples: 4, first: Some(BadSeries::NoName) });
    }
}

#[test]
fn histograms_stand_beside_samples_and_fill_batches_of_their_own() {
    let mut world = World::new();
    let histogram = |count: u8| field(4, &[1 << 3, count]);
    let message = [
        series_of(&[label("__name__", "h"), histogram(1), histogram(2)]),
        series_of(&[label("__name__", "s"), sample_of(1, 1.0)]),
        // A schema that there is not.
        series_of(&[label("__name__", "bad"), field(4, &[4 << 3, 18])]),
    ];
    let (shown, refused) = world.write(&message.concat()).unwrap();
    let expected = [
        r#"{__name__="s"} 0.001 3ff0000000000000"#,
        r#"{__name__="h"} histogram of 1"#,
        r#"{__name__="h"} histogram of 2"#,
    ];
    assert_eq!(shown, expected);
    assert!(matches!(refused, RefusedSeries { samples: 1, first: Some(BadSeries::NativeHistogram(_)) }));
    assert_eq!(world.dictionaries[0].len(), 2, "a series without anything good is not begun");
    // More than one batch may hold.
    let many: Vec<_> =
        [label("__name__", "h")].into_iter().chain((0..40_000).map(|_| histogram(1))).collect();
    assert_eq!(world.write(&series_of(&many)).unwrap().0.len(), 40_000);
}

#[test]
fn nothing_stays_of_a_message_that_breaks_off() {
    let mut world = World::new();
    let good = series_of(&[label("__name__", "good"), sample_of(1, 1.0)]);
    let other = series_of(&[label("__name__", "other"), sample_of(1, 1.0)]);
    let message = [good.clone(), other].concat();
    for length in good.len() + 1..message.len() {
        assert_eq!(world.write(&message[..length]), Err(Broken), "{length}");
    }
    assert_eq!(world.table.len(), 0);
    // Labels behind samples could be two different series.
    let late = series_of(&[label("__name__", "a"), sample_of(1, 1.0), label("b", "c")]);
    assert_eq!(world.write(&late), Err(Broken));
    assert_eq!(world.write(&good).unwrap().0.len(), 1);
}

#[test]
fn what_metrics_mean_is_read() {
    let message = field(
        3,
        &[vec![1 << 3, 1], field(2, b"requests_total"), field(4, b"All requests."), field(5, b"")].concat(),
    );
    let mut table = SeriesTable::new(1, 10, Instant::now());
    let mut encoder = Encoder::new().unwrap();
    let (mut refused, mut metadata) = (RefusedSeries::default(), Vec::new());
    let mut drafts = Drafts::new(&mut table, &mut encoder);
    read(&message, &SeriesHash::new(), &mut drafts, &mut refused, &mut metadata).unwrap();
    let expected = MetricText {
        name: "requests_total".to_owned(),
        kind: "counter",
        help: "All requests.".to_owned(),
        unit: String::new(),
    };
    assert_eq!(metadata, [expected]);
}
