//! Batches: written once by an agent, checked once by a collector.
//!
//! ```text
//! Batch (plain fields) ── stream, incarnation, sequence, kind, counts, times,
//!                         dictionary epoch and length, codec, raw length, crc32c
//!   └ body (Data) ─ codec(BatchBody) ─ new dictionary entries + columns
//! ```
//!
//! [`Encoder`] makes a [`EncodedBody`]; [`BatchHeader`] reads and writes the
//! plain fields; [`decode_body`] checks everything that a batch claims.
//! `docs/formats/batch.md` draws the bytes.

use std::sync::Arc;

use lm_model::{BatchId, Incarnation, Labels, Loss, LossReason, Stream, Timestamp};

use crate::batch_capnp::{self as wire, batch, batch_body};
pub use crate::columns::{Columns, HistogramColumns, SampleColumns};
use crate::error::ensure;
use crate::histogram::{read_histogram, write_histogram};
use crate::{BATCH_VERSION, DecodeLimits, Error, Invalid, labels};

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Samples,
    Logs,
    Loss,
    Events,
    Histograms,
}

impl Kind {
    /// Whether its items are stored as samples of series.
    pub fn has_samples(self) -> bool {
        matches!(self, Kind::Samples | Kind::Histograms)
    }

    /// Whether its items refer to a dictionary.
    pub fn has_references(self) -> bool {
        self.has_samples() || self == Kind::Logs
    }
}

/// How a body's bytes are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Zstd,
}

/// The plain fields of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub id: BatchId,
    /// Exclusive; `id.sequence + 1` but for a loss.
    pub sequence_end: u64,
    pub kind: Kind,
    pub item_count: u32,
    /// Items of this stream and incarnation before this batch.
    pub items_before: u64,
    pub time_min: Timestamp,
    pub time_max: Timestamp,
    pub dictionary_epoch: u32,
    /// Dictionary entries that must be known before this batch's own.
    pub dictionary_length: u32,
    pub codec: Codec,
    pub raw_bytes: u32,
    pub body_crc32c: u32,
}

/// Bytes of the entries of one epoch of a writer, as [`entries_bytes`] counts:
/// its dictionary is one record of the spool, which has to be readable.
pub const WRITER_EPOCH_BYTES_MAX: usize = 24 << 20;

/// Roughly what dictionary entries take in a message.
pub fn entries_bytes(entries: &[Labels]) -> usize {
    let words = |text: &str| text.len() / 8 + 1;
    let of_entry = |labels: &Labels| -> usize {
        labels.iter().map(|(name, value)| 2 + words(name) + words(value)).sum::<usize>() + 2
    };
    entries.iter().map(of_entry).sum::<usize>() * 8
}

/// Log lines as columns: line `i` is `text[ends[i-1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogColumns {
    pub references: Vec<u32>,
    pub times_unix_nano: Vec<i64>,
    pub ends: Vec<u32>,
    pub text: Vec<u8>,
}

impl LogColumns {
    pub fn push(&mut self, reference: u32, time_unix_nano: i64, line: &[u8]) {
        self.references.push(reference);
        self.times_unix_nano.push(time_unix_nano);
        self.text.extend_from_slice(line);
        self.ends.push(self.text.len() as u32);
    }

    pub fn len(&self) -> usize {
        self.references.len()
    }

    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
    }

    /// `(reference, time in ns, line)` of each line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, i64, &[u8])> {
        let mut start = 0;
        self.references.iter().zip(&self.times_unix_nano).zip(&self.ends).map(move |((r, t), end)| {
            let line = &self.text[start..*end as usize];
            start = *end as usize;
            (*r, *t, line)
        })
    }
}

/// Something that happened on the agent, on its events stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub time: Timestamp,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Notice {
        code: String,
        message: String,
    },
    /// Lost before it was accepted, for example in a truncated file.
    SourceLoss {
        source: String,
        items: u64,
        bytes: u64,
        code: String,
    },
}

/// What a body says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Samples(SampleColumns),
    Histograms(HistogramColumns),
    Logs(LogColumns),
    Events(Vec<Event>),
    Loss { items: u64, bytes: u64, reason: LossReason },
}

impl Body {
    pub fn kind(&self) -> Kind {
        match self {
            Body::Samples(_) => Kind::Samples,
            Body::Histograms(_) => Kind::Histograms,
            Body::Logs(_) => Kind::Logs,
            Body::Events(_) => Kind::Events,
            Body::Loss { .. } => Kind::Loss,
        }
    }

    pub fn item_count(&self) -> usize {
        match self {
            Body::Samples(columns) => columns.values.len(),
            Body::Histograms(columns) => columns.values.len(),
            Body::Logs(columns) => columns.len(),
            Body::Events(events) => events.len(),
            Body::Loss { .. } => 0,
        }
    }

    /// The series of each sample or histogram; of other bodies none.
    pub fn series(&self) -> &[u32] {
        match self {
            Body::Samples(columns) => &columns.references,
            Body::Histograms(columns) => &columns.references,
            Body::Logs(_) | Body::Events(_) | Body::Loss { .. } => &[],
        }
    }

    /// Earliest and latest time, both zero when there is nothing.
    fn time_span(&self) -> (Timestamp, Timestamp) {
        let times: &mut dyn Iterator<Item = Timestamp> = match self {
            Body::Samples(columns) => &mut columns.times.iter().copied(),
            Body::Histograms(columns) => &mut columns.times.iter().copied(),
            Body::Logs(columns) => &mut columns.times_unix_nano.iter().map(|t| Timestamp::from_nanos(*t)),
            Body::Events(events) => &mut events.iter().map(|event| event.time),
            Body::Loss { .. } => &mut std::iter::empty(),
        };
        times
            .fold(None, |span: Option<(Timestamp, Timestamp)>, t| match span {
                None => Some((t, t)),
                Some((min, max)) => Some((min.min(t), max.max(t))),
            })
            .unwrap_or_default()
    }
}

/// A body ready to be queued, sent and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBody {
    pub kind: Kind,
    pub item_count: u32,
    pub time_min: Timestamp,
    pub time_max: Timestamp,
    pub codec: Codec,
    pub raw_bytes: u32,
    pub crc32c: u32,
    pub bytes: Vec<u8>,
}

/// Encodes bodies; keeps its compression state between them.
pub struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
}

/// The level of the design: nearly the size of level 3 at a fraction of the CPU.
const ZSTD_LEVEL: i32 = 1;

impl Encoder {
    pub fn new() -> std::io::Result<Self> {
        Ok(Encoder { compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)? })
    }

    /// Encodes `body`; `new_entries` get the references that follow the
    /// dictionary length of the batch.
    pub fn encode(&mut self, new_entries: &[Labels], body: &Body) -> std::io::Result<EncodedBody> {
        let raw = body_message(new_entries, body);
        let compressed = self.compressor.compress(&raw)?;
        let (codec, mut bytes) =
            if compressed.len() < raw.len() { (Codec::Zstd, compressed) } else { (Codec::None, raw.clone()) };
        bytes.shrink_to_fit();
        let (time_min, time_max) = body.time_span();
        Ok(EncodedBody {
            kind: body.kind(),
            item_count: body.item_count() as u32,
            time_min,
            time_max,
            codec,
            raw_bytes: raw.len() as u32,
            crc32c: crc32c::crc32c(&bytes),
            bytes,
        })
    }
}

fn body_message(new_entries: &[Labels], body: &Body) -> Vec<u8> {
    let mut message = capnp::message::Builder::new_default();
    let mut root: batch_body::Builder<'_> = message.init_root();
    labels::write_list(new_entries, root.reborrow().init_new_entries(new_entries.len() as u32));
    match body {
        Body::Samples(columns) => {
            let mut samples = root.init_samples();
            let mut times = samples.reborrow().init_times_unix_ms(columns.times.len() as u32);
            for (index, time) in columns.times.iter().enumerate() {
                times.set(index as u32, time.as_millis());
            }
            // Lists written in one call copy whole slices.
            let _ = samples.set_lengths(&columns.lengths[..]);
            let _ = samples.set_references(&columns.references[..]);
            let _ = samples.set_values(&columns.values[..]);
        }
        Body::Histograms(columns) => {
            let mut histograms = root.init_histograms();
            let mut times = histograms.reborrow().init_times_unix_ms(columns.times.len() as u32);
            for (index, time) in columns.times.iter().enumerate() {
                times.set(index as u32, time.as_millis());
            }
            let _ = histograms.set_lengths(&columns.lengths[..]);
            let _ = histograms.set_references(&columns.references[..]);
            let mut values = histograms.init_values(columns.values.len() as u32);
            for (index, histogram) in columns.values.iter().enumerate() {
                write_histogram(histogram, values.reborrow().get(index as u32));
            }
        }
        Body::Logs(columns) => {
            let mut logs = root.init_logs();
            let _ = logs.set_references(&columns.references[..]);
            let _ = logs.set_times_unix_nano(&columns.times_unix_nano[..]);
            let _ = logs.set_ends(&columns.ends[..]);
            logs.set_text(&columns.text);
        }
        Body::Events(events) => {
            let mut list = root.init_events(events.len() as u32);
            for (index, event) in events.iter().enumerate() {
                write_event(event, list.reborrow().get(index as u32));
            }
        }
        Body::Loss { items, bytes, reason } => {
            let mut loss = root.init_loss();
            loss.set_items(*items);
            loss.set_bytes(*bytes);
            loss.set_reason(wire_reason(*reason));
        }
    }
    crate::to_bytes(&message)
}

fn write_event(event: &Event, mut to: wire::event::Builder<'_>) {
    to.set_time_unix_ms(event.time.as_millis());
    match &event.kind {
        EventKind::Notice { code, message } => {
            let mut notice = to.init_notice();
            notice.set_code(code);
            notice.set_message(message);
        }
        EventKind::SourceLoss { source, items, bytes, code } => {
            let mut loss = to.init_source_loss();
            loss.set_source(source);
            loss.set_items(*items);
            loss.set_bytes(*bytes);
            loss.set_code(code);
        }
    }
}

impl BatchHeader {
    /// The header of `body` at a place in a stream.
    pub fn new(
        id: BatchId,
        items_before: u64,
        epoch: u32,
        dictionary_length: u32,
        body: &EncodedBody,
    ) -> Self {
        BatchHeader {
            id,
            sequence_end: id.sequence + 1,
            kind: body.kind,
            item_count: body.item_count,
            items_before,
            time_min: body.time_min,
            time_max: body.time_max,
            dictionary_epoch: epoch,
            dictionary_length,
            codec: body.codec,
            raw_bytes: body.raw_bytes,
            body_crc32c: body.crc32c,
        }
    }

    /// Writes the plain fields and the body.
    pub fn write(&self, body: &[u8], mut to: batch::Builder<'_>) {
        to.set_version(BATCH_VERSION);
        to.set_stream(wire_stream(self.id.stream));
        write_incarnation(self.id.incarnation, to.reborrow().init_incarnation());
        to.set_sequence(self.id.sequence);
        to.set_sequence_end(self.sequence_end);
        to.set_kind(match self.kind {
            Kind::Samples => batch::Kind::Samples,
            Kind::Logs => batch::Kind::Logs,
            Kind::Loss => batch::Kind::Loss,
            Kind::Events => batch::Kind::Events,
            Kind::Histograms => batch::Kind::Histograms,
        });
        to.set_item_count(self.item_count);
        to.set_items_before(self.items_before);
        to.set_time_min_unix_ms(self.time_min.as_millis());
        to.set_time_max_unix_ms(self.time_max.as_millis());
        to.set_dictionary_epoch(self.dictionary_epoch);
        to.set_dictionary_length(self.dictionary_length);
        to.set_codec(match self.codec {
            Codec::None => wire::Codec::None,
            Codec::Zstd => wire::Codec::Zstd,
        });
        to.set_raw_bytes(self.raw_bytes);
        to.set_body_crc32c(self.body_crc32c);
        to.set_body(body);
    }

    /// Reads the plain fields; the body stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Version`] for a format from the future, [`Error::Invalid`]
    /// when the fields contradict each other.
    pub fn read(from: batch::Reader<'_>) -> Result<Self, Error> {
        if from.get_version() != BATCH_VERSION {
            return Err(Error::Version { found: from.get_version(), newest: BATCH_VERSION });
        }
        let header = BatchHeader {
            id: BatchId {
                stream: read_stream(from.get_stream()?),
                incarnation: read_incarnation(from.get_incarnation()?),
                sequence: from.get_sequence(),
            },
            sequence_end: from.get_sequence_end(),
            kind: match from.get_kind()? {
                batch::Kind::Samples => Kind::Samples,
                batch::Kind::Logs => Kind::Logs,
                batch::Kind::Loss => Kind::Loss,
                batch::Kind::Events => Kind::Events,
                batch::Kind::Histograms => Kind::Histograms,
            },
            item_count: from.get_item_count(),
            items_before: from.get_items_before(),
            time_min: Timestamp::from_millis(from.get_time_min_unix_ms()),
            time_max: Timestamp::from_millis(from.get_time_max_unix_ms()),
            dictionary_epoch: from.get_dictionary_epoch(),
            dictionary_length: from.get_dictionary_length(),
            codec: match from.get_codec()? {
                wire::Codec::None => Codec::None,
                wire::Codec::Zstd => Codec::Zstd,
                wire::Codec::Lz4 => return Err(Invalid::new("codec lz4 is not understood yet").into()),
            },
            raw_bytes: from.get_raw_bytes(),
            body_crc32c: from.get_body_crc32c(),
        };
        ensure!(
            header.id.sequence < header.sequence_end,
            "sequences [{}, {}) are empty",
            header.id.sequence,
            header.sequence_end
        );
        ensure!(
            header.kind == Kind::Loss || header.sequence_end - header.id.sequence == 1,
            "only a loss covers more than one sequence"
        );
        ensure!(
            matches!(
                (header.kind, header.id.stream),
                (Kind::Loss, _)
                    | (Kind::Samples | Kind::Histograms, Stream::Metrics)
                    | (Kind::Logs, Stream::Logs)
                    | (Kind::Events, Stream::Events)
            ),
            "kind {:?} on stream {}",
            header.kind,
            header.id.stream
        );
        Ok(header)
    }

    /// The loss that this batch declares, when its body says so.
    pub fn loss(&self, items: u64, bytes: u64, reason: LossReason) -> Loss {
        Loss {
            stream: self.id.stream,
            incarnation: self.id.incarnation,
            start: self.id.sequence,
            end: self.sequence_end,
            items,
            bytes,
            reason,
        }
    }
}

/// A body that held every promise of its header.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedBody {
    pub new_entries: Vec<Labels>,
    pub body: Body,
}

/// Decodes and checks a body completely, with bounded output.
///
/// # Errors
///
/// [`Error::Invalid`] names the first promise of the header or limit that the
/// body breaks, [`Error::Malformed`] bytes that are no body at all.
pub fn decode_body(
    header: &BatchHeader,
    encoded: &[u8],
    limits: &DecodeLimits,
) -> Result<DecodedBody, Error> {
    ensure!(
        header.raw_bytes <= limits.raw_bytes_max,
        "body of {} bytes (at most {})",
        header.raw_bytes,
        limits.raw_bytes_max
    );
    let found = crc32c::crc32c(encoded);
    ensure!(
        found == header.body_crc32c,
        "checksum {found:08x} is not the announced {:08x}",
        header.body_crc32c
    );

    // Word-aligned, so that the message is read in place.
    let mut raw = capnp::Word::allocate_zeroed_vec((header.raw_bytes as usize).div_ceil(8));
    let raw = &mut capnp::Word::words_to_bytes_mut(&mut raw)[..header.raw_bytes as usize];
    match header.codec {
        Codec::None => {
            ensure!(encoded.len() == raw.len(), "{} bytes where {} were announced", encoded.len(), raw.len());
            raw.copy_from_slice(encoded);
        }
        Codec::Zstd => {
            let length = zstd::bulk::decompress_to_buffer(encoded, raw)
                .map_err(|error| Invalid::new(format!("zstd: {error}")))?;
            ensure!(length == raw.len(), "{length} bytes where {} were announced", raw.len());
        }
    }
    let mut options = capnp::message::ReaderOptions::new();
    // Small lists of a dictionary are visited once; twice the size is slack
    // for padding words that count as visited.
    options.traversal_limit_in_words(Some(raw.len() / 4 + 1024)).nesting_limit(8);
    let message = capnp::serialize::read_message_from_flat_slice_no_alloc(&mut &*raw, options)?;
    let root: batch_body::Reader<'_> = message.get_root()?;

    let entries = root.get_new_entries()?;
    ensure!(
        entries.len() <= limits.series_per_batch_max,
        "{} new series (at most {})",
        entries.len(),
        limits.series_per_batch_max
    );
    let known = header.dictionary_length.checked_add(entries.len());
    ensure!(
        known.is_some_and(|length| length <= limits.dictionary_entries_max),
        "dictionary of more than {} entries",
        limits.dictionary_entries_max
    );
    let new_entries = labels::read_list(entries, limits)?;
    let references_end = header.dictionary_length + new_entries.len() as u32;

    let body = match root.which()? {
        batch_body::Samples(samples) => Body::Samples(read_samples(samples?, references_end, limits)?),
        batch_body::Histograms(histograms) => {
            Body::Histograms(read_histograms(histograms?, references_end, limits)?)
        }
        batch_body::Logs(logs) => Body::Logs(read_logs(logs?, references_end, limits)?),
        batch_body::Events(events) => Body::Events(read_events(events?, limits)?),
        batch_body::Loss(loss) => {
            let loss = loss?;
            Body::Loss {
                items: loss.get_items(),
                bytes: loss.get_bytes(),
                reason: read_reason(loss.get_reason()?),
            }
        }
    };
    ensure!(body.kind() == header.kind, "body of kind {:?} announced as {:?}", body.kind(), header.kind);
    ensure!(
        body.item_count() == header.item_count as usize,
        "{} items where {} were announced",
        body.item_count(),
        header.item_count
    );
    ensure!(body.time_span() == (header.time_min, header.time_max), "times outside the announced range");
    Ok(DecodedBody { new_entries, body })
}

fn read_samples(
    from: wire::samples::Reader<'_>,
    references_end: u32,
    limits: &DecodeLimits,
) -> Result<SampleColumns, Error> {
    let values = from.get_values()?;
    let places = Places {
        times: from.get_times_unix_ms()?,
        lengths: from.get_lengths()?,
        references: from.get_references()?,
    };
    places.check(values.len(), references_end, limits)?;
    Ok(places.columns(values.iter().collect()))
}

fn read_histograms(
    from: wire::histograms::Reader<'_>,
    references_end: u32,
    limits: &DecodeLimits,
) -> Result<HistogramColumns, Error> {
    let values = from.get_values()?;
    let places = Places {
        times: from.get_times_unix_ms()?,
        lengths: from.get_lengths()?,
        references: from.get_references()?,
    };
    // A list of empty structs takes no bytes: its length counts only once it
    // is that of a column that does.
    places.check(values.len(), references_end, limits)?;
    let histograms = values.iter().map(|value| read_histogram(value).map(Arc::new));
    Ok(places.columns(histograms.collect::<Result<_, _>>()?))
}

/// When each value of a batch was, and of which series.
struct Places<'a> {
    times: capnp::primitive_list::Reader<'a, i64>,
    lengths: capnp::primitive_list::Reader<'a, u32>,
    references: capnp::primitive_list::Reader<'a, u32>,
}

impl Places<'_> {
    fn check(&self, values: u32, references_end: u32, limits: &DecodeLimits) -> Result<(), Error> {
        let Places { times, lengths, references } = self;
        ensure!(times.len() == lengths.len(), "{} times for {} scrapes", times.len(), lengths.len());
        ensure!(references.len() == values, "{} references for {values} values", references.len());
        ensure!(
            values <= limits.samples_per_batch_max,
            "{values} samples (at most {})",
            limits.samples_per_batch_max
        );
        let total: u64 = lengths.iter().map(u64::from).sum();
        ensure!(total == u64::from(values), "scrapes of {total} samples hold {values}");
        ensure!(
            references.iter().all(|reference| reference < references_end),
            "reference outside the dictionary of {references_end}"
        );
        Ok(())
    }

    fn columns<T>(self, values: Vec<T>) -> Columns<T> {
        Columns {
            times: self.times.iter().map(Timestamp::from_millis).collect(),
            lengths: self.lengths.iter().collect(),
            references: self.references.iter().collect(),
            values,
        }
    }
}

fn read_logs(
    from: wire::logs::Reader<'_>,
    references_end: u32,
    limits: &DecodeLimits,
) -> Result<LogColumns, Error> {
    let (references, times, ends) = (from.get_references()?, from.get_times_unix_nano()?, from.get_ends()?);
    let text = from.get_text()?;
    ensure!(
        references.len() == times.len() && times.len() == ends.len(),
        "columns of {}, {} and {} lines",
        references.len(),
        times.len(),
        ends.len()
    );
    ensure!(
        references.len() <= limits.logs_per_batch_max,
        "{} lines (at most {})",
        references.len(),
        limits.logs_per_batch_max
    );
    let mut start = 0;
    for end in ends {
        ensure!(start <= end && end as usize <= text.len(), "line [{start}, {end}) of {} bytes", text.len());
        ensure!(
            end - start <= limits.log_line_bytes_max,
            "line of {} bytes (at most {})",
            end - start,
            limits.log_line_bytes_max
        );
        start = end;
    }
    ensure!(start as usize == text.len(), "{} bytes after the last line", text.len() - start as usize);
    let columns = LogColumns {
        references: references.iter().collect(),
        times_unix_nano: times.iter().collect(),
        ends: ends.iter().collect(),
        text: text.to_vec(),
    };
    ensure!(
        columns.references.iter().all(|reference| *reference < references_end),
        "reference outside the dictionary of {references_end}"
    );
    Ok(columns)
}

fn read_events(
    from: capnp::struct_list::Reader<'_, wire::event::Owned>,
    limits: &DecodeLimits,
) -> Result<Vec<Event>, Error> {
    ensure!(
        from.len() <= limits.events_per_batch_max,
        "{} events (at most {})",
        from.len(),
        limits.events_per_batch_max
    );
    let mut events = Vec::with_capacity(from.len() as usize);
    for event in from {
        let kind = match event.which()? {
            wire::event::Notice(notice) => {
                let notice = notice?;
                EventKind::Notice {
                    code: notice.get_code()?.to_string()?,
                    message: notice.get_message()?.to_string()?,
                }
            }
            wire::event::SourceLoss(loss) => {
                let loss = loss?;
                EventKind::SourceLoss {
                    source: loss.get_source()?.to_string()?,
                    items: loss.get_items(),
                    bytes: loss.get_bytes(),
                    code: loss.get_code()?.to_string()?,
                }
            }
        };
        events.push(Event { time: Timestamp::from_millis(event.get_time_unix_ms()), kind });
    }
    Ok(events)
}

/// Writes a dictionary snapshot.
pub fn write_dictionary(epoch: u32, entries: &[Labels], mut to: wire::dictionary::Builder<'_>) {
    to.set_epoch(epoch);
    labels::write_list(entries, to.init_entries(entries.len() as u32));
}

/// Reads a dictionary snapshot that a peer sent: `(epoch, entries)`.
///
/// # Errors
///
/// As [`labels::read_list`], and when there are more than
/// `limits.dictionary_entries_max` entries.
pub fn read_dictionary(
    from: wire::dictionary::Reader<'_>,
    limits: &DecodeLimits,
) -> Result<(u32, Vec<Labels>), Error> {
    let entries = from.get_entries()?;
    ensure!(
        entries.len() <= limits.dictionary_entries_max,
        "dictionary of {} entries (at most {})",
        entries.len(),
        limits.dictionary_entries_max
    );
    Ok((from.get_epoch(), labels::read_list(entries, limits)?))
}

pub fn write_incarnation(from: Incarnation, mut to: wire::incarnation::Builder<'_>) {
    to.set_ordinal(from.ordinal);
    to.set_nonce(from.nonce);
}

pub fn read_incarnation(from: wire::incarnation::Reader<'_>) -> Incarnation {
    Incarnation { ordinal: from.get_ordinal(), nonce: from.get_nonce() }
}

pub fn wire_stream(stream: Stream) -> wire::Stream {
    match stream {
        Stream::Metrics => wire::Stream::Metrics,
        Stream::Logs => wire::Stream::Logs,
        Stream::Events => wire::Stream::Events,
    }
}

pub fn read_stream(stream: wire::Stream) -> Stream {
    match stream {
        wire::Stream::Metrics => Stream::Metrics,
        wire::Stream::Logs => Stream::Logs,
        wire::Stream::Events => Stream::Events,
    }
}

fn wire_reason(reason: LossReason) -> wire::LossReason {
    match reason {
        LossReason::QueueFullOldest => wire::LossReason::QueueFullOldest,
        LossReason::QueueFullNewest => wire::LossReason::QueueFullNewest,
        LossReason::Rejected => wire::LossReason::Rejected,
        LossReason::Corrupt => wire::LossReason::Corrupt,
        LossReason::Reassigned => wire::LossReason::Reassigned,
        LossReason::Limit => wire::LossReason::Limit,
        LossReason::Source => wire::LossReason::Source,
        LossReason::Fenced => wire::LossReason::Fenced,
    }
}

fn read_reason(reason: wire::LossReason) -> LossReason {
    match reason {
        wire::LossReason::QueueFullOldest => LossReason::QueueFullOldest,
        wire::LossReason::QueueFullNewest => LossReason::QueueFullNewest,
        wire::LossReason::Rejected => LossReason::Rejected,
        wire::LossReason::Corrupt => LossReason::Corrupt,
        wire::LossReason::Reassigned => LossReason::Reassigned,
        wire::LossReason::Limit => LossReason::Limit,
        wire::LossReason::Source => LossReason::Source,
        wire::LossReason::Fenced => LossReason::Fenced,
    }
}
