use std::ops::ControlFlow;

use lm_fs::fault::{Damage as Harm, random};
use lm_model::{MatchOp, Matcher};

use super::*;
use crate::block::{Deletion, MergeOptions, Merged, Output, merge, merge_samples};

/// Blocks of one disk, from models in order of generation.
fn blocks(fs: &FaultFs, models: &[Model]) -> Vec<Block<FaultFs>> {
    let cache = Arc::new(PageCache::new(1 << 20));
    let one = |(at, model): (usize, &Model)| {
        let path = path(&format!("source-{at}"));
        let compression = if at.is_multiple_of(2) { Compression::Fast } else { Compression::Small };
        write(fs, &path, &meta(at as u64), compression, model).expect("the disk works");
        Block::open(fs, &path, cache.clone()).expect("it was written above")
    };
    models.iter().enumerate().map(one).collect()
}

fn output(name: &str, id: u64, range: TimeRange) -> Output {
    Output { path: path(name), meta: meta(id), range, compression: Compression::Small }
}

fn go_on(_: crate::block::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

type Points = BTreeMap<(Labels, i64), String>;

fn points(model: &Model) -> impl Iterator<Item = ((Labels, i64), String)> + '_ {
    model.iter().flat_map(|(labels, samples)| {
        shown(samples).into_iter().map(|(time, value)| ((labels.clone(), time), value))
    })
}

fn points_of(block: &Block<FaultFs>) -> Points {
    let mut points = Points::new();
    let mut samples = Samples::default();
    for series in 0..block.series_count() {
        samples.clear();
        block.read(series, TimeRange::ALL, &mut samples).expect("the block is sound");
        let labels = block.labels(series).expect("the block is sound");
        points.extend(shown(&samples).into_iter().map(|(time, value)| ((labels.clone(), time), value)));
    }
    points
}

/// Models that overlap: each has a random part of the samples, some of them changed.
fn overlapping(seed: u64, count: u64) -> Vec<Model> {
    let whole = model(seed, 8, 60);
    let mut rng = seed;
    (0..count)
        .map(|_| {
            let mut part = Model::new();
            for (labels, samples) in &whole {
                if random(&mut rng).is_multiple_of(4) {
                    continue;
                }
                let mut kept = Samples::default();
                for (time, value) in samples.times.iter().zip(&samples.values) {
                    match random(&mut rng) % 8 {
                        0..4 => {}
                        4 => kept.push(Timestamp::from_millis(*time), *value + 1.0),
                        _ => kept.push(Timestamp::from_millis(*time), *value),
                    }
                }
                for one in &samples.histograms {
                    if random(&mut rng).is_multiple_of(2) {
                        kept.histograms.push(one.clone());
                    }
                }
                part.insert(labels.clone(), kept);
            }
            part
        })
        .collect()
}

#[test]
fn a_merge_is_the_models_merge() {
    for seed in 0..12 {
        let models = overlapping(seed, 1 + seed % 5);
        let fs = FaultFs::new(0);
        let sources = blocks(&fs, &models);
        let middle = 1_700_000_000_000 + 400_000;
        let end = middle + 300_000;
        let retain_from = 1_700_000_000_000 + 60_000;
        let deletion = Deletion {
            matchers: vec![Matcher::new("instance", MatchOp::Re, "node-00[23].*")],
            range: range(middle - 100_000, middle + 100_000),
            generation_through: 2,
        };
        let options = MergeOptions {
            deletions: vec![deletion.clone()],
            retain_from: Some(Timestamp::from_millis(retain_from)),
        };
        let outputs =
            [output("early", 100, range(i64::MIN, middle)), output("late", 101, range(middle, end))];
        let reversed: Vec<&Block<FaultFs>> = sources.iter().rev().collect();
        let merged = merge(&fs, &reversed, &outputs, &options, &mut go_on).expect("the sources are sound");

        let (mut expected, mut count) = (Points::new(), Merged::default());
        for (generation, model) in models.iter().enumerate() {
            for ((labels, time), value) in points(model) {
                let is_matched = labels
                    .get("instance")
                    .is_some_and(|name| name.starts_with("node-002") || name.starts_with("node-003"));
                if is_matched && deletion.range.contains(Timestamp::from_millis(time)) && generation <= 2 {
                    count.deleted += 1;
                } else if time < retain_from {
                    count.expired += 1;
                } else if let Some(older) = expected.get(&(labels.clone(), time)) {
                    *(if *older == value { &mut count.duplicates } else { &mut count.conflicts }) += 1;
                } else {
                    expected.insert((labels, time), value);
                }
            }
        }
        count.outside = expected.keys().filter(|(_, time)| *time >= end).count() as u64;
        expected.retain(|(_, time), _| *time < end);
        let numbers = |merged: &Merged| {
            [merged.duplicates, merged.conflicts, merged.deleted, merged.expired, merged.outside]
        };
        assert_eq!(numbers(&merged), numbers(&count), "seed {seed}");
        assert!(merged.damage.is_empty());
        let mut found = Points::new();
        for (output, stats) in outputs.iter().zip(&merged.blocks) {
            let Some(stats) = stats else { continue };
            let block =
                Block::open(&fs, &output.path, Arc::new(PageCache::new(1 << 20))).expect("it was merged");
            assert_eq!(block.stats(), stats);
            assert_eq!(block.meta(), &output.meta);
            let points = points_of(&block);
            assert!(points.keys().all(|(_, time)| output.range.contains(Timestamp::from_millis(*time))));
            found.extend(points);
        }
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn an_output_without_samples_makes_no_file() {
    let fs = FaultFs::new(0);
    let sources = blocks(&fs, &overlapping(1, 2));
    let sources: Vec<&Block<FaultFs>> = sources.iter().collect();
    let outputs = [output("nothing", 100, range(0, 1)), output("all", 101, range(1, i64::MAX))];
    let merged =
        merge(&fs, &sources, &outputs, &MergeOptions::default(), &mut go_on).expect("the sources are sound");
    assert_eq!(merged.blocks[0], None);
    assert!(merged.blocks[1].is_some());
    assert_eq!(fs.files(), [path("all"), path("source-0"), path("source-1")]);
}

#[test]
fn a_merge_that_is_cancelled_leaves_no_file() {
    let fs = FaultFs::new(0);
    let one = |at: usize| Samples { times: vec![at as i64], values: vec![1.0], histograms: Vec::new() };
    let model: Model = (0..5000).map(|at| (labels(&[("id", &format!("{at:05}"))]), one(at))).collect();
    let sources = blocks(&fs, &[model]);
    let mut calls = Vec::new();
    let mut progress = |progress: crate::block::Progress| {
        calls.push(progress);
        if calls.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outputs = [output("merged", 100, TimeRange::ALL)];
    let outcome = merge(&fs, &[&sources[0]], &outputs, &MergeOptions::default(), &mut progress);
    assert!(matches!(outcome, Err(Error::Cancelled)));
    assert_eq!(fs.files(), [path("source-0")]);
    let series: Vec<u64> = calls.iter().map(|progress| progress.series).collect();
    assert_eq!(series, [1024, 2048, 3072]);
    assert!(calls.iter().all(|progress| progress.series_total == 5000));
}

/// A merge of a damaged source says what is lost, and keeps the rest.
#[test]
fn damage_costs_a_merge_only_what_it_says() {
    let models = [model(1, 8, 30), model(2, 8, 30)];
    let all: [Points; 2] = [points(&models[0]).collect(), points(&models[1]).collect()];
    let fs = FaultFs::new(0);
    drop(blocks(&fs, &models));
    let bytes = fs.contents(&path("source-1")).expect("it was written above").len() as u64;
    let mut rng = 3;
    let mut damaged = 0;
    for case in 0..60 {
        let fs = fs.fork();
        let offset = random(&mut rng) % bytes;
        fs.damage(&path("source-1"), Harm::Flip { offset, mask: 1 << (random(&mut rng) % 8) });
        let open = |name: &str| Block::open(&fs, &path(name), Arc::new(PageCache::new(1 << 20)));
        let Ok(harmed) = open("source-1") else { continue };
        let sound = open("source-0").expect("nothing happened to it");
        let deletion = Deletion {
            matchers: vec![Matcher::new("instance", MatchOp::Eq, "node-003:9100")],
            range: TimeRange::ALL,
            generation_through: 9,
        };
        let options = MergeOptions { deletions: vec![deletion], retain_from: None };
        let outputs = [output("merged", 100, TimeRange::ALL)];
        let merged =
            merge(&fs, &[&sound, &harmed], &outputs, &options, &mut go_on).expect("damage ends no merge");
        damaged += usize::from(!merged.damage.is_empty());
        let found = points_of(&open("merged").expect("it was merged"));
        let mut expected = all[1].clone();
        expected.extend(all[0].clone());
        expected.retain(|(labels, _), _| labels.get("instance") != Some("node-003:9100"));
        for (point, value) in &found {
            // Where the older source lost a sample, that of the newer one shows.
            let is_true = all.iter().any(|points| points.get(point) == Some(value));
            assert!(is_true && expected.contains_key(point), "case {case}: {point:?}");
        }
        let order: Vec<&Labels> =
            models[1].iter().filter(|(_, samples)| !samples.is_empty()).map(|(labels, _)| labels).collect();
        for ((labels, time), _) in expected.iter().filter(|(point, _)| !found.contains_key(*point)) {
            let series =
                order.iter().position(|known| *known == labels).expect("only source 1 lost something") as u32;
            let is_declared = merged.damage.iter().any(|(source, damage)| {
                *source == 1
                    && damage.series.contains(&series)
                    && damage.times.contains(Timestamp::from_millis(*time))
            });
            assert!(is_declared, "case {case}: {labels} at {time} lost without a word: {:?}", merged.damage);
        }
    }
    assert!(damaged > 20, "only {damaged} merges met damage");
}

#[test]
fn of_equal_times_the_older_source_wins_whatever_the_type() {
    let numbers = |times: &[i64], value: f64| Samples {
        times: times.to_vec(),
        values: vec![value; times.len()],
        histograms: Vec::new(),
    };
    let mut histograms = Samples::default();
    for time in [2, 3, 5] {
        let histogram = Histogram { sum: stale_nan(), ..Histogram::default() };
        histograms.histograms.push((Timestamp::from_millis(time), Arc::new(histogram)));
    }
    let (older, same, newer) = (numbers(&[1, 2, 4], 1.0), numbers(&[1, 9], 1.0), numbers(&[1, 5], 2.0));
    let mut merged = Samples::default();
    assert_eq!(merge_samples(&[&older, &histograms, &same, &newer, &histograms], &mut merged), (3, 4));
    assert_eq!(merged.times, [1, 2, 4, 9]);
    assert_eq!(merged.values, [1.0; 4]);
    assert_eq!(merged.histograms.iter().map(|one| one.0.as_millis()).collect::<Vec<_>>(), [3, 5]);
}
