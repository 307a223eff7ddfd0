//! Delimited `MetricFamily` messages, written by hand here.

use lm_exposition::{Entry, Error, Format, Limits, Metadata, NativeHistogram, Reader, Span};
use prost::encoding::{WireType, encode_key, encode_varint};

/// A message in the making.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, number: u32, value: u64) -> Self {
        encode_key(number, WireType::Varint, &mut self.0);
        encode_varint(value, &mut self.0);
        self
    }

    fn zigzag(self, number: u32, value: i64) -> Self {
        self.varint(number, ((value << 1) ^ (value >> 63)) as u64)
    }

    fn double(mut self, number: u32, value: f64) -> Self {
        encode_key(number, WireType::SixtyFourBit, &mut self.0);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, number: u32, value: impl AsRef<[u8]>) -> Self {
        encode_key(number, WireType::LengthDelimited, &mut self.0);
        encode_varint(value.as_ref().len() as u64, &mut self.0);
        self.0.extend(value.as_ref());
        self
    }

    fn message(self, number: u32, value: Message) -> Self {
        self.bytes(number, value.0)
    }

    fn label(self, number: u32, name: &str, value: &str) -> Self {
        self.message(number, new().bytes(1, name).bytes(2, value))
    }
}

fn new() -> Message {
    Message::default()
}

fn family(name: &str, kind: u64) -> Message {
    new().bytes(1, name).bytes(2, "help").varint(3, kind)
}

fn delimited(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        encode_varint(message.0.len() as u64, &mut bytes);
        bytes.extend(&message.0);
    }
    bytes
}

fn native(histogram: &NativeHistogram<'_>) -> NativeHistogram<'static> {
    NativeHistogram {
        name: histogram.name.to_string().into(),
        labels: Vec::new(),
        positive_spans: histogram.positive_spans.clone(),
        positive_counts: histogram.positive_counts.clone(),
        negative_spans: histogram.negative_spans.clone(),
        negative_counts: histogram.negative_counts.clone(),
        ..*histogram
    }
}

fn read_with(bytes: &[u8], limits: Limits) -> Result<(Vec<String>, Vec<NativeHistogram<'static>>), Error> {
    let mut reader = Reader::new(Format::Protobuf, bytes, limits);
    let (mut lines, mut histograms) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Metadata(Metadata::Help { family, text }) => lines.push(format!("HELP {family}: {text}")),
            Entry::Metadata(Metadata::Type { family, metric_type }) => {
                lines.push(format!("TYPE {family}: {}", metric_type.name()));
            }
            Entry::Metadata(Metadata::Unit { family, unit }) => lines.push(format!("UNIT {family}: {unit}")),
            Entry::Sample(sample) => {
                let labels = sample.labels.iter();
                let labels: Vec<_> = labels.map(|label| format!("{}={}", label.name, label.value)).collect();
                let mut line = format!("{}{{{}}} {:?}", sample.name, labels.join(","), sample.value);
                if let Some(time) = sample.time_unix_ms {
                    line += &format!(" @{time}");
                }
                if let Some(exemplar) = sample.exemplar {
                    let label = exemplar.labels.first().map_or("", |label| &label.value);
                    line += &format!(" # {label} {:?} {:?}", exemplar.value, exemplar.time_unix_ms);
                }
                lines.push(line);
            }
            Entry::NativeHistogram(histogram) => histograms.push(native(histogram)),
        }
    }
    Ok((lines, histograms))
}

fn read(messages: &[Message]) -> Result<(Vec<String>, Vec<NativeHistogram<'static>>), Error> {
    read_with(&delimited(messages), Limits::default())
}

#[test]
fn simple_types() {
    let exemplar = new().label(1, "trace", "42").double(2, 12.0);
    let exemplar = exemplar.message(3, new().varint(1, 1_625_851_151).varint(2, 233_181_499));
    let (lines, histograms) = read(&[
        family("go_build_info", 1)
            .message(4, new().label(1, "path", "a").label(1, "version", "").message(2, new().double(1, 1.0))),
        family("alloc_bytes", 0)
            .bytes(5, "bytes")
            .message(4, new().message(3, new().double(1, 1.5e6).message(2, exemplar))),
        family("something", 3).message(4, new().message(5, new().double(1, 42.0)).varint(6, 1_234_567)),
        family("empty", 0),
        family("absent", 1).message(4, new()),
        family("rpc", 2).message(
            4,
            new().label(1, "a", "b").message(
                4,
                new()
                    .varint(1, 42)
                    .double(2, 1.5)
                    .message(3, new().double(1, 0.5).double(2, 4.0))
                    .message(3, new().double(1, 1.0).double(2, f64::from_bits(0x7ff0_0000_0000_0002))),
            ),
        ),
    ])
    .unwrap();
    assert_eq!(
        lines,
        [
            "HELP go_build_info: help",
            "TYPE go_build_info: gauge",
            "go_build_info{path=a,version=} 1.0",
            "HELP alloc_bytes: help",
            "TYPE alloc_bytes: counter",
            "UNIT alloc_bytes: bytes",
            "alloc_bytes{} 1500000.0 # 42 12.0 Some(1625851151233)",
            "HELP something: help",
            "TYPE something: unknown",
            "something{} 42.0 @1234567",
            "HELP absent: help",
            "TYPE absent: gauge",
            "absent{} 0.0",
            "HELP rpc: help",
            "TYPE rpc: summary",
            "rpc_count{a=b} 42.0",
            "rpc_sum{a=b} 1.5",
            "rpc{a=b,quantile=0.5} 4.0",
            "rpc{a=b,quantile=1.0} NaN",
        ]
    );
    assert!(histograms.is_empty());
}

#[test]
fn histograms() {
    let classic = new()
        .varint(1, 3)
        .double(2, 6.5)
        .message(3, new().varint(1, 1).double(2, 1.0).message(3, new().label(1, "id", "x").double(2, 0.5)))
        .message(3, new().varint(1, 2).double(2, 2.5));
    let span = |offset, length| new().zigzag(1, offset).varint(2, length);
    let mut packed = Vec::new();
    for delta in [2_i64, -1] {
        encode_varint(((delta << 1) ^ (delta >> 63)) as u64, &mut packed);
    }
    let native = new()
        .varint(1, 9)
        .double(2, 6.5)
        .zigzag(5, -1)
        .double(6, 0.001)
        .varint(7, 2)
        .message(12, span(-3, 2))
        .message(12, span(1, 1))
        .bytes(13, packed)
        .zigzag(13, 4)
        .message(9, span(0, 1))
        .zigzag(10, 3);
    let float = new().double(4, 1.5).double(2, 6.5).double(8, 0.5).message(12, span(0, 1)).double(14, 1.0);
    let (lines, histograms) = read(&[
        family("h", 4).message(4, new().message(7, classic)),
        family("n", 4).message(4, new().message(7, native)),
        family("f", 5).message(4, new().message(7, float)),
    ])
    .unwrap();
    assert_eq!(
        lines,
        [
            "HELP h: help",
            "TYPE h: histogram",
            "h_count{} 3.0",
            "h_sum{} 6.5",
            "h_bucket{le=1.0} 1.0 # x 0.5 None",
            "h_bucket{le=2.5} 2.0",
            "h_bucket{le=+Inf} 3.0",
            "HELP n: help",
            "TYPE n: histogram",
            "n_count{} 9.0",
            "n_sum{} 6.5",
            "n_bucket{le=+Inf} 9.0",
            "HELP f: help",
            "TYPE f: gaugehistogram",
            "f_count{} 1.5",
            "f_sum{} 6.5",
            "f_bucket{le=+Inf} 1.5",
        ]
    );
    let expected = NativeHistogram {
        name: "n".into(),
        schema: -1,
        count: 9.0,
        sum: 6.5,
        zero_threshold: 0.001,
        zero_count: 2.0,
        positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 1, length: 1 }],
        positive_counts: vec![2.0, 1.0, 5.0],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        negative_counts: vec![3.0],
        ..NativeHistogram::default()
    };
    assert_eq!(histograms[0], expected);
    assert_eq!((histograms[1].is_gauge, histograms[1].zero_count), (true, 0.5));
    assert_eq!(histograms[1].positive_counts, [1.0]);
}

#[test]
fn mistakes() {
    let gauge = |metric| family("g", 1).message(4, metric);
    let histogram = |body| family("h", 4).message(4, new().message(7, body));
    for (message, expected) in [
        (new().bytes(1, "").message(4, new()), "family 2: the family has no name"),
        (family("g", 6).message(4, new()), "family 2: 6 is no type of metrics"),
        (new().bytes(1, [0xff]), "family 2: not the message of a family of metrics, or cut"),
        (gauge(new().label(1, "a", "1").label(1, "a", "2")), "family 2: a label is there twice"),
        (gauge(new().label(1, "", "1")), "family 2: a label has no name, or the metric's"),
        (gauge(new().label(1, "__name__", "1")), "family 2: a label has no name, or the metric's"),
        (gauge(new().varint(2, 1)), "family 2: not the message of a family of metrics, or cut"),
        (gauge(new().bytes(2, [9, 0])), "family 2: not the message of a family of metrics, or cut"),
        (
            histogram(new().message(12, new().varint(2, 2)).zigzag(13, 1)),
            "family 2: the buckets of a native histogram are not as many as its spans say",
        ),
        (
            histogram(new().message(12, new().varint(2, 2)).zigzag(13, i64::MAX).zigzag(13, 1)),
            "family 2: not the message of a family of metrics, or cut",
        ),
    ] {
        let error = read(&[gauge(new()), message]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    // Cut at every byte: either a whole number of families, or a mistake.
    let whole = delimited(&[gauge(new().message(2, new().double(1, 1.0)))]);
    for end in 1..whole.len() {
        assert!(read_with(&whole[..end], Limits::default()).is_err(), "{end}");
    }
}

#[test]
fn limits() {
    let limits = Limits { line_bytes_max: 64, labels_max: 1, samples_max: 3, native_buckets_max: 1 };
    let histogram = |body| family("h", 4).message(4, new().message(7, body));
    let spans = |count: usize| (0..count).fold(new(), |body, _| body.message(12, new().varint(2, 1)));
    for (message, expected) in [
        (histogram(new()), None),
        (histogram(new().message(3, new())), Some("more than 3 samples")),
        (histogram(new().bytes(99, [0; 64])), Some("family 1: more than 64 bytes of one metric")),
        (
            family("g", 1).message(4, new().label(1, "a", "1").label(1, "b", "2")),
            Some("family 1: more than 1 labels"),
        ),
        (histogram(spans(1).zigzag(13, 1)), None),
        (histogram(spans(2).zigzag(13, 1)), Some("family 1: more than 1 native buckets")),
        (histogram(spans(1).bytes(13, [2, 2])), Some("family 1: more than 1 native buckets")),
        (histogram(new().double(4, 1.0).bytes(14, [0; 16])), Some("family 1: more than 1 native buckets")),
    ] {
        let error = read_with(&delimited(&[message]), limits).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), expected);
    }
}
