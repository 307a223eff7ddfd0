//! Targets that files list, as Prometheus' `file_sd_configs` reads them:
//!
//! ```text
//! [ { "targets": ["host:port", ...], "labels": { "name": "value", ... } }, ... ]
//! ```
//!
//! Files are looked at again and again; one that is half-written or wrong
//! leaves what it listed before as it was, one that is gone lists nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::relabel::LabelMap;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files of one job.
const FILES_MAX: usize = 256;

/// The files of one job and what they list.
pub struct TargetFiles {
    patterns: Vec<String>,
    known: BTreeMap<PathBuf, Known>,
}

#[derive(Default)]
struct Known {
    /// As of the last look, changed or not.
    version: Option<(SystemTime, u64)>,
    targets: Vec<LabelMap>,
}

impl TargetFiles {
    pub fn new(patterns: Vec<String>) -> Self {
        TargetFiles { patterns, known: BTreeMap::new() }
    }

    /// Looks at the files; whether anything may have changed. Blocks on local
    /// files. What goes wrong is logged once for each state of a file.
    pub fn refresh(&mut self) -> bool {
        let mut found: Vec<PathBuf> = Vec::new();
        for pattern in &self.patterns {
            // The configuration checked the pattern.
            found.extend(glob::glob(pattern).into_iter().flatten().flatten().take(FILES_MAX + 1));
        }
        if found.len() > FILES_MAX {
            tracing::warn!(files = found.len(), "too many files that list targets; some are not read");
            found.truncate(FILES_MAX);
        }
        let before = self.known.len();
        self.known.retain(|path, _| found.contains(path));
        let mut has_changed = self.known.len() != before;
        for path in found {
            let known = self.known.entry(path.clone()).or_default();
            let version = version(&path);
            if version.is_some() && version == known.version {
                continue;
            }
            known.version = version;
            match read(&path) {
                Ok(targets) => {
                    known.targets = targets;
                    has_changed = true;
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a file that lists targets is not used");
                }
            }
        }
        has_changed
    }

    /// The labels of every listed target.
    pub fn targets(&self) -> impl Iterator<Item = &LabelMap> {
        self.known.values().flat_map(|known| &known.targets)
    }
}

fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<Vec<LabelMap>, String> {
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !path.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("over {FILE_BYTES_MAX} bytes"));
    }
    parse(&bytes, &path.to_string_lossy())
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn parse(bytes: &[u8], path: &str) -> Result<Vec<LabelMap>, String> {
    let groups: Vec<Group> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut targets = Vec::new();
    for group in groups {
        for target in group.targets {
            let mut labels = group.labels.clone();
            labels.insert("__address__".to_owned(), target);
            labels.insert("__meta_filepath".to_owned(), path.to_owned());
            targets.push(labels);
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_change_break_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let mut files = TargetFiles::new(vec![format!("{}/*.json", dir.path().display())]);
        let listed = |files: &TargetFiles| -> Vec<String> {
            files
                .targets()
                .map(|labels| format!("{} {:?}", labels["__address__"], labels.get("env")))
                .collect()
        };
        assert!(!files.refresh());
        std::fs::write(
            &path,
            r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "x"}}, {"targets": ["c:3"]}]"#,
        )
        .unwrap();
        assert!(files.refresh());
        assert_eq!(listed(&files), ["a:1 Some(\"x\")", "b:2 Some(\"x\")", "c:3 None"]);
        assert!(!files.refresh());
        // Half-written: what it listed stays.
        std::fs::write(&path, r#"[{"targets": ["a:1"#).unwrap();
        assert!(!files.refresh());
        assert_eq!(listed(&files).len(), 3);
        std::fs::write(&path, r#"[{"targets": ["d:4"]}]"#).unwrap();
        assert!(files.refresh());
        assert_eq!(listed(&files), ["d:4 None"]);
        std::fs::remove_file(&path).unwrap();
        assert!(files.refresh());
        assert!(listed(&files).is_empty());
    }

    #[test]
    fn mistakes() {
        for (text, expected) in [
            ("{}", "invalid type: map, expected a sequence at line 1 column 0"),
            (
                r#"[{"target": []}]"#,
                "unknown field `target`, expected `targets` or `labels` at line 1 column 10",
            ),
            (r#"[{"targets": [1]}]"#, "invalid type: integer `1`, expected a string at line 1 column 15"),
        ] {
            assert_eq!(parse(text.as_bytes(), "f").unwrap_err(), expected, "{text}");
        }
    }
}
