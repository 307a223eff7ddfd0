//! Every bit pattern comes back; no bytes whatsoever make a decoder panic.

use std::sync::Arc;

use lm_model::{Histogram, ResetHint, Span, Timestamp, stale_nan};
use proptest::prelude::*;

use super::group::{Builder, Group, Width};
use super::values::{Encoder, Split};
use super::{RUN_SAMPLES_MAX, histograms, ints, values};

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Encodes a run alone, decodes it, and says in how many bytes.
fn through_alone(run: &[f64]) -> usize {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    match encoder.split(run) {
        Split::Straight => encoder.head.put(true, &mut bytes),
        Split::Ints(_) => {
            values::put_varints(&encoder.head, encoder.residuals().expect("it has residuals"), &mut bytes);
        }
        Split::Floats => values::put_floats(run, &mut bytes),
    }
    let mut decoded = vec![7.0];
    values::decode(&bytes, run.len(), &mut decoded).expect("it was encoded above");
    assert_eq!(bits(&decoded[1..]), bits(run));
    bytes.len()
}

/// Encodes runs as one group and decodes each of them, in whole and in part.
fn through_group(runs: &[Vec<f64>]) {
    let mut encoder = Encoder::default();
    let splits: Vec<Split> = runs.iter().map(|run| encoder.split(run)).collect();
    let width = splits
        .iter()
        .map(|split| match split {
            Split::Ints(about) => Width::of(about.largest),
            _ => Width::F64,
        })
        .max()
        .expect("there are runs");
    let mut builder = Builder::new(width);
    let mut grouped = Vec::new();
    for run in runs {
        match (encoder.split(run), width) {
            (_, Width::F64) => grouped.push((builder.push_floats(run), run)),
            (Split::Ints(_), _) => {
                let residuals = encoder.residuals().expect("it has residuals");
                grouped.push((builder.push_ints(&encoder.head, residuals), run));
            }
            _ => {}
        }
    }
    let group = Group::parse(builder.finish()).expect("it was encoded above");
    for (place, run) in grouped {
        let mut decoded = vec![7.0];
        group.decode(place, run.len(), run.len(), &mut decoded).expect("it was encoded above");
        assert_eq!(bits(&decoded[1..]), bits(run));
        let part = run.len() / 2;
        decoded.clear();
        group.decode(place, run.len(), part, &mut decoded).expect("it was encoded above");
        assert_eq!(bits(&decoded[..part]), bits(&run[..part]));
        assert!(group.decode(place, run.len() + 1, 1, &mut decoded).is_err(), "another length");
    }
}

/// Values of all kinds: any bits, decimals, integers, edges.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(f64::from),
        (any::<i32>(), 0..15).prop_map(|(int, exponent)| f64::from(int) / 10f64.powi(exponent)),
        any::<i64>().prop_map(|int| int as f64),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            0.1,
            (1u64 << 51) as f64,
            -((1u64 << 51) as f64),
            ((1u64 << 51) - 1) as f64,
            (1u64 << 53) as f64,
            1e22,
            1e23,
        ]),
        Just(stale_nan()),
    ]
}

/// A run that mostly is of one kind, as series are.
fn run() -> impl Strategy<Value = Vec<f64>> {
    let of_one_kind = (0u8..6, any::<i32>(), prop::collection::vec(any::<i16>(), 1..700)).prop_map(
        |(kind, base, steps)| {
            let mut sum = f64::from(base);
            let step = |step: &i16| {
                sum += f64::from(step.unsigned_abs());
                match kind {
                    0 => sum,
                    1 => sum / 100.0,
                    2 => f64::from(base) + f64::from(*step) * 4096.0,
                    3 => f64::from(*step).sqrt(),
                    4 => f64::from(base),
                    _ => f64::from(base) + sum.round() * 30.0,
                }
            };
            steps.iter().map(step).collect::<Vec<f64>>()
        },
    );
    let strange = prop::collection::vec((any::<prop::sample::Index>(), value()), 0..4);
    prop_oneof![
        prop::collection::vec(value(), 1..100),
        (of_one_kind, strange).prop_map(|(mut run, strange)| {
            for (at, value) in strange {
                let at = at.index(run.len());
                run[at] = value;
            }
            run
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn runs_come_back(run in run()) {
        through_alone(&run);
    }

    #[test]
    fn groups_come_back(runs in prop::collection::vec(run(), 1..6)) {
        through_group(&runs);
    }

    #[test]
    fn integers_come_back(column in prop_oneof![
        prop::collection::vec(any::<i64>(), 1..50),
        (any::<i64>(), any::<i32>(), 1..100usize).prop_map(|(first, step, len)| {
            (0..len).map(|at| first.wrapping_add(i64::from(step).wrapping_mul(at as i64))).collect()
        }),
    ]) {
        let mut bytes = Vec::new();
        ints::encode(&mut column.clone(), &mut bytes);
        let mut decoded = Vec::new();
        ints::decode(&bytes, column.len(), &mut decoded).expect("it was encoded above");
        prop_assert_eq!(decoded, column);
    }

    #[test]
    fn histograms_come_back(run in prop::collection::vec(histogram(), 1..20), repeat in 1..4usize) {
        let run: Vec<(Timestamp, Arc<Histogram>)> = run
            .iter()
            .flat_map(|one| std::iter::repeat_n(one, repeat))
            .map(|one| (Timestamp::default(), Arc::new(one.clone())))
            .collect();
        let mut bytes = Vec::new();
        prop_assert_eq!(histograms::encode(&run, &mut bytes), run.len());
        let decoded = histograms::decode(&bytes, run.len()).expect("it was encoded above");
        let shown = |one: &Histogram| format!("{one:?} {:x}", one.sum.to_bits());
        for (decoded, (_, encoded)) in decoded.iter().zip(&run) {
            prop_assert_eq!(shown(decoded), shown(encoded));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0..5000usize) {
        let (mut floats, mut integers) = (Vec::new(), Vec::new());
        let _ = values::decode(&bytes, count, &mut floats);
        let _ = ints::decode(&bytes, count, &mut integers);
        let _ = histograms::decode(&bytes, count);
        if let Ok(group) = Group::parse(bytes) {
            let _ = group.decode(0, count, count, &mut floats);
        }
        prop_assert!(floats.len() <= 3 * RUN_SAMPLES_MAX && integers.len() <= RUN_SAMPLES_MAX);
    }

    /// Bytes that are nearly right go further into a decoder than random ones.
    #[test]
    fn damaged_groups_are_refused_or_decoded(
        runs in prop::collection::vec(run(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut encoder = Encoder::default();
        let mut builder = Builder::new(Width::I64);
        let mut floats = Builder::new(Width::F64);
        for run in &runs {
            floats.push_floats(run);
            if let Split::Ints(_) = encoder.split(run) {
                builder.push_ints(&encoder.head, encoder.residuals().expect("it has residuals"));
            }
        }
        builder.push_ints(&encoder.head, &[1, 2, 3]);
        for mut bytes in [builder.finish(), floats.finish()] {
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let Ok(group) = Group::parse(bytes) else { continue };
            for (place, run) in runs.iter().enumerate() {
                let _ = group.decode(place, run.len(), run.len(), &mut Vec::new());
            }
        }
    }
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let spans = prop::collection::vec((-100..100i32, 0..4u32), 0..4);
    let counts = prop_oneof![
        prop::collection::vec((0..1000u32).prop_map(f64::from), 0..8),
        prop::collection::vec(any::<f64>(), 0..8),
    ];
    let scalars = (any::<i8>(), 0..4u8, any::<f64>(), value(), 0..1_000_000u64, value());
    (scalars, spans.clone(), spans, counts.clone(), counts, prop::collection::vec(any::<f64>(), 0..3))
        .prop_map(
            |(
                (schema, hint, zero_threshold, zero_count, count, sum),
                positive,
                negative,
                positives,
                negatives,
                bounds,
            )| {
                let spans = |spans: Vec<(i32, u32)>| {
                    spans.into_iter().map(|(offset, length)| Span { offset, length }).collect()
                };
                Histogram {
                    schema,
                    reset_hint: ResetHint::from_number(hint).expect("hints are 0 to 3"),
                    zero_threshold,
                    zero_count,
                    count: count as f64,
                    sum,
                    positive_spans: spans(positive),
                    positive_counts: positives,
                    negative_spans: spans(negative),
                    negative_counts: negatives,
                    custom_bounds: bounds,
                }
            },
        )
}

#[test]
fn what_a_run_costs() {
    let counter = |step: f64| (0..100).map(|at| 1e9 + step * f64::from(at)).collect::<Vec<_>>();
    assert_eq!(through_alone(&[3.5; 100]), 3, "a constant: tag, first, step");
    assert_eq!(through_alone(&counter(7.0)), 8, "a straight line");
    let mut stale = vec![3.5; 100];
    stale[99] = stale_nan();
    assert_eq!(through_alone(&stale), 13, "a staleness marker: count, place, bits");
    let decimals: Vec<f64> = (0..100).map(|at| f64::from(at * 7 % 11) / 100.0).collect();
    assert_eq!(through_alone(&decimals), 102, "decimals: a byte for each but the first, and the head");
    let multiples: Vec<f64> = (0..100).map(|at| f64::from(at * at % 17) * 4096.0).collect();
    assert_eq!(through_alone(&multiples), 104, "multiples: the unit takes two bytes");
}

#[test]
fn a_million_random_bit_patterns_come_back() {
    let mut state = 42;
    for _ in 0..250 {
        let run: Vec<f64> =
            (0..RUN_SAMPLES_MAX).map(|_| f64::from_bits(lm_fs::fault::random(&mut state))).collect();
        through_alone(&run);
    }
}
