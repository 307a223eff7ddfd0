//! What other programs leave in files: `*.prom` of directories, in
//! Prometheus' text format.
//!
//! A file counts as a whole or not at all. One that is not understood, gives
//! times of its own (a program that died would look alive) or is too much is
//! left out, said in the [`CycleReport`](super::CycleReport), and makes
//! `node_textfile_scrape_error` 1.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use lm_exposition::{Entry, Format, Limits, Reader};

use super::collector::{Collect, Cycle};
use super::directory::Directory;
use super::read::read_file;
use super::{Error, HostOptions};

/// Directories that a pattern finds beyond these are not read.
const DIRECTORY_COUNT_MAX: usize = 256;

/// Samples of one file: more would leave no room in the table of series.
const LIMITS: Limits =
    Limits { line_bytes_max: 64 << 10, labels_max: 32, samples_max: 4096, native_buckets_max: 0 };

pub struct TextFiles {
    patterns: Vec<String>,
}

impl TextFiles {
    pub fn new(options: &HostOptions) -> Self {
        TextFiles { patterns: options.textfile.clone() }
    }
}

impl Collect for TextFiles {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // First, while there is room in the table.
        let error_series = cycle.series("node_textfile_scrape_error", &[])?;
        let mut is_whole = true;
        for pattern in &self.patterns {
            for directory in directories(pattern) {
                match Directory::open(&directory) {
                    Ok(files) => is_whole &= push_directory(cycle, buffer, &directory, &files),
                    Err(error) => {
                        is_whole = false;
                        cycle.left_out.push(error);
                    }
                }
            }
        }
        cycle.push(error_series, f64::from(u8::from(!is_whole)));
        Ok(())
    }
}

/// What a pattern finds; itself when that is nothing, so that it is said to
/// be missing.
fn directories(pattern: &str) -> Vec<PathBuf> {
    let found = glob::glob(pattern).into_iter().flatten().flatten().take(DIRECTORY_COUNT_MAX);
    let mut found: Vec<PathBuf> = found.collect();
    if found.is_empty() {
        found.push(pattern.into());
    }
    found
}

/// Whether all of its files were understood.
fn push_directory(cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>, path: &Path, directory: &Directory) -> bool {
    let mut is_whole = true;
    for name in directory.names() {
        if !name.ends_with(".prom") {
            continue;
        }
        let kept = cycle.out.len();
        if let Err(error) = push_file(cycle, buffer, &path.join(&name)) {
            cycle.out.truncate(kept);
            is_whole = false;
            cycle.left_out.push(error);
        }
    }
    is_whole
}

fn push_file(cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>, path: &Path) -> Result<(), Error> {
    read_file(path, buffer)?;
    let labels = [("file", &*path.to_string_lossy())];
    let modified_series = cycle.series("node_textfile_mtime_seconds", &labels)?;
    let unreadable = |source| Error::Exposition { path: path.to_owned(), source };
    let mut reader = Reader::new(Format::PrometheusText, buffer, LIMITS);
    while let Some(entry) = reader.next().map_err(unreadable)? {
        let Entry::Sample(sample) = entry else { continue };
        if sample.time_unix_ms.is_some() {
            return Err(Error::Malformed {
                path: path.to_owned(),
                line: 0,
                reason: "has samples with times of their own; write them without",
            });
        }
        let labels: Vec<(&str, &str)> =
            sample.labels.iter().map(|label| (&*label.name, &*label.value)).collect();
        let series = cycle.series(sample.name, &labels)?;
        cycle.push(series, sample.value);
    }
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    if let Some(since) = since {
        cycle.push(modified_series, since.as_secs() as f64);
    }
    Ok(())
}
