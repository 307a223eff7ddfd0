//! Native histograms as plain data: one sample that holds many buckets.
//!
//! The shape is that of Prometheus' `model/histogram.FloatHistogram`. Integer
//! histograms become this on the way in: counts up to 2^53 stay exact.

/// A schema that says: the bounds are [`Histogram::custom_bounds`] (Prometheus
/// `CustomBucketsSchema`).
pub const CUSTOM_BUCKETS_SCHEMA: i8 = -53;

/// The coarsest and the finest exponential schema. Of schema `s`, bucket `i`
/// holds values above `2^((i-1)/2^s)` up to `2^(i/2^s)`.
pub const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i8> = -4..=8;

/// What a histogram says about a reset of its counters before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResetHint {
    /// Compare with the one before.
    #[default]
    Unknown = 0,
    Reset = 1,
    NotReset = 2,
    /// Not a counter at all.
    Gauge = 3,
}

impl ResetHint {
    pub fn from_number(number: u8) -> Option<ResetHint> {
        [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge]
            .get(usize::from(number))
            .copied()
    }
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Buckets left out before this run; of the first span the index of its
    /// first bucket.
    pub offset: i32,
    /// Buckets of the run.
    pub length: u32,
}

/// A native histogram. Plain data: nothing here says that it makes sense, see
/// [`Histogram::check`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// One of [`EXPONENTIAL_SCHEMAS`] or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i8,
    pub reset_hint: ResetHint,
    /// Values in `[-zero_threshold, zero_threshold]` are in the zero bucket.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    /// NaN of the staleness marker's bits ends the series.
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    /// Absolute counts of the buckets in the spans, in order.
    pub positive_counts: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative_counts: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without `+Inf`.
    pub custom_bounds: Vec<f64>,
}

/// Buckets that one histogram may have on each side.
pub const BUCKETS_MAX: usize = 4096;

impl Histogram {
    /// What makes this no histogram, if something does: an unknown schema,
    /// spans that do not fit the counts, too many buckets, custom bounds where
    /// none belong or that do not ascend.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        if !is_custom && !EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return Err("the schema is none of -4 to 8 and -53");
        }
        for (spans, counts) in
            [(&self.positive_spans, &self.positive_counts), (&self.negative_spans, &self.negative_counts)]
        {
            if counts.len() > BUCKETS_MAX || spans.len() > BUCKETS_MAX {
                return Err("more than 4096 buckets");
            }
            let buckets: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
            if buckets != counts.len() as u64 {
                return Err("the spans have another number of buckets than there are counts");
            }
            if spans.iter().skip(1).any(|span| span.offset < 0) {
                return Err("a span after the first has a negative offset");
            }
            let ends = spans.iter().try_fold(0i32, |end, span| {
                end.checked_add(span.offset)?.checked_add(i32::try_from(span.length).ok()?)
            });
            let Some(end) = ends else { return Err("a bucket's index is out of range") };
            let first = spans.first().map_or(0, |span| span.offset);
            if is_custom && (first < 0 || end as usize > self.custom_bounds.len() + 1) {
                return Err("a bucket has no custom bound");
            }
        }
        if is_custom {
            if !self.negative_spans.is_empty() || self.zero_count != 0.0 || self.zero_threshold != 0.0 {
                return Err("custom buckets go with no negative and no zero bucket");
            }
            if self.custom_bounds.len() > BUCKETS_MAX {
                return Err("more than 4096 buckets");
            }
            let ascends = self.custom_bounds.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || self.custom_bounds.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
                return Err("custom bounds do not ascend below +Inf");
            }
        } else if !self.custom_bounds.is_empty() {
            return Err("custom bounds without their schema");
        }
        Ok(())
    }

    /// Whether this is the marker that ends a series.
    pub fn is_stale(&self) -> bool {
        crate::is_stale(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = Histogram {
            positive_spans: vec![span(-3, 2), span(1, 1)],
            positive_counts: vec![1.0, 2.0, 3.0],
            ..Histogram::default()
        };
        assert_eq!(good.check(), Ok(()));
        let custom = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans: vec![span(0, 3)],
            positive_counts: vec![1.0, 2.0, 3.0],
            custom_bounds: vec![0.5, 1.0],
            ..Histogram::default()
        };
        assert_eq!(custom.check(), Ok(()));
        let bad = [
            Histogram { schema: 9, ..good.clone() },
            Histogram { positive_counts: vec![1.0], ..good.clone() },
            Histogram { positive_spans: vec![span(0, 2), span(-1, 1)], ..good.clone() },
            Histogram { positive_spans: vec![span(i32::MAX, 2), span(0, 1)], ..good.clone() },
            Histogram { positive_spans: vec![span(0, u32::MAX), span(0, 4)], ..good.clone() },
            Histogram { custom_bounds: vec![1.0], ..good.clone() },
            Histogram { custom_bounds: vec![0.5], ..custom.clone() },
            Histogram { custom_bounds: vec![1.0, 0.5], ..custom.clone() },
            Histogram { custom_bounds: vec![0.5, f64::INFINITY], ..custom.clone() },
            Histogram { zero_count: 1.0, ..custom.clone() },
        ];
        for histogram in bad {
            assert!(histogram.check().is_err(), "{histogram:?}");
        }
    }
}
