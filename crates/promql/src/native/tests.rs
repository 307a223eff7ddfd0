use lm_model::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, Span};
use proptest::prelude::*;

use super::*;

fn histogram(schema: i8, offset: i32, counts: &[f64]) -> Histogram {
    Histogram {
        schema,
        count: counts.iter().sum(),
        sum: 1.0,
        positive_spans: vec![Span { offset, length: counts.len() as u32 }],
        positive_counts: counts.to_vec(),
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
    Histogram { custom_bounds: bounds.to_vec(), ..histogram(CUSTOM_BUCKETS_SCHEMA, 0, counts) }
}

fn sum(a: &Histogram, b: &Histogram) -> Histogram {
    let mut total = Total::new(a);
    total.add(b).expect("they are compatible");
    total.finish()
}

#[test]
fn sums_have_the_coarser_schema_and_common_bounds() {
    // Buckets (1, sqrt 2] and (sqrt 2, 2] become (1, 2].
    let found = sum(&histogram(1, 1, &[1.0, 2.0]), &histogram(0, 1, &[4.0, 8.0]));
    assert_eq!(found, Histogram { sum: 2.0, ..histogram(0, 1, &[7.0, 8.0]) });

    let found = sum(&custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0, 8.0]), &custom(&[1.0, 3.0], &[1.0, 1.0, 1.0]));
    assert_eq!(found, Histogram { sum: 2.0, ..custom(&[1.0, 3.0], &[2.0, 7.0, 9.0]) });

    let mut total = Total::new(&custom(&[1.0], &[1.0, 1.0]));
    assert_eq!(total.add(&histogram(0, 0, &[1.0])), Err(Incompatible));
}

#[test]
fn zero_buckets_grow_over_whole_buckets() {
    let narrow = Histogram { zero_threshold: 0.25, zero_count: 1.0, ..histogram(0, 0, &[2.0, 4.0]) };
    // 0.75 lies in (0.5, 1], which is populated, so the zero bucket ends at 1.
    let wide = Histogram { zero_threshold: 0.75, zero_count: 10.0, ..histogram(0, 1, &[20.0]) };
    for found in [sum(&narrow, &wide), sum(&wide, &narrow)] {
        assert_eq!((found.zero_threshold, found.zero_count), (1.0, 13.0));
        assert_eq!(found.positive_counts, [24.0]);
        assert_eq!(found.positive_spans, [Span { offset: 1, length: 1 }]);
    }
}

#[test]
fn hints_of_a_sum() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    for (a, b, expected, collide) in [
        (Reset, Reset, Reset, false),
        (Gauge, Reset, Gauge, false),
        (NotReset, Unknown, Unknown, false),
        (Reset, NotReset, Unknown, true),
    ] {
        let hinted = |reset_hint| Histogram { reset_hint, ..histogram(0, 0, &[1.0]) };
        let mut total = Total::new(&hinted(a));
        total.add(&hinted(b)).unwrap();
        assert_eq!(total.events.hints_collide, collide);
        assert_eq!(total.finish().reset_hint, expected);
    }
}

#[test]
fn resets_are_found() {
    let check = |before: &Histogram, now: &Histogram, expected: bool| {
        assert_eq!(is_reset(now, before), expected, "{before:?} {now:?}");
    };
    let base = histogram(0, 0, &[1.0, 2.0]);
    check(&base, &base, false);
    check(&base, &histogram(0, 0, &[1.0, 3.0]), false);
    // As many observations, but fewer in one bucket.
    check(&base, &histogram(0, 0, &[0.0, 3.0]), true);
    check(&base, &histogram(0, 1, &[9.0]), true);
    check(&histogram(0, 0, &[0.0, 2.0]), &histogram(0, 1, &[9.0]), false);
    check(&base, &histogram(1, 0, &[9.0, 9.0]), true);
    check(&histogram(1, 1, &[1.0, 2.0]), &histogram(0, 1, &[3.0]), false);
    check(&histogram(1, 1, &[1.0, 2.0]), &Histogram { count: 9.0, ..histogram(0, 1, &[2.0]) }, true);
    check(&base, &Histogram { reset_hint: ResetHint::Reset, ..base.clone() }, true);
    check(&base, &Histogram { reset_hint: ResetHint::NotReset, ..histogram(0, 0, &[0.0]) }, false);
    check(&base, &custom(&[1.0], &[9.0]), true);
    check(&custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]), &custom(&[2.0], &[2.0, 1.0]), false);
    check(&custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]), &custom(&[2.0], &[1.0, 2.0]), true);
}

#[test]
fn quantiles_interpolate() {
    let check = |q: f64, of: &Histogram, expected: f64| {
        let found = quantile(q, of).value;
        assert!((found - expected).abs() < 1e-12 || found == expected, "{q} {of:?}: {found}");
    };
    check(0.5, &histogram(0, 1, &[2.0]), std::f64::consts::SQRT_2);
    check(0.5, &custom(&[1.0, 3.0], &[0.0, 2.0, 0.0]), 2.0);
    check(0.5, &custom(&[1.0], &[0.0, 2.0]), 1.0);
    check(0.25, &custom(&[1.0], &[2.0, 0.0]), 0.25);
    check(-0.1, &histogram(0, 1, &[2.0]), f64::NEG_INFINITY);
    let zero = Histogram { zero_threshold: 0.5, zero_count: 2.0, count: 4.0, ..histogram(0, 1, &[2.0]) };
    check(0.25, &zero, 0.25);
    assert!(quantile(0.5, &histogram(0, 1, &[])).value.is_nan());
    let with_nans = Histogram { sum: f64::NAN, count: 4.0, ..histogram(0, 1, &[2.0]) };
    assert_eq!(quantile(0.25, &with_nans).nans, Nans::Skew);
    assert_eq!(quantile(0.75, &with_nans).nans, Nans::Decide);
}

#[test]
fn trimming_keeps_one_end() {
    let whole = Histogram { sum: 6.0, ..histogram(0, 1, &[1.0, 1.0, 1.0]) };
    let mut below = whole.clone();
    trim(&mut below, 4.0, Keep::Below);
    assert_eq!((below.count, below.positive_counts), (2.0, vec![1.0, 1.0]));
    let mut above = whole;
    trim(&mut above, 4.0, Keep::Above);
    assert_eq!((above.count, above.positive_counts), (1.0, vec![1.0]));
}

#[test]
fn histograms_are_shown() {
    let of = Histogram { zero_threshold: 0.5, zero_count: 2.0, ..histogram(0, 1, &[2.0, 0.0, 1.0]) };
    assert_eq!(render(&of), "{count:3, sum:1, [-0.5,0.5]:2, (1,2]:2, (4,8]:1}");
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let counts = prop::collection::vec(prop_oneof![Just(0.0), 0.0..50.0f64], 0..6);
    let spans = prop::collection::vec((-3i32..8, 0u32..4), 0..4);
    let number = || prop_oneof![0.0..4.0f64, Just(0.0), Just(f64::NAN), Just(f64::INFINITY)];
    let hint = (0u8..4).prop_map(|hint| ResetHint::from_number(hint).unwrap());
    let schema = prop_oneof![-4i8..=8, Just(CUSTOM_BUCKETS_SCHEMA), any::<i8>()];
    let sides = (spans.clone(), counts.clone(), spans, counts, prop::collection::vec(0.0..9.0f64, 0..4));
    (schema, hint, number(), number(), number(), number(), sides).prop_map(
        |(schema, reset_hint, zero_threshold, zero_count, count, sum, sides)| {
            let spans = |spans: Vec<(i32, u32)>| {
                spans.into_iter().map(|(offset, length)| Span { offset, length }).collect()
            };
            let (positive, positive_counts, negative, negative_counts, mut custom_bounds) = sides;
            custom_bounds.sort_by(f64::total_cmp);
            Histogram {
                schema,
                reset_hint,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive_spans: spans(positive),
                positive_counts,
                negative_spans: spans(negative),
                negative_counts,
                custom_bounds,
            }
        },
    )
}

proptest! {
    /// Whatever a histogram holds, even what `check` would refuse.
    #[test]
    fn nothing_panics(a in any_histogram(), b in any_histogram(), at in -9.0..9.0f64, q in -0.1..1.1f64) {
        let mut total = Total::new(&a);
        let _ = total.add(&b);
        let _ = total.sub(&a);
        let mut result = total.finish();
        let _ = (quantile(q, &a), fraction(at, at + 1.0, &a), variance(&a), render(&a), is_reset(&a, &b));
        trim(&mut result, at, Keep::Below);
        trim(&mut result, at, Keep::Above);
        compact(&mut result);
    }

    #[test]
    fn buckets_are_neither_lost_nor_doubled(
        a in prop::collection::vec(0u8..9, 1..40), offset_a in -20i32..20, schema_a in 0i8..4,
        b in prop::collection::vec(0u8..9, 1..40), offset_b in -20i32..20, schema_b in 0i8..4,
    ) {
        let floats = |counts: &[u8]| counts.iter().map(|count| f64::from(*count)).collect::<Vec<_>>();
        let (a, b) = (histogram(schema_a, offset_a, &floats(&a)), histogram(schema_b, offset_b, &floats(&b)));
        let found = sum(&a, &b);
        prop_assert_eq!(found.count, found.positive_counts.iter().sum::<f64>());
        prop_assert_eq!(found.schema, schema_a.min(schema_b));
        let mut back = Total::new(&found);
        back.sub(&b).unwrap();
        prop_assert_eq!(back.finish().positive_counts.iter().sum::<f64>(), a.count);
        prop_assert!(!is_reset(&found, &a) || schema_b < schema_a && is_reset(&found, &sum(&a, &histogram(schema_b, 0, &[]))));
    }

    #[test]
    fn shares_undo_quantiles(counts in prop::collection::vec(1u8..9, 1..20), q in 0.01..0.99f64, schema in 0i8..4) {
        let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
        let of = histogram(schema, -3, &counts);
        let share = fraction(f64::NEG_INFINITY, quantile(q, &of).value, &of).value;
        prop_assert!((share - q).abs() < 1e-9, "{} {}", share, q);
    }
}
