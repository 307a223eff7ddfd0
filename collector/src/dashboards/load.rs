//! All definitions: the built-in ones and the files that the settings name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lm_settings::Mistake;

use super::Dashboard;
use super::definition::{self, Definition};
use crate::settings::{DefinitionPath, DefinitionPaths};

/// They double as examples, so they are files like any other.
const BUILTIN: [(&str, &str); 6] = [
    ("config/dashboards/fleet.toml", include_str!("../../../config/dashboards/fleet.toml")),
    ("config/dashboards/host.toml", include_str!("../../../config/dashboards/host.toml")),
    ("config/dashboards/lightmetrics.toml", include_str!("../../../config/dashboards/lightmetrics.toml")),
    ("config/dashboards/logs.toml", include_str!("../../../config/dashboards/logs.toml")),
    ("config/dashboards/queues.toml", include_str!("../../../config/dashboards/queues.toml")),
    ("config/dashboards/sessions.toml", include_str!("../../../config/dashboards/sessions.toml")),
];

/// Files that are read at most.
const FILES_MAX: usize = 100;
/// Largest file.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// All files together: they are one answer, and a message of it may have 8 MiB.
const FILES_BYTES_MAX: usize = 1 << 20;
/// Entries of a directory that are looked at.
const DIR_ENTRIES_MAX: usize = 10_000;

/// Every dashboard there is, by id.
#[derive(Debug, PartialEq)]
pub struct Dashboards(Vec<Dashboard>);

impl Dashboards {
    /// Reads what `paths` name; `config` is the file that names them, for messages.
    ///
    /// # Errors
    ///
    /// Every mistake in every file.
    pub fn load(paths: &DefinitionPaths, config: &Path) -> Result<Dashboards, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let files = find(paths, config, &mut mistakes);
        let definitions = read(files, config, &mut mistakes);
        let dashboards = join(definitions, &mut mistakes);
        if mistakes.is_empty() { Ok(dashboards) } else { Err(mistakes) }
    }

    /// In the order of ids.
    pub fn all(&self) -> &[Dashboard] {
        &self.0
    }

    pub fn find(&self, id: &str) -> Option<&Dashboard> {
        self.0.iter().find(|dashboard| dashboard.id == id)
    }
}

/// A definition file, and the line of the settings that names it or its directory.
struct Found {
    path: PathBuf,
    config_line: usize,
}

/// Finds the files, in order: those named, then those of each directory by name.
fn find(paths: &DefinitionPaths, config: &Path, mistakes: &mut Vec<Mistake>) -> Vec<Found> {
    let complain = |line, message| Mistake { file: config.to_owned(), line, message };
    let mut found: Vec<Found> = Vec::new();
    let mut add = |path: PathBuf, config_line, mistakes: &mut Vec<Mistake>| match found
        .iter()
        .find(|known| known.path == path)
    {
        Some(known) => mistakes.push(complain(
            config_line,
            format!("{} is named already, by line {}", path.display(), known.config_line),
        )),
        None => found.push(Found { path, config_line }),
    };
    for DefinitionPath { path, line } in &paths.files {
        add(path.clone(), *line, mistakes);
    }
    for DefinitionPath { path, line } in &paths.dirs {
        match list(path) {
            Ok(files) => files.into_iter().for_each(|file| add(file, *line, mistakes)),
            Err(error) => mistakes.push(complain(
                *line,
                format!("dashboards.definition_dirs: cannot read {}: {error}", path.display()),
            )),
        }
    }
    if let Some(first) = found.get(FILES_MAX) {
        let message = format!(
            "dashboards: {} definition files, at most {FILES_MAX} are read; the first too many is {}",
            found.len(),
            first.path.display()
        );
        mistakes.push(complain(first.config_line, message));
        found.truncate(FILES_MAX);
    }
    found
}

/// The definition files of a directory: `*.toml`, not hidden, by name.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (index, entry) in fs::read_dir(dir)?.enumerate() {
        if index == DIR_ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {DIR_ENTRIES_MAX} entries")));
        }
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads and parses each file; what cannot be read is reported and left out.
fn read(files: Vec<Found>, config: &Path, mistakes: &mut Vec<Mistake>) -> Vec<(PathBuf, Definition)> {
    let mut definitions = Vec::new();
    let mut bytes = 0;
    for Found { path, config_line } in files {
        // Opening anything else, such as a FIFO, could block for ever.
        let text = match fs::metadata(&path) {
            Ok(facts) if facts.is_file() => lm_settings::read_text(&path, FILE_BYTES_MAX),
            Ok(_) => Err(vec![Mistake {
                file: path.clone(),
                line: 1,
                message: "is not a regular file".to_owned(),
            }]),
            Err(error) => {
                let message = format!("dashboards: cannot read {}: {error}", path.display());
                Err(vec![Mistake { file: config.to_owned(), line: config_line, message }])
            }
        };
        let text = match text {
            Ok(text) => text,
            Err(found) => {
                mistakes.extend(found);
                continue;
            }
        };
        bytes += text.len();
        if bytes > FILES_BYTES_MAX {
            let message = format!(
                "dashboards: definitions have more than {FILES_BYTES_MAX} bytes with {}; remove some",
                path.display()
            );
            mistakes.push(Mistake { file: config.to_owned(), line: config_line, message });
            break;
        }
        // One with mistakes still says which id it takes.
        let mut taken = None;
        if let Err(found) = lm_settings::parse(&path, &text, |root| taken = Some(definition::take(root))) {
            mistakes.extend(found);
        }
        let taken = taken.filter(|taken| !taken.dashboard.id.is_empty());
        definitions.extend(taken.map(|taken| (path, taken)));
    }
    definitions
}

/// Puts the files' definitions beside the built-in ones, or in their place.
fn join(definitions: Vec<(PathBuf, Definition)>, mistakes: &mut Vec<Mistake>) -> Dashboards {
    let mut all: BTreeMap<String, Dashboard> = builtin().map(|one| (one.id.clone(), one)).collect();
    let builtin_ids: Vec<String> = all.keys().cloned().collect();
    let mut places: BTreeMap<String, (PathBuf, usize)> = BTreeMap::new();
    for (file, Definition { dashboard, id_line, override_line }) in definitions {
        let id = dashboard.id.clone();
        let complain = |line, message| Mistake { file: file.clone(), line, message };
        match (builtin_ids.contains(&id), override_line) {
            (true, None) => mistakes.push(complain(
                id_line,
                format!(
                    "id {id:?} is that of a built-in dashboard; choose another, \
                     or say overrides_builtin = true to replace it"
                ),
            )),
            (false, Some(line)) => mistakes.push(complain(
                line,
                format!(
                    "overrides_builtin: {id:?} is not built in, remove the key; built in are {}",
                    builtin_ids.join(", ")
                ),
            )),
            (true, Some(_)) | (false, None) => {}
        }
        match places.get(&id) {
            Some((other, line)) => mistakes.push(complain(
                id_line,
                format!("id {id:?} is taken by {}:{line}; each dashboard needs its own", other.display()),
            )),
            None => {
                places.insert(id.clone(), (file, id_line));
                all.insert(id, dashboard);
            }
        }
    }
    Dashboards(all.into_values().collect())
}

fn builtin() -> impl Iterator<Item = Dashboard> {
    BUILTIN.iter().map(|(file, text)| {
        let parsed = lm_settings::parse(Path::new(file), text, definition::take);
        let definition = parsed.expect("a test reads what is built in");
        Dashboard { is_builtin: true, ..definition.dashboard }
    })
}
