//! What a Prometheus target answers, as samples: the text format 0.0.4,
//! OpenMetrics 1.0 text, and delimited `MetricFamily` messages of protobuf.
//!
//! Bytes in, entries out. Nothing is fetched, stored or decompressed here, no
//! clock is read, and a series is not checked for being there twice: callers
//! know what they remember. The bytes are a target's and hostile: whatever
//! they are, work and memory are bounded by their length and by [`Limits`],
//! and a mistake ends the reading with an [`Error`] that names its place.
//!
//! ```
//! use lm_exposition::{Entry, Format, Limits, Reader};
//!
//! let bytes = b"# TYPE up gauge\nup{job=\"a\"} 1\n";
//! let mut reader = Reader::new(Format::PrometheusText, bytes, Limits::default());
//! while let Some(entry) = reader.next()? {
//!     if let Entry::Sample(sample) = entry {
//!         assert_eq!((sample.name, sample.value), ("up", 1.0));
//!     }
//! }
//! # Ok::<(), lm_exposition::Error>(())
//! ```
//!
//! Where the formats leave room, upstream's parsers (`model/textparse` of
//! Prometheus 3) decide: names may be any UTF-8 when quoted, `le` of a
//! histogram's bucket and `quantile` of a summary are written as OpenMetrics
//! writes numbers (`le="1"` is read as `le="1.0"`), so that a series keeps its
//! name when its target changes the format.

mod entry;
mod error;
mod format;
mod number;
mod protobuf;
mod text;
pub mod wire;

pub use entry::{Entry, Exemplar, Label, Metadata, MetricType, NativeHistogram, Sample, Span};
pub use error::{Error, Place};
pub use format::Format;

/// Bounds on what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A line of text with its line feed; a message of protobuf about one
    /// family may be longer, but not what it says of one metric.
    pub line_bytes_max: usize,
    /// Labels of a sample or an exemplar beside the name.
    pub labels_max: usize,
    /// Samples in all; each bucket of a histogram is one.
    pub samples_max: usize,
    /// Buckets and spans of one native histogram.
    pub native_buckets_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { line_bytes_max: 64 << 10, labels_max: 64, samples_max: 1 << 20, native_buckets_max: 4096 }
    }
}

/// Reads one answer from its beginning to its end.
pub struct Reader<'a> {
    input: Input<'a>,
    samples: usize,
    samples_max: usize,
}

enum Input<'a> {
    Text(text::TextReader<'a>),
    Protobuf(Box<protobuf::ProtobufReader<'a>>),
}

impl<'a> Reader<'a> {
    pub fn new(format: Format, bytes: &'a [u8], limits: Limits) -> Self {
        let input = match format {
            Format::PrometheusText => {
                Input::Text(text::TextReader::new(bytes, text::Dialect::Prometheus, limits))
            }
            Format::OpenMetricsText => {
                Input::Text(text::TextReader::new(bytes, text::Dialect::OpenMetrics, limits))
            }
            Format::Protobuf => Input::Protobuf(Box::new(protobuf::ProtobufReader::new(bytes, limits))),
        };
        Reader { input, samples: 0, samples_max: limits.samples_max }
    }

    /// The next entry, or `None` at the end. What it borrows lives until the
    /// next call.
    ///
    /// # Errors
    ///
    /// The first mistake. What stands behind it is not read: further calls
    /// answer whatever comes, without panicking.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let entry = match &mut self.input {
            Input::Text(reader) => reader.next()?,
            Input::Protobuf(reader) => reader.next()?,
        };
        if matches!(entry, Some(Entry::Sample(_))) {
            self.samples += 1;
            if self.samples > self.samples_max {
                return Err(Error::Samples { limit: self.samples_max });
            }
        }
        Ok(entry)
    }
}
