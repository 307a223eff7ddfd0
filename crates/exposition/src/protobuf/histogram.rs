//! `Histogram`: classic buckets, exponential ones, or both.
//!
//! ```text
//! count 1 (integer) or 4 (float), sum 2, bucket 3 { count 1 or 4, upper bound 2, exemplar 3 }
//! schema 5, zero threshold 6, zero count 7 or 8
//! negative spans 9 { offset 1, length 2 }, deltas 10 or counts 11; positive 12, 13, 14
//! ```

use super::Fault;
use crate::entry::{NativeHistogram, Span};
use crate::wire::{Broken, Fields, Value};

pub struct HistogramParts<'a> {
    pub count: f64,
    pub sum: f64,
    pub buckets: Vec<Bucket<'a>>,
    /// Without name, labels and totals.
    pub native: Option<NativeHistogram<'a>>,
}

/// A classic bucket.
pub struct Bucket<'a> {
    pub upper_bound: f64,
    pub count: f64,
    pub exemplar: Option<&'a [u8]>,
}

/// A number that may be said as an integer or as a float; the float counts
/// when it is above zero.
#[derive(Clone, Copy, Default)]
struct Count {
    integer: u64,
    float: f64,
}

impl Count {
    fn value(self) -> f64 {
        if self.float > 0.0 { self.float } else { self.integer as f64 }
    }
}

/// One side of the exponential buckets.
#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    /// Said as differences; the running count.
    running: i64,
    deltas: Vec<f64>,
    counts: Vec<f64>,
}

impl Side {
    fn add_span(&mut self, value: Value<'_>, max: usize) -> Result<(), Fault> {
        let (mut span, mut fields) = (Span::default(), Fields(value.bytes()?));
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => span.offset = i32::try_from(value.zigzag()?).map_err(|_| Broken)?,
                2 => span.length = u32::try_from(value.unsigned()?).map_err(|_| Broken)?,
                _ => {}
            }
        }
        if self.spans.len() == max {
            return Err(Fault::Buckets);
        }
        self.spans.push(span);
        Ok(())
    }

    fn add_deltas(&mut self, value: Value<'_>, max: usize) -> Result<(), Fault> {
        let mut is_full = false;
        value
            .each_zigzag(|delta| {
                is_full |= self.deltas.len() == max;
                self.running = self.running.checked_add(delta).filter(|_| !is_full).ok_or(Broken)?;
                self.deltas.push(self.running as f64);
                Ok(())
            })
            .map_err(|Broken| if is_full { Fault::Buckets } else { Fault::Broken })
    }

    fn add_counts(&mut self, value: Value<'_>, max: usize) -> Result<(), Fault> {
        let mut is_full = false;
        value
            .each_double(|count| {
                is_full |= self.counts.len() == max;
                if is_full {
                    return Err(Broken);
                }
                self.counts.push(count);
                Ok(())
            })
            .map_err(|Broken| if is_full { Fault::Buckets } else { Fault::Broken })
    }

    fn finish(self, is_float: bool) -> Result<(Vec<Span>, Vec<f64>), Fault> {
        let counts = if is_float { self.counts } else { self.deltas };
        let length: u64 = self.spans.iter().map(|span| u64::from(span.length)).sum();
        if length != counts.len() as u64 {
            return Err(Fault::Malformed(
                "the buckets of a native histogram are not as many as its spans say",
            ));
        }
        Ok((self.spans, counts))
    }
}

/// Reads a histogram with at most `max` exponential buckets and spans a side.
pub fn read_histogram(body: &[u8], max: usize) -> Result<HistogramParts<'_>, Fault> {
    let (mut count, mut zero, mut sum) = (Count::default(), Count::default(), 0.0);
    let (mut negative, mut positive) = (Side::default(), Side::default());
    let (mut native, mut buckets, mut fields) = (NativeHistogram::default(), Vec::new(), Fields(body));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => count.integer = value.unsigned()?,
            2 => sum = value.double()?,
            3 => buckets.push(read_bucket(value)?),
            4 => count.float = value.double()?,
            5 => native.schema = i32::try_from(value.zigzag()?).map_err(|_| Broken)?,
            6 => native.zero_threshold = value.double()?,
            7 => zero.integer = value.unsigned()?,
            8 => zero.float = value.double()?,
            9 => negative.add_span(value, max)?,
            10 => negative.add_deltas(value, max)?,
            11 => negative.add_counts(value, max)?,
            12 => positive.add_span(value, max)?,
            13 => positive.add_deltas(value, max)?,
            14 => positive.add_counts(value, max)?,
            _ => {}
        }
    }
    // As upstream tells native histograms and their floats.
    let is_native = !positive.spans.is_empty()
        || !negative.spans.is_empty()
        || native.zero_threshold > 0.0
        || zero.value() > 0.0;
    let is_float = count.float > 0.0 || zero.float > 0.0;
    let native = if is_native {
        native.zero_count = zero.value();
        (native.positive_spans, native.positive_counts) = positive.finish(is_float)?;
        (native.negative_spans, native.negative_counts) = negative.finish(is_float)?;
        Some(native)
    } else {
        None
    };
    Ok(HistogramParts { count: count.value(), sum, buckets, native })
}

fn read_bucket(value: Value<'_>) -> Result<Bucket<'_>, Broken> {
    let (mut count, mut upper_bound, mut exemplar) = (Count::default(), 0.0, None);
    let mut fields = Fields(value.bytes()?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => count.integer = value.unsigned()?,
            2 => upper_bound = value.double()?,
            3 => exemplar = Some(value.bytes()?),
            4 => count.float = value.double()?,
            _ => {}
        }
    }
    Ok(Bucket { upper_bound, count: count.value(), exemplar })
}
