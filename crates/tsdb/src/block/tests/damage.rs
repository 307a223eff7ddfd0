//! Hostile disks: whatever happens to a file, what comes out is right or declared.

use std::collections::BTreeMap;

use lm_fs::fault::{Damage as Harm, random};
use lm_model::{MatchOp, Matcher};

use super::*;
use crate::block::Part;
use crate::block::format::{self, Directory, TRAILER_BYTES};
use crate::selector::Selector;

fn harm(rng: &mut u64, file_bytes: u64) -> Harm {
    // The header is a small part of the file.
    let offset = random(rng) % if random(rng).is_multiple_of(32) { 32 } else { file_bytes };
    match random(rng) % 8 {
        0..5 => Harm::Flip { offset, mask: 1 << (random(rng) % 8) },
        5 => Harm::Zero { offset, len: 1 + random(rng) % 512 },
        6 => Harm::Zero { offset, len: 1 + random(rng) % 16 },
        _ => Harm::Truncate { len: offset },
    }
}

/// 1,200 corruptions: what is damaged says so and names its series and times; nothing else is lost.
#[test]
fn damage_is_declared_and_neighbours_are_read() {
    let model = model(1, 12, 40);
    let expected: Vec<(&Labels, Vec<(i64, String)>)> = model
        .iter()
        .filter(|(_, samples)| !samples.is_empty())
        .map(|(labels, samples)| (labels, shown(samples)))
        .collect();
    let hosts = Matcher::new("instance", MatchOp::Re, "node-00[2-5].*");
    let hosts = Selector::new(&[hosts]).expect("the matcher is valid");
    let of_hosts: Vec<u32> = (0u32..)
        .zip(&expected)
        .filter(|(_, (labels, _))| {
            hosts.accepts(|name| if name == "instance" { labels.get(name).unwrap_or("") } else { "" })
        })
        .map(|(series, _)| series)
        .collect();
    let fs = FaultFs::new(0);
    write(&fs, &path("block"), &meta(1), Compression::Small, &model).expect("the disk works");
    let file_bytes = fs.contents(&path("block")).expect("it was written above").len() as u64;
    let mut rng = 7;
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for case in 0..1200 {
        let fs = fs.fork();
        let harm = harm(&mut rng, file_bytes);
        if !fs.damage(&path("block"), harm) {
            continue;
        }
        let block = match open(&fs, 1 << 20) {
            Ok(block) => block,
            Err(Error::Damaged { damage, .. }) => {
                assert!(
                    matches!(damage.part, Part::Header | Part::Footer),
                    "case {case}, {harm:?}: {damage}"
                );
                *seen.entry(format!("{:?}", damage.part)).or_default() += 1;
                continue;
            }
            Err(error) => panic!("case {case}, {harm:?}: {error}"),
        };
        let mut declared = Vec::new();
        let mut note = |error: &Error| match error {
            Error::Damaged { damage, .. } => declared.push((**damage).clone()),
            error => panic!("case {case}, {harm:?}: {error}"),
        };
        block.verify(&mut note).expect("the disk works");
        let lost = |series: usize, time: i64| {
            declared.iter().any(|damage| {
                damage.series.contains(&(series as u32))
                    && damage.times.contains(Timestamp::from_millis(time))
            })
        };
        assert!(!declared.is_empty(), "case {case}, {harm:?}: nobody noticed");
        declared.iter().for_each(|damage| *seen.entry(format!("{:?}", damage.part)).or_default() += 1);
        let mut samples = Samples::default();
        for (series, (labels, expected)) in expected.iter().enumerate() {
            samples.clear();
            let mut unread = false;
            let outcome = block.read_each(series as u32, TimeRange::ALL, &mut samples, |_| unread = true);
            let read = shown(&samples);
            if read != *expected {
                assert!(
                    outcome.is_err() || unread,
                    "case {case}, {harm:?}: {labels} is wrong without a word"
                );
                let is_true = |one: &(i64, String)| expected.binary_search(one).is_ok();
                assert!(read.iter().all(is_true), "case {case}, {harm:?}: {labels} is wrong");
                for (time, _) in expected.iter().filter(|one| read.binary_search(one).is_err()) {
                    assert!(
                        lost(series, *time),
                        "case {case}, {harm:?}: {labels} at {time} is not in what is declared"
                    );
                }
            }
            match block.labels(series as u32) {
                Ok(read) => assert_eq!(read, **labels, "case {case}, {harm:?}"),
                Err(Error::Damaged { .. }) => {}
                Err(error) => panic!("case {case}, {harm:?}: {error}"),
            }
        }
        let all = block.select(&Selector::all(), TimeRange::ALL).expect("it looks at no page");
        assert_eq!(all.len(), expected.len());
        // Without postings the series table answers.
        let has_index =
            declared.iter().all(|damage| !matches!(damage.part, Part::LabelValues | Part::Series));
        match block.select(&hosts, TimeRange::ALL) {
            Ok(selected) => assert_eq!(selected, of_hosts, "case {case}, {harm:?}"),
            Err(error) => assert!(!has_index, "case {case}, {harm:?}: {error}"),
        }
    }
    let kinds: Vec<&str> = seen.keys().map(String::as_str).collect();
    let all = ["Footer", "Header", "Histograms", "LabelValues", "Postings", "Series", "Times", "Values"];
    assert_eq!(kinds, all, "every part was hit: {seen:?}");
}

#[test]
fn unreadable_sectors_are_errors_of_the_disk() {
    let (fs, _) = block(1, Compression::Small, &model(1, 10, 50));
    fs.damage(&path("block"), Harm::Unreadable { offset: 40, len: 1 });
    let block = open(&fs, 0).expect("header and footer are readable");
    let error = block.verify(|_| {}).expect_err("a sector cannot be read");
    assert!(matches!(error, Error::Io { action: "read", .. }), "{error}");
}

#[test]
fn other_versions_are_left_alone() {
    let (fs, _) = block(1, Compression::Small, &model(1, 2, 5));
    let mut bytes = fs.contents(&path("block")).expect("it was written above");
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    fs.put(&path("block"), &bytes);
    let error = open(&fs, 0).expect_err("the version is unknown").to_string();
    assert_eq!(
        error,
        "block /blocks/block: format version 9 is not readable by this program, which reads version 1"
    );
}

/// Damage with a right checksum, as a hostile or mistaken writer makes it: refused or answered, without panic and
/// without end.
#[test]
fn wrong_bytes_with_right_checksums_do_no_harm() {
    let model = model(3, 6, 60);
    let (fs, block) = block(1, Compression::Small, &model);
    let bytes = fs.contents(&path("block")).expect("it was written above");
    let directory_at = format_directory_offset(&bytes);
    drop(block);
    let mut rng = 11;
    for _ in 0..1000 {
        let mut bytes = bytes.clone();
        let directory_end = bytes.len() - TRAILER_BYTES;
        if random(&mut rng).is_multiple_of(3) {
            // Into the directory.
            for _ in 0..1 + random(&mut rng) % 3 {
                let at = directory_at + random(&mut rng) as usize % (directory_end - directory_at);
                bytes[at] = random(&mut rng) as u8;
            }
        } else {
            // Into a page, after decompression, and its checksum set right.
            let mut directory = Directory::decode(&bytes[directory_at..directory_end], directory_at as u64)
                .expect("it is sound");
            let at = random(&mut rng) as usize % directory.pages.len();
            let page = &mut directory.pages[at];
            let place = page.offset as usize..page.offset as usize + page.stored_bytes as usize;
            let stored = &bytes[place];
            let mut raw = match page.raw_bytes {
                0 => stored.to_vec(),
                raw_bytes => zstd::bulk::decompress(stored, raw_bytes as usize).expect("it is sound"),
            };
            for _ in 0..1 + random(&mut rng) % 3 {
                let at = random(&mut rng) as usize % raw.len();
                raw[at] = random(&mut rng) as u8;
            }
            if random(&mut rng).is_multiple_of(4) {
                raw.truncate(random(&mut rng) as usize % raw.len());
            }
            // The page goes where the directory was, and the directory behind it.
            page.offset = directory_at as u64;
            (page.stored_bytes, page.raw_bytes, page.crc) = (raw.len() as u32, 0, crc32c::crc32c(&raw));
            bytes.truncate(directory_at);
            bytes.extend_from_slice(&raw);
            let directory = directory.encode();
            let offset = bytes.len() as u64;
            bytes.extend_from_slice(&directory);
            bytes.extend_from_slice(&format::trailer(offset, &directory));
        }
        let directory_at = format_directory_offset(&bytes);
        let end = bytes.len() - TRAILER_BYTES;
        let trailer = format::trailer(directory_at as u64, &bytes[directory_at..end]);
        bytes[end..].copy_from_slice(&trailer);
        fs.put(&path("block"), &bytes);
        let Ok(block) = open(&fs, 1 << 20) else { continue };
        let _ = block.verify(|_| {});
        let _ = block.label_names(&Selector::all(), range(0, 1_700_000_300_000));
        let _ = block.label_values("instance", &Selector::all(), range(0, 1_700_000_300_000));
        for pattern in ["node-00[1-3].*", "node-001:9100", ".*9100"] {
            let matcher = Matcher::new("instance", MatchOp::Re, pattern);
            let selector = Selector::new(&[matcher]).expect("the matcher is valid");
            let _ = block.select(&selector, TimeRange::ALL);
        }
        for series in 0..block.series_count().min(100) {
            let _ = block.labels(series);
        }
    }
}

fn format_directory_offset(bytes: &[u8]) -> usize {
    let at = bytes.len() - TRAILER_BYTES;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
}

#[test]
fn any_bytes_are_no_block() {
    let mut rng = 5;
    for _ in 0..2000 {
        let len = random(&mut rng) % 300;
        let bytes: Vec<u8> = (0..len).map(|_| random(&mut rng) as u8).collect();
        let _ = Directory::decode(&bytes, 1 << 40);
        let fs = FaultFs::new(0);
        fs.put(&path("block"), &bytes);
        assert!(matches!(open(&fs, 0), Err(Error::Damaged { .. })));
    }
}
