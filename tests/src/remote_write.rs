//! Remote write, as senders encode it.

/// One series and its samples: `(unix ms, value)`.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// In the order in which they are sent.
    pub labels: &'a [(&'a str, &'a str)],
    pub samples: &'a [(i64, f64)],
}

/// The headers of a request.
pub const HEADERS: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// The headers of a request of remote write 2.0.
pub const HEADERS2: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("X-Prometheus-Remote-Write-Version", "2.0.0"),
];

/// A `WriteRequest` in a block of snappy.
pub fn body(series: &[Series<'_>]) -> Vec<u8> {
    compress(&message(series))
}

/// A block of snappy.
///
/// # Panics
///
/// When `bytes` are more than a block may hold.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("a test's message is small")
}

/// A `WriteRequest`.
pub fn message(series: &[Series<'_>]) -> Vec<u8> {
    let mut to = Vec::new();
    for Series { labels, samples } in series {
        let mut one = Vec::new();
        for (name, value) in *labels {
            let mut label = Vec::new();
            field(1, name.as_bytes(), &mut label);
            field(2, value.as_bytes(), &mut label);
            field(1, &label, &mut one);
        }
        for (time, value) in *samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(2 << 3);
            varint(*time as u64, &mut sample);
            field(2, &sample, &mut one);
        }
        field(1, &one, &mut to);
    }
    to
}

/// A request of remote write 2.0 with one sample of one series.
pub fn message2(name: &str, time: i64, value: f64) -> Vec<u8> {
    let mut to = Vec::new();
    for symbol in ["", "__name__", name] {
        field(4, symbol.as_bytes(), &mut to);
    }
    let mut one = Vec::new();
    field(1, &[1, 2], &mut one);
    let mut sample = vec![1 << 3 | 1];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(2 << 3);
    varint(time as u64, &mut sample);
    field(2, &sample, &mut one);
    field(5, &one, &mut to);
    to
}

/// A native histogram of integers, of schema 0, whose buckets begin above 1:
/// up to 2, up to 4 and so on.
pub fn native(time: i64, sum: f64, counts: &[i64]) -> Vec<u8> {
    let mut to = vec![1 << 3];
    varint(counts.iter().sum::<i64>() as u64, &mut to);
    to.push(3 << 3 | 1);
    to.extend_from_slice(&sum.to_le_bytes());
    let mut span = vec![1 << 3];
    varint(zigzag(1), &mut span);
    span.push(2 << 3);
    varint(counts.len() as u64, &mut span);
    field(11, &span, &mut to);
    let (mut deltas, mut before) = (Vec::new(), 0);
    for count in counts {
        varint(zigzag(count - before), &mut deltas);
        before = *count;
    }
    field(12, &deltas, &mut to);
    to.push(15 << 3);
    varint(time as u64, &mut to);
    to
}

/// A `WriteRequest` with native histograms of one series.
pub fn natives(name: &str, histograms: &[Vec<u8>]) -> Vec<u8> {
    let (mut label, mut one, mut to) = (Vec::new(), Vec::new(), Vec::new());
    field(1, b"__name__", &mut label);
    field(2, name.as_bytes(), &mut label);
    field(1, &label, &mut one);
    histograms.iter().for_each(|histogram| field(4, histogram, &mut one));
    field(1, &one, &mut to);
    to
}

/// The same of remote write 2.0.
pub fn natives2(name: &str, histograms: &[Vec<u8>]) -> Vec<u8> {
    let (mut one, mut to) = (Vec::new(), Vec::new());
    for symbol in ["", "__name__", name] {
        field(4, symbol.as_bytes(), &mut to);
    }
    field(1, &[1, 2], &mut one);
    histograms.iter().for_each(|histogram| field(3, histogram, &mut one));
    field(5, &one, &mut to);
    to
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// A field with a length.
pub fn field(number: u8, bytes: &[u8], to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    varint(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

fn varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
