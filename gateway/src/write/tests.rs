//! What each format becomes at the collector.

use std::time::Instant;

use lm_exposition::Format as TextFormat;
use lm_model::{Histogram, Labels, METRIC_NAME, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{Body, Columns, Encoder, decode_body};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::drafts::Drafts;
use super::labels::{BadSeries, RefusedSeries};
use super::remote_write::MetricText;
use super::series::{SeriesHash, SeriesTable};
use super::sink::Sink;
use super::text::Given;
use super::{remote_write2, text};

/// A table of series, and what a collector knows of it.
pub(super) struct World {
    table: SeriesTable,
    hash: SeriesHash,
    encoder: Encoder,
    dictionary: Vec<Labels>,
    pub refused: RefusedSeries,
    pub metadata: Vec<MetricText>,
}

impl World {
    pub fn new() -> World {
        World {
            table: SeriesTable::new(1, 1 << 20, Instant::now()),
            hash: SeriesHash::new(),
            encoder: Encoder::new().unwrap(),
            dictionary: Vec::new(),
            refused: RefusedSeries::default(),
            metadata: Vec::new(),
        }
    }

    /// What `write` puts into a sink, as `name{labels}@ms=value`.
    pub fn write(&mut self, write: impl FnOnce(&mut Sink<'_, '_>, &mut Vec<MetricText>)) -> Vec<String> {
        let mut drafts = Drafts::new(&mut self.table, &mut self.encoder);
        (self.refused, self.metadata) = (RefusedSeries::default(), Vec::new());
        let mut sink = Sink::new(&mut drafts, &self.hash, &mut self.refused);
        write(&mut sink, &mut self.metadata);
        let mut shown = Vec::new();
        for batch in drafts.finish().unwrap() {
            let decoded = decode_body(&batch.header, &batch.body, &DecodeLimits::WRITER).unwrap();
            assert_eq!(self.dictionary.len(), batch.header.dictionary_length as usize);
            self.dictionary.extend(decoded.new_entries);
            let number = |value: f64| match lm_model::is_stale(value) {
                true => "stale".to_owned(),
                false => value.to_string(),
            };
            let samples: Vec<_> = match decoded.body {
                Body::Samples(columns) => flat(&columns).map(|(at, of, v)| (at, of, number(*v))).collect(),
                Body::Histograms(columns) => {
                    let value = |histogram: &Histogram| format!("histogram of {}", histogram.count);
                    flat(&columns).map(|(at, of, v)| (at, of, value(v))).collect()
                }
                other => panic!("not samples: {other:?}"),
            };
            for (time, reference, value) in samples {
                let labels = &self.dictionary[reference as usize];
                let mut others = labels.to_builder();
                let others = others.remove(METRIC_NAME).clone().build();
                // Quotes within values stand as they are.
                let others: Vec<_> =
                    others.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                let (name, others) = (labels.metric_name(), others.join(", "));
                shown.push(format!("{name}{{{others}}}@{}={value}", time.as_millis()));
            }
        }
        shown
    }
}

/// Time, series and value of each.
fn flat<T>(columns: &Columns<T>) -> impl Iterator<Item = (Timestamp, u32, &T)> {
    let times = columns.times.iter().zip(&columns.lengths);
    let times = times.flat_map(|(time, length)| std::iter::repeat_n(*time, *length as usize));
    times.zip(&columns.references).zip(&columns.values).map(|((time, of), value)| (time, *of, value))
}

#[test]
fn text_gets_job_instance_and_time_where_it_says_none() {
    let given =
        Given { job: "push".to_owned(), instance: "ci".to_owned(), time: Timestamp::from_millis(9000) };
    let body = b"# HELP a_total All.\n# TYPE a_total counter\na_total{job=\"own\"} 1\nb{x=\"\"} 2 5000\n{\"\xc3\xa4.b\"} 3\n";
    let mut world = World::new();
    let shown = world.write(|sink, metadata| {
        text::read(TextFormat::PrometheusText, body, &given, sink, metadata).unwrap();
    });
    let expected = [
        r#"a_total{instance="ci", job="own"}@9000=1"#,
        r#"b{instance="ci", job="push"}@5000=2"#,
        r#"ä.b{instance="ci", job="push"}@9000=3"#,
    ];
    assert_eq!(shown, expected);
    let of = &world.metadata[0];
    assert_eq!((&of.name[..], of.kind, &of.help[..]), ("a_total", "counter", "All."));
    let open = b"# TYPE c counter\nc_total 4 6\n# EOF\n";
    let shown = world.write(|sink, metadata| {
        text::read(TextFormat::OpenMetricsText, open, &Given::default(), sink, metadata).unwrap();
    });
    assert_eq!(shown, ["c_total{}@6000=4"]);
    world.write(|sink, metadata| {
        let error =
            text::read(TextFormat::PrometheusText, b"a 1\nb x\n", &given, sink, metadata).unwrap_err();
        assert!(error.to_string().contains('2'), "the line is named: {error}");
    });
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut to);
    encode_varint(bytes.len() as u64, &mut to);
    to.extend_from_slice(bytes);
    to
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(number, WireType::Varint, &mut to);
    encode_varint(value, &mut to);
    to
}

/// A series of remote write 2.0 with one sample of 1.5 at 7 s.
fn series(references: &[u8], more: &[u8]) -> Vec<u8> {
    let mut sample = Vec::new();
    encode_key(1, WireType::SixtyFourBit, &mut sample);
    sample.extend_from_slice(&1.5f64.to_le_bytes());
    sample.extend(varint(2, 7000));
    field(5, &[&field(1, references)[..], &field(2, &sample), more].concat())
}

#[test]
fn remote_write_2_looks_its_texts_up() {
    let symbols =
        ["", "__name__", "up", "job", "a", "b", "\u{e4}.x", "help"].map(|text| field(4, text.as_bytes()));
    let metadata = field(5, &[varint(1, 2), varint(3, 7)].concat());
    let body = [
        symbols.concat(),
        series(&[1, 2, 3, 4], &metadata),
        series(&[1, 6], &[]),
        series(&[3, 4, 1, 2], &[]), // out of order
        series(&[1, 99], &[]),      // no such symbol
        series(&[1, 2, 3], &[]),    // a name without a value
        series(&[1, 5], &field(3, &[varint(1, 3), varint(15, 8000)].concat())), // a histogram beside its sample
        series(&[1, 5], &field(3, &varint(4, 18))), // of a schema that there is not
    ]
    .concat();
    let mut world = World::new();
    for _ in 0..2 {
        let shown = world.write(|sink, metadata| remote_write2::read(&body, sink, metadata).unwrap());
        let expected = [
            r#"up{job="a"}@7000=1.5"#,
            "\u{e4}.x{}@7000=1.5",
            "b{}@7000=1.5",
            "b{}@7000=1.5",
            "b{}@8000=histogram of 3",
        ];
        assert_eq!(shown, expected);
        assert_eq!(world.refused.samples, 4);
        assert_eq!(world.refused.first, Some(BadSeries::Unsorted("__name__".to_owned())));
        let of = &world.metadata[0];
        assert_eq!((&of.name[..], of.kind, &of.help[..]), ("up", "gauge", "help"));
    }
    world.write(|sink, metadata| {
        assert!(remote_write2::read(&body[..body.len() - 1], sink, metadata).is_err());
    });
}
