//! Native histograms on the wire.

use lm_model::{BUCKETS_MAX, Histogram, ResetHint, Span};

use crate::batch_capnp::{bucket_span, native_histogram};
use crate::error::ensure;
use crate::{Error, Invalid};

/// Writes a histogram.
pub fn write_histogram(from: &Histogram, mut to: native_histogram::Builder<'_>) {
    to.set_schema(from.schema);
    to.set_reset_hint(from.reset_hint as u8);
    to.set_zero_threshold(from.zero_threshold);
    to.set_zero_count(from.zero_count);
    to.set_count(from.count);
    to.set_sum(from.sum);
    write_spans(&from.positive_spans, to.reborrow().init_positive_spans(from.positive_spans.len() as u32));
    write_spans(&from.negative_spans, to.reborrow().init_negative_spans(from.negative_spans.len() as u32));
    // Fails only for a list beyond 2^29 elements.
    let _ = to.set_positive_counts(&from.positive_counts[..]);
    let _ = to.set_negative_counts(&from.negative_counts[..]);
    let _ = to.set_custom_bounds(&from.custom_bounds[..]);
}

fn write_spans(from: &[Span], mut to: capnp::struct_list::Builder<'_, bucket_span::Owned>) {
    for (index, span) in from.iter().enumerate() {
        let mut written = to.reborrow().get(index as u32);
        written.set_offset(span.offset);
        written.set_length(span.length);
    }
}

/// Reads a histogram that anybody sent.
///
/// # Errors
///
/// [`Error::Invalid`] when it is none: see [`Histogram::check`].
pub fn read_histogram(from: native_histogram::Reader<'_>) -> Result<Histogram, Error> {
    let reset_hint = ResetHint::from_number(from.get_reset_hint())
        .ok_or_else(|| Invalid::new(format!("reset hint {} is not known", from.get_reset_hint())))?;
    let histogram = Histogram {
        schema: from.get_schema(),
        reset_hint,
        zero_threshold: from.get_zero_threshold(),
        zero_count: from.get_zero_count(),
        count: from.get_count(),
        sum: from.get_sum(),
        positive_spans: read_spans(from.get_positive_spans()?)?,
        positive_counts: read_numbers(from.get_positive_counts()?)?,
        negative_spans: read_spans(from.get_negative_spans()?)?,
        negative_counts: read_numbers(from.get_negative_counts()?)?,
        custom_bounds: read_numbers(from.get_custom_bounds()?)?,
    };
    histogram.check().map_err(|why| Invalid::new(format!("histogram: {why}")))?;
    Ok(histogram)
}

fn read_spans(from: capnp::struct_list::Reader<'_, bucket_span::Owned>) -> Result<Vec<Span>, Error> {
    ensure!(
        from.len() as usize <= BUCKETS_MAX,
        "{} spans of a histogram (at most {BUCKETS_MAX})",
        from.len()
    );
    Ok(from.iter().map(|span| Span { offset: span.get_offset(), length: span.get_length() }).collect())
}

fn read_numbers(from: capnp::primitive_list::Reader<'_, f64>) -> Result<Vec<f64>, Error> {
    ensure!(
        from.len() as usize <= BUCKETS_MAX,
        "{} buckets of a histogram (at most {BUCKETS_MAX})",
        from.len()
    );
    Ok(from.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(histogram: &Histogram) -> Result<Histogram, Error> {
        let mut message = capnp::message::Builder::new_default();
        write_histogram(histogram, message.init_root());
        read_histogram(message.get_root_as_reader()?)
    }

    #[test]
    fn a_histogram_comes_back_as_it_was() {
        let exponential = Histogram {
            schema: 3,
            reset_hint: ResetHint::NotReset,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 12.0,
            sum: f64::from_bits(lm_model::STALE_NAN_BITS),
            positive_spans: vec![Span { offset: -4, length: 2 }, Span { offset: 3, length: 1 }],
            positive_counts: vec![1.0, 2.0, 3.0],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            negative_counts: vec![4.0],
            custom_bounds: Vec::new(),
        };
        let back = sent(&exponential).unwrap();
        assert_eq!(back.sum.to_bits(), exponential.sum.to_bits());
        assert_eq!(Histogram { sum: 0.0, ..back }, Histogram { sum: 0.0, ..exponential });
        let custom = Histogram {
            schema: lm_model::CUSTOM_BUCKETS_SCHEMA,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_counts: vec![1.0, 2.0],
            custom_bounds: vec![0.5],
            ..Histogram::default()
        };
        assert_eq!(sent(&custom).unwrap(), custom);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let odd = Histogram { positive_counts: vec![1.0], ..Histogram::default() };
        let long = Histogram { custom_bounds: vec![0.0; BUCKETS_MAX + 1], ..Histogram::default() };
        for histogram in [odd, long, Histogram { schema: 9, ..Histogram::default() }] {
            assert!(matches!(sent(&histogram), Err(Error::Invalid(_))));
        }
        let mut message = capnp::message::Builder::new_default();
        message.init_root::<native_histogram::Builder<'_>>().set_reset_hint(4);
        assert!(read_histogram(message.get_root_as_reader().unwrap()).is_err());
    }
}
