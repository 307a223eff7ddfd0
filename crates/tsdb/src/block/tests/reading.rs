use std::collections::BTreeSet;
use std::sync::Arc;

use lm_fs::fault::random;
use lm_model::{MatchOp, Matcher};

use super::*;
use crate::selector::Selector;

/// Everything that a block answers is what the model says.
fn check(block: &Block<FaultFs>, model: &Model, seed: u64) {
    let model: Vec<(&Labels, &Samples)> = model.iter().filter(|(_, samples)| !samples.is_empty()).collect();
    let stats = block.stats();
    assert_eq!(stats.series, model.len() as u64);
    assert_eq!(stats.samples, model.iter().map(|(_, samples)| samples.len() as u64).sum::<u64>());
    let all = block.select(&Selector::all(), TimeRange::ALL).expect("the block is sound");
    assert_eq!(all, (0..model.len() as u32).collect::<Vec<_>>());
    let mut rng = seed;
    let mut samples = Samples::default();
    for (at, (labels, expected)) in model.iter().enumerate() {
        assert_eq!(block.labels(at as u32).expect("the block is sound"), **labels);
        samples.clear();
        block.read(at as u32, TimeRange::ALL, &mut samples).expect("the block is sound");
        assert_eq!(shown(&samples), shown(expected), "{labels}");
        let first = block.times().start.as_millis();
        let span = (block.times().end.as_millis() - first) as u64;
        let start = first + (random(&mut rng) % span) as i64;
        let part = range(start, start + (random(&mut rng) % span) as i64);
        samples.clear();
        block.read(at as u32, part, &mut samples).expect("the block is sound");
        let mut within = shown(expected);
        within.retain(|(time, _)| part.contains(Timestamp::from_millis(*time)));
        assert_eq!(shown(&samples), within, "{labels} in {part:?}");
    }
    block.verify(|error| panic!("{error}")).expect("the block is sound");
}

#[test]
fn a_block_answers_as_the_model() {
    for (seed, scrapes) in [(1, 1), (2, 20), (3, 240), (4, 500)] {
        for compression in [Compression::Fast, Compression::Small] {
            let model = model(seed, 12, scrapes);
            let (_fs, block) = block(seed, compression, &model);
            check(&block, &model, seed);
            assert_eq!(block.meta(), &meta(seed));
        }
    }
}

#[test]
fn a_long_series_has_many_runs() {
    let times = (0..10_000).map(|at| at * 1000 + at % 3);
    let values = (0..10_000u64).map(|at| (at * at % 1013) as f64);
    let long = Samples { times: times.collect(), values: values.collect(), histograms: Vec::new() };
    let model = Model::from([(labels(&[("a", "1")]), long), (labels(&[("a", "2")]), Samples::default())]);
    let (_fs, block) = block(1, Compression::Small, &model);
    check(&block, &model, 1);
}

#[test]
fn an_empty_block_has_nothing() {
    let (_fs, block) = block(1, Compression::Small, &Model::new());
    assert!(block.select(&Selector::all(), TimeRange::ALL).expect("the block is sound").is_empty());
    assert!(block.times().is_empty());
    assert!(block.label_names(&Selector::all(), TimeRange::ALL).expect("the block is sound").is_empty());
}

#[test]
fn matchers_select_as_they_do_one_by_one() {
    let model = model(5, 40, 10);
    let (_fs, block) = block(1, Compression::Fast, &model);
    let all: Vec<&Labels> =
        model.iter().filter(|(_, samples)| !samples.is_empty()).map(|(labels, _)| labels).collect();
    use MatchOp::{Eq, Ne, Nre, Re};
    let tests: Vec<Matcher> = [
        ("__name__", Eq, "metric_1"),
        ("__name__", Re, "metric_1|metric_2|nothing"),
        ("__name__", Re, "metric_1.*"),
        ("__name__", Nre, "metric_1.*"),
        ("__name__", Re, "m.*_[3-5]"),
        ("instance", Eq, "node-003:9100"),
        ("instance", Ne, "node-003:9100"),
        ("instance", Re, "node-00[0-4]:.*"),
        ("instance", Nre, "node-0[0-2].:9100"),
        ("device", Eq, ""),
        ("device", Ne, ""),
        ("device", Eq, "dev1"),
        ("device", Ne, "dev1"),
        ("device", Re, "dev[12]|"),
        ("device", Nre, "dev[12]|"),
        ("device", Re, ".+"),
        ("device", Re, ".*"),
        ("device", Nre, ".*"),
        ("device", Re, "|x"),
        ("job", Eq, "node"),
        ("job", Nre, "n.*"),
        ("absent", Eq, "x"),
        ("absent", Ne, "x"),
        ("absent", Re, ""),
    ]
    .map(|(name, op, value)| Matcher::new(name, op, value))
    .into();
    let mut rng = 9;
    let one_each = (0..tests.len()).map(|at| vec![tests[at].clone()]);
    let some = (0..300).map(|_| {
        let count = 1 + random(&mut rng) % 4;
        (0..count).map(|_| tests[random(&mut rng) as usize % tests.len()].clone()).collect()
    });
    for matchers in one_each.chain(some.collect::<Vec<Vec<Matcher>>>()) {
        let selector = Selector::new(&matchers).expect("the matchers are valid");
        let accepted =
            |labels: &Labels| selector.accepts(|name| labels.get(name).unwrap_or("").to_owned().leak());
        let expected: Vec<&Labels> = all.iter().copied().filter(|labels| accepted(labels)).collect();
        let selected = block.select(&selector, TimeRange::ALL).expect("the block is sound");
        let found: Vec<Labels> =
            selected.iter().map(|series| block.labels(*series).expect("the block is sound")).collect();
        let shown: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{shown:?}");
        let names: BTreeSet<&str> =
            expected.iter().flat_map(|labels| labels.iter().map(|pair| pair.0)).collect();
        let answer = block.label_names(&selector, TimeRange::ALL).expect("the block is sound");
        assert_eq!(answer.iter().map(|name| &**name).collect::<BTreeSet<_>>(), names, "{shown:?}");
        let devices: BTreeSet<&str> = expected.iter().filter_map(|labels| labels.get("device")).collect();
        let answer = block.label_values("device", &selector, TimeRange::ALL).expect("the block is sound");
        assert_eq!(answer.iter().map(|value| &**value).collect::<BTreeSet<_>>(), devices, "{shown:?}");
    }
}

#[test]
fn many_values_of_one_label_fill_many_pages() {
    let one = |at: usize| Samples { times: vec![at as i64], values: vec![1.0], histograms: Vec::new() };
    let series =
        |at: usize| labels(&[("a", "x"), ("id", &format!("{at:08}-{at:08}")), ("z", &format!("{}", at % 7))]);
    let model: Model = (0..20_000).map(|at| (series(at), one(at))).collect();
    let (_fs, block) = block(1, Compression::Small, &model);
    for at in [0, 1, 9_999, 19_999] {
        let id = format!("{at:08}-{at:08}");
        let selector = Selector::new(&[Matcher::new("id", MatchOp::Eq, &*id)]).expect("the matcher is valid");
        assert_eq!(block.select(&selector, TimeRange::ALL).expect("the block is sound"), [at as u32]);
        let outside = range(at + 1, 1 << 40);
        assert!(block.select(&selector, outside).expect("the block is sound").is_empty(), "other times");
    }
    let thousand =
        Selector::new(&[Matcher::new("id", MatchOp::Re, "00001.*")]).expect("the matcher is valid");
    assert_eq!(block.select(&thousand, TimeRange::ALL).expect("the block is sound").len(), 1000);
    assert_eq!(
        block.label_values("id", &Selector::all(), TimeRange::ALL).expect("the block is sound").len(),
        20_000
    );
    let mut counts = Vec::new();
    block
        .visit_value_counts("z", |value, count| counts.push((value.to_owned(), count)))
        .expect("the block is sound");
    assert_eq!(counts[0], ("0".to_owned(), 2858));
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 20_000);
    let names: Vec<_> = block.name_counts().collect();
    assert_eq!(names, [("a", 1, 20_000), ("id", 20_000, 20_000), ("z", 7, 20_000)]);
    assert!(block.resident_bytes() < 100 * 20_000, "{} bytes", block.resident_bytes());
}

#[test]
fn series_of_one_scrape_share_their_timestamps() {
    let (_fs, block) = block(1, Compression::Small, &model(6, 10, 100));
    // 14 shapes; those with gaps in the middle have columns of their own, those that begin late or end early none.
    let columns = block.stats().columns;
    assert!((20..=40).contains(&columns), "{columns} columns of 10 hosts");
}

#[test]
fn the_cache_keeps_its_bound() {
    let model = model(7, 30, 200);
    let fs = FaultFs::new(0);
    write(&fs, &path("block"), &meta(1), Compression::Small, &model).expect("the disk works");
    let cache = Arc::new(PageCache::new(256 << 10));
    let block = Block::open(&fs, &path("block"), cache.clone()).expect("it was written above");
    check(&block, &model, 7);
    let stats = cache.stats();
    assert!(stats.bytes <= stats.bytes_max && stats.bytes > 0, "{stats:?}");
    cache.forget(2);
    assert!(cache.stats().bytes > 0, "another block's");
    cache.forget(1);
    assert_eq!(cache.stats().bytes, 0);
    let none = open(&fs, 0).expect("it was written above");
    check(&none, &model, 7);
}
