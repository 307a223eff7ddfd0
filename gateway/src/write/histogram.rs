//! Native histograms as both versions of remote write have them.
//!
//! ```text
//! Histogram { count_int 1, count_float 2, sum 3, schema 4, zero_threshold 5,
//!     zero_count_int 6, zero_count_float 7,
//!     negative_spans 8, negative_deltas 9, negative_counts 10,
//!     positive_spans 11, positive_deltas 12, positive_counts 13,
//!     reset_hint 14, timestamp 15, custom_values 16 }
//!   BucketSpan { offset 1, length 2 }
//! ```
//!
//! One of integers has differences of counts, from bucket to bucket; one of
//! floating point the counts.

use lm_exposition::wire::{Broken, Fields, Value};
use lm_model::{BUCKETS_MAX, Histogram, ResetHint, Span, Timestamp};

use super::labels::BadSeries;

/// Reads a histogram and its time; or says why it is none that can be stored.
///
/// # Errors
///
/// When the bytes are no such message.
pub fn read(message: &[u8]) -> Result<(Timestamp, Result<Histogram, BadSeries>), Broken> {
    let mut histogram = Histogram::default();
    let (mut time, mut schema, mut hint) = (0, 0, 0);
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let (mut bounds, mut fields) = (Vec::new(), Fields(message));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => histogram.count = value.unsigned()? as f64,
            2 => histogram.count = value.exact_double()?,
            3 => histogram.sum = value.exact_double()?,
            4 => schema = value.zigzag()?,
            5 => histogram.zero_threshold = value.exact_double()?,
            6 => histogram.zero_count = value.unsigned()? as f64,
            7 => histogram.zero_count = value.exact_double()?,
            8 => negative.span(value)?,
            9 => negative.deltas(value)?,
            10 => negative.counts(value)?,
            11 => positive.span(value)?,
            12 => positive.deltas(value)?,
            13 => positive.counts(value)?,
            14 => hint = value.unsigned()?,
            15 => time = value.signed()?,
            16 => value.each_fixed(|bits| push(&mut bounds, f64::from_bits(bits)))?,
            _ => {}
        }
    }
    (histogram.positive_spans, histogram.positive_counts) = (positive.spans, positive.counts);
    (histogram.negative_spans, histogram.negative_counts) = (negative.spans, negative.counts);
    histogram.custom_bounds = bounds;
    // What does not fit is no schema or hint that is known.
    histogram.schema = i8::try_from(schema).unwrap_or(i8::MAX);
    let hint = u8::try_from(hint).ok().and_then(ResetHint::from_number);
    let checked = match hint {
        Some(hint) => {
            histogram.reset_hint = hint;
            histogram.check().map(|()| histogram).map_err(BadSeries::NativeHistogram)
        }
        None => Err(BadSeries::NativeHistogram("the reset hint is not known")),
    };
    Ok((Timestamp::from_millis(time), checked))
}

/// The buckets above or below zero.
#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    counts: Vec<f64>,
    /// The count of the last bucket, where differences are told.
    last: i64,
}

impl Side {
    fn span(&mut self, value: Value<'_>) -> Result<(), Broken> {
        let (mut span, mut fields) = (Span::default(), Fields(value.bytes()?));
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => span.offset = i32::try_from(value.zigzag()?).map_err(|_| Broken)?,
                2 => span.length = u32::try_from(value.unsigned()?).map_err(|_| Broken)?,
                _ => {}
            }
        }
        push(&mut self.spans, span);
        Ok(())
    }

    fn deltas(&mut self, value: Value<'_>) -> Result<(), Broken> {
        value.each_zigzag(|delta| {
            self.last = self.last.wrapping_add(delta);
            push(&mut self.counts, self.last as f64);
            Ok(())
        })
    }

    fn counts(&mut self, value: Value<'_>) -> Result<(), Broken> {
        value.each_fixed(|bits| push(&mut self.counts, f64::from_bits(bits)))
    }
}

/// One more than there may be is enough to be refused.
fn push<T>(to: &mut Vec<T>, value: T) {
    if to.len() <= BUCKETS_MAX {
        to.push(value);
    }
}

#[cfg(test)]
mod tests {
    use prost::encoding::{WireType, encode_key, encode_varint};

    use super::*;

    fn varint(number: u32, value: u64) -> Vec<u8> {
        let mut to = Vec::new();
        encode_key(number, WireType::Varint, &mut to);
        encode_varint(value, &mut to);
        to
    }

    fn signed(number: u32, value: i64) -> Vec<u8> {
        varint(number, (value << 1 ^ value >> 63) as u64)
    }

    fn double(number: u32, value: f64) -> Vec<u8> {
        let mut to = Vec::new();
        encode_key(number, WireType::SixtyFourBit, &mut to);
        to.extend(value.to_le_bytes());
        to
    }

    fn bytes(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut to = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut to);
        encode_varint(bytes.len() as u64, &mut to);
        to.extend(bytes);
        to
    }

    fn doubles(number: u32, values: &[f64]) -> Vec<u8> {
        bytes(number, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    fn span(number: u32, offset: i64, length: u64) -> Vec<u8> {
        bytes(number, &[signed(1, offset), varint(2, length)].concat())
    }

    #[test]
    fn integers_are_added_up() {
        let message = [
            varint(1, 12),
            double(3, 18.5),
            signed(4, -2),
            double(5, 0.001),
            varint(6, 2),
            span(8, 1, 1),
            signed(9, 3),
            span(11, -3, 2),
            span(11, 4, 1),
            bytes(12, &[2, 2, 1]), // 1, +1, -1
            varint(14, 2),
            varint(15, 7000),
        ];
        let expected = Histogram {
            schema: -2,
            reset_hint: ResetHint::NotReset,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 12.0,
            sum: 18.5,
            positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }],
            positive_counts: vec![1.0, 2.0, 1.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_counts: vec![3.0],
            custom_bounds: Vec::new(),
        };
        assert_eq!(read(&message.concat()), Ok((Timestamp::from_millis(7000), Ok(expected))));
    }

    #[test]
    fn floats_custom_buckets_and_markers_are_kept() {
        let message = [
            double(2, 3.5),
            double(3, f64::from_bits(lm_model::STALE_NAN_BITS)),
            signed(4, -53),
            span(11, 0, 3),
            doubles(13, &[0.5, 1.0, 2.0]),
            varint(14, 3),
            doubles(16, &[0.1, 1.0]),
        ];
        let (_, found) = read(&message.concat()).unwrap();
        let found = found.unwrap();
        assert!(found.is_stale());
        let expected = Histogram {
            schema: lm_model::CUSTOM_BUCKETS_SCHEMA,
            reset_hint: ResetHint::Gauge,
            count: 3.5,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_counts: vec![0.5, 1.0, 2.0],
            custom_bounds: vec![0.1, 1.0],
            ..Histogram::default()
        };
        assert_eq!(Histogram { sum: 0.0, ..found }, expected);
    }

    #[test]
    fn what_is_none_is_refused_and_what_is_broken_breaks_off() {
        let many = vec![0; BUCKETS_MAX + 1];
        for refused in [
            signed(4, 9),
            signed(4, 1 << 40),
            varint(14, 4),
            varint(14, 1 << 40),
            span(11, 0, 1),
            [bytes(12, &many), span(11, 0, many.len() as u64)].concat(),
        ] {
            assert!(read(&refused).unwrap().1.is_err(), "{refused:?}");
        }
        for broken in [bytes(3, b""), bytes(13, b"1234"), span(11, 1 << 40, 1), vec![0xff]] {
            assert_eq!(read(&broken), Err(Broken), "{broken:?}");
        }
    }
}
