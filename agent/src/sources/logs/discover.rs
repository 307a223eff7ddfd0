//! Finding files: by glob, and again after they were renamed.
//!
//! A discovery looks at every path that the globs match, then, for files that
//! are at none of them any more, into the directory where they were. It opens
//! what is new, lets go of what is gone, and parks what has been quiet.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cursor::{FileCursor, FileKey};
use super::file::{self, OpenFile, Place, Seen, key_of};
use super::generation::Generation;
use super::{DiscoverReport, EVENTS_MAX, LogEvent, LogsSource, ReadFrom, Refusal};

/// Files that were quiet for this long are closed and parked.
const PARK_AFTER: Duration = Duration::from_secs(300);

/// A deleted file is kept for a program that still writes to it until it was
/// quiet for this long.
const DELETED_AFTER: Duration = Duration::from_secs(5);

/// Rotated files are forgotten when they were quiet for this long.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Entries of a directory that are looked at when a file in it was renamed.
const DIRECTORY_ENTRIES_MAX: usize = 100_000;

/// Since when nothing has happened to a file, as far as discoveries saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quiet {
    since: Option<Instant>,
}

impl Quiet {
    /// How long it is quiet; from now on, if it was not before.
    fn elapsed(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.since.get_or_insert(now))
    }
}

/// A file that is not open: quiet for long, or of the last run.
#[derive(Debug)]
pub struct Parked {
    pub cursor: FileCursor,
    place: Place,
    /// What it looked like; `None` for a file of the last run.
    seen: Option<Seen>,
    order: Option<u64>,
    quiet: Quiet,
}

impl Parked {
    /// A file of the last run.
    pub fn restored(cursor: FileCursor) -> Self {
        Parked { cursor, place: Place::Unseen, seen: None, order: None, quiet: Quiet::default() }
    }
}

/// A file to open, and what is known of it.
enum Candidate {
    /// Its cursor is parked.
    Known { key: FileKey, at: PathBuf, generation: Generation },
    /// Rotated away from `path` before anyone saw it.
    Missed { at: PathBuf, path: PathBuf, generation: Generation },
    /// At a path that a glob matches.
    New { at: PathBuf },
}

impl Candidate {
    fn at(&self) -> &Path {
        match self {
            Candidate::Known { at, .. } | Candidate::Missed { at, .. } | Candidate::New { at } => at,
        }
    }

    fn generation(&self) -> &Generation {
        match self {
            Candidate::Known { generation, .. } | Candidate::Missed { generation, .. } => generation,
            Candidate::New { .. } => &Generation::Current,
        }
    }
}

/// Regular files of one directory that may be of interest.
type Siblings = Vec<(PathBuf, Metadata)>;

/// What to look for in a directory.
#[derive(Default)]
struct Wanted<'a> {
    inodes: HashSet<u64>,
    /// Beginnings of names.
    names: HashSet<&'a OsStr>,
}

impl LogsSource {
    /// Looks for files that appeared, moved or went away. `now` is of any
    /// clock that only goes forward; how often this is called does not matter.
    ///
    /// Costs a directory walk for each glob and one `lstat` for each match,
    /// and a directory listing for each directory with renamed files.
    pub fn discover(&mut self, now: Instant) -> DiscoverReport {
        let mut report = DiscoverReport::default();
        let mut matched = self.match_globs(&mut report);
        let siblings = self.list_siblings(&matched, &mut report);
        self.note_places(&mut matched, &siblings);
        let mut candidates: Vec<Candidate> = self.known_candidates().collect();
        self.find_missed(&siblings, &mut matched, &mut candidates);
        candidates.extend(matched.into_values().map(|at| Candidate::New { at }));
        // Files of the same path must be opened in the order of their lines.
        let is_new = |candidate: &Candidate| matches!(candidate, Candidate::New { .. });
        candidates.sort_by(|a, b| {
            let (a_generation, b_generation) = (a.generation(), b.generation());
            (is_new(a), a_generation.oldest_first()).cmp(&(is_new(b), b_generation.oldest_first()))
        });
        self.let_go_of_open(now);
        self.let_go_of_parked(&siblings, now);
        // A path's file must not overtake one that it replaced: a later
        // discovery would take the path to be complete.
        let mut waiting_paths = HashSet::new();
        for candidate in candidates {
            if waiting_paths.contains(candidate.at()) {
                report.waiting += 1;
                continue;
            }
            let missed = match &candidate {
                Candidate::Missed { path, .. } => Some(path.clone()),
                Candidate::Known { .. } | Candidate::New { .. } => None,
            };
            if !self.open_candidate(candidate, &mut report) {
                waiting_paths.extend(missed);
            }
        }
        self.forget_streams();
        self.is_first_look = false;
        report
    }

    /// Regular files at paths that the globs match. A file with several names
    /// is at the first.
    fn match_globs(&self, report: &mut DiscoverReport) -> HashMap<FileKey, PathBuf> {
        let mut matched = HashMap::new();
        let mut paths = HashSet::new();
        for glob in &self.options.globs {
            for path in glob::glob(glob).expect("new() parsed the pattern") {
                let path = match path {
                    Ok(path) => path,
                    Err(error) => {
                        report.errors.push((error.path().to_owned(), error.into()));
                        continue;
                    }
                };
                if self.is_excluded(&path) || !paths.insert(path.clone()) {
                    continue;
                }
                match fs::symlink_metadata(&path) {
                    Ok(metadata) => match self.refusal(&metadata) {
                        Some(refusal) => report.refused.push((path, refusal)),
                        None => drop(matched.entry(key_of(&metadata)).or_insert(path)),
                    },
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => report.errors.push((path, error)),
                }
            }
        }
        matched
    }

    fn is_excluded(&self, path: &Path) -> bool {
        self.exclude.iter().any(|pattern| {
            let name = path.file_name().map(Path::new).filter(|_| !pattern.as_str().contains('/'));
            pattern.matches_path(name.unwrap_or(path))
        })
    }

    /// A file that we follow may have a second name while it is being renamed;
    /// only others are refused for it.
    fn refusal(&self, metadata: &Metadata) -> Option<Refusal> {
        let allow_hard_links = self.options.allow_hard_links || self.follows(key_of(metadata));
        file::refusal(metadata, allow_hard_links)
    }

    fn follows(&self, key: FileKey) -> bool {
        self.parked.contains_key(&key) || self.open.iter().any(|file| file.key == key)
    }

    /// Place, identity and path of all files with a position.
    fn followed(&self) -> impl Iterator<Item = (&Place, FileKey, &Path)> {
        let open = self.open.iter().map(|file| (&file.place, file.key, &*file.path));
        let parked = self.parked.iter().map(|(key, parked)| (&parked.place, *key, &*parked.cursor.path));
        open.chain(parked)
    }

    /// Looks where files that are not at their path any more have been.
    fn list_siblings(
        &self,
        matched: &HashMap<FileKey, PathBuf>,
        report: &mut DiscoverReport,
    ) -> HashMap<PathBuf, Siblings> {
        let mut wanted: HashMap<&Path, Wanted<'_>> = HashMap::new();
        for (_, key, path) in self.followed() {
            let is_at_path = matched.get(&key).is_some_and(|at| at == path);
            if let (false, Some(directory), Some(name)) = (is_at_path, path.parent(), path.file_name()) {
                let wanted = wanted.entry(directory).or_default();
                wanted.inodes.insert(key.inode);
                wanted.names.insert(name);
            }
        }
        let mut siblings = HashMap::new();
        for (directory, wanted) in wanted {
            match wanted.list(directory) {
                Ok(files) => drop(siblings.insert(directory.to_owned(), files)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    siblings.insert(directory.to_owned(), Siblings::new());
                }
                Err(error) => report.errors.push((directory.to_owned(), error)),
            }
        }
        siblings
    }

    /// Notes where followed files are now, and takes them out of `matched`.
    fn note_places(
        &mut self,
        matched: &mut HashMap<FileKey, PathBuf>,
        siblings: &HashMap<PathBuf, Siblings>,
    ) {
        let mut place_of = |key: FileKey, path: &Path| {
            if let Some(at) = matched.remove(&key) {
                return Place::Matched(at);
            }
            let files = siblings_of(path, siblings).unwrap_or_default();
            match files.iter().find(|(_, metadata)| key_of(metadata) == key) {
                Some((at, _)) => Place::Rotated(at.clone(), generation_at(path, at)),
                None => Place::Unseen,
            }
        };
        for file in &mut self.open {
            let place = place_of(file.key, &file.path);
            if file.place != place {
                (file.place, file.quiet) = (place, Quiet::default());
            }
        }
        for (key, parked) in &mut self.parked {
            parked.place = place_of(*key, &parked.cursor.path);
        }
    }

    /// Parked files that were written to, or that nobody looked into yet.
    fn known_candidates(&self) -> impl Iterator<Item = Candidate> {
        self.parked.iter().filter_map(|(key, parked)| {
            let (at, generation) = match &parked.place {
                Place::Matched(at) => (at, generation_at(&parked.cursor.path, at)),
                Place::Rotated(at, generation) => (at, generation.clone()),
                Place::Unseen => return None,
            };
            let now = || fs::symlink_metadata(at).ok().map(|metadata| Seen::of(&metadata));
            let is_changed = parked.seen.is_none() || parked.seen != now();
            is_changed.then(|| Candidate::Known { key: *key, at: at.clone(), generation })
        })
    }

    /// Finds generations of a path that came and were renamed between two
    /// discoveries, or while we were not running: younger by name and by time
    /// than the youngest that we know.
    fn find_missed(
        &self,
        siblings: &HashMap<PathBuf, Siblings>,
        matched: &mut HashMap<FileKey, PathBuf>,
        candidates: &mut Vec<Candidate>,
    ) {
        let mut youngest: HashMap<&Path, (Generation, FileKey)> = HashMap::new();
        for (place, key, path) in self.followed() {
            let (Place::Matched(at) | Place::Rotated(at, _)) = place else { continue };
            let generation = generation_at(path, at);
            match youngest.get(path) {
                Some((known, _)) if !generation.is_newer_than(known) => {}
                _ => drop(youngest.insert(path, (generation, key))),
            }
        }
        for (path, (known, known_key)) in youngest {
            let files = siblings_of(path, siblings).unwrap_or_default();
            let known_file = files.iter().find(|(_, metadata)| key_of(metadata) == known_key);
            let Some(known_modified) = known_file.map(|(_, metadata)| Seen::of(metadata).modified()) else {
                continue;
            };
            for (at, metadata) in files {
                let (generation, key) = (generation_at(path, at), key_of(metadata));
                // By time as well, because some programs count the other way.
                let is_missed = generation != Generation::Current
                    && generation.is_newer_than(&known)
                    && Seen::of(metadata).modified() >= known_modified;
                let is_allowed = self.refusal(metadata).is_none() && !self.is_excluded(at);
                if is_missed && is_allowed && !self.follows(key) {
                    matched.remove(&key);
                    candidates.push(Candidate::Missed { at: at.clone(), path: path.to_owned(), generation });
                }
            }
        }
    }

    /// Closes files that are gone and parks those that have long been quiet.
    fn let_go_of_open(&mut self, now: Instant) {
        for at in (0..self.open.len()).rev() {
            let file = &mut self.open[at];
            if !file.was_quiet() {
                file.quiet = Quiet::default();
                continue;
            }
            let quiet_for = file.quiet.elapsed(now);
            let is_unseen = file.place == Place::Unseen;
            let is_due =
                quiet_for >= PARK_AFTER || (is_unseen && quiet_for >= DELETED_AFTER && file.is_deleted());
            match is_due && file.is_quiet() {
                true if is_unseen => self.finish(at),
                true => self.park(at),
                false => {}
            }
        }
    }

    /// Lets go of an open file for ever.
    fn finish(&mut self, at: usize) {
        if self.events.len() >= EVENTS_MAX {
            return;
        }
        let file = self.open.swap_remove(at);
        self.forgotten.push(file.key);
        let bytes_unread = file.bytes_unread();
        if bytes_unread > 0 {
            self.events.push(LogEvent::Unterminated { path: file.path, bytes_unread });
        }
    }

    /// Closes a quiet file and remembers its position.
    fn park(&mut self, at: usize) {
        let file = self.open.swap_remove(at);
        let parked = Parked {
            cursor: file.committed_cursor(),
            seen: file.seen(),
            order: Some(file.order),
            quiet: file.quiet,
            place: file.place,
        };
        self.parked.insert(file.key, parked);
    }

    fn let_go_of_parked(&mut self, siblings: &HashMap<PathBuf, Siblings>, now: Instant) {
        let mut gone = Vec::new();
        for (key, parked) in &mut self.parked {
            let quiet_for = parked.quiet.elapsed(now);
            let is_gone = match parked.place {
                // A directory that could not be listed may come back.
                Place::Unseen => siblings_of(&parked.cursor.path, siblings).is_some(),
                Place::Rotated(..) => quiet_for >= FORGET_AFTER && parked.seen.is_some(),
                Place::Matched(_) => false,
            };
            if is_gone {
                gone.push(*key);
            }
        }
        for key in gone {
            let is_new_here = self.parked[&key].seen.is_none();
            self.forget_parked(key, is_new_here);
        }
    }

    /// Forgets a parked file unless there is something to say about it and no
    /// room to say it.
    fn forget_parked(&mut self, key: FileKey, has_vanished: bool) {
        if has_vanished && self.events.len() >= EVENTS_MAX {
            return;
        }
        let Some(parked) = self.parked.remove(&key) else { return };
        self.forgotten.push(key);
        if has_vanished {
            self.events.push(LogEvent::Vanished { path: parked.cursor.path });
        }
    }

    /// Returns false if another try may be better.
    fn open_candidate(&mut self, candidate: Candidate, report: &mut DiscoverReport) -> bool {
        let is_known = matches!(candidate, Candidate::Known { .. });
        let is_full = !is_known && self.open.len() + self.parked.len() >= self.options.files_max;
        if is_full || self.events.len() >= EVENTS_MAX || !self.make_room() {
            report.waiting += 1;
            return false;
        }
        let at = candidate.at().to_owned();
        let opened = match file::open(&at, self.options.allow_hard_links || is_known) {
            Ok(Ok((file, key))) => self.follow(file, key, candidate),
            Ok(Err(refusal)) => {
                report.refused.push((at, refusal));
                return true;
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                report.errors.push((at, error));
                true
            }
        }
    }

    /// Parks the file that has been quiet the longest when all slots are
    /// taken; says whether one is free.
    fn make_room(&mut self) -> bool {
        if self.open.len() < self.options.open_files_max {
            return true;
        }
        let is_quiet = |at: &usize| {
            let file = &self.open[*at];
            file.place != Place::Unseen && file.quiet.since.is_some() && file.is_quiet()
        };
        let quiet = (0..self.open.len()).filter(is_quiet);
        let Some(at) = quiet.min_by_key(|at| self.open[*at].quiet.since) else { return false };
        self.park(at);
        true
    }

    /// Follows a file that was just opened.
    fn follow(&mut self, file: fs::File, key: FileKey, candidate: Candidate) -> io::Result<()> {
        // Between the look and the opening the name may have been given to
        // another file; the next discovery sorts that out.
        let open = match candidate {
            Candidate::Known { key: expected, .. } if key != expected => return Ok(()),
            Candidate::Missed { .. } | Candidate::New { .. } if self.follows(key) => return Ok(()),
            Candidate::Known { .. } => match self.reopen(file, key)? {
                Some(open) => open,
                None => return Ok(()),
            },
            Candidate::Missed { at, path, generation } => {
                let stream = self.stream(&path);
                OpenFile::new(file, key, path, Place::Rotated(at, generation), stream)
            }
            Candidate::New { at } => {
                let stream = self.stream(&at);
                let mut open = OpenFile::new(file, key, at.clone(), Place::Matched(at), stream);
                if self.is_first_look && self.options.from == ReadFrom::End {
                    open.skip_to_end(self.options.line_bytes_max)?;
                }
                open
            }
        };
        self.insert(open);
        Ok(())
    }

    /// Goes on with a parked file, if it is that.
    fn reopen(&mut self, file: fs::File, key: FileKey) -> io::Result<Option<OpenFile>> {
        let Parked { cursor, place, order, .. } = &self.parked[&key];
        let (cursor, place, order) = (cursor.clone(), place.clone(), *order);
        let stream = self.stream(&cursor.path);
        let mut open = OpenFile::new(file, key, cursor.path.clone(), place, stream);
        if let Some(order) = order {
            open.order = order;
        }
        if open.resume(&cursor)? {
            self.parked.remove(&key);
            return Ok(Some(open));
        }
        // Truncated, or another file that was given the same inode.
        match open.place.clone() {
            Place::Matched(at) => {
                self.parked.remove(&key);
                self.events.push(LogEvent::Truncated { path: cursor.path, bytes_unread: None });
                open.stream = self.stream(&at);
                open.path = at;
                Ok(Some(open))
            }
            Place::Rotated(..) | Place::Unseen => {
                self.forget_parked(key, true);
                Ok(None)
            }
        }
    }

    /// Adds a file after the older ones of its stream.
    fn insert(&mut self, mut file: OpenFile) {
        if file.order == 0 {
            self.next_order += 1;
            file.order = self.next_order;
        }
        for other in &mut self.open {
            if other.stream == file.stream && other.order < file.order {
                other.must_end_again();
                file.waits = true;
            }
        }
        self.open.push(file);
    }

    fn forget_streams(&mut self) {
        let used: HashSet<&Path> = self.followed().map(|(_, _, path)| path).collect();
        let unused: Vec<PathBuf> =
            self.streams.keys().filter(|path| !used.contains(path.as_path())).cloned().collect();
        for path in unused {
            if let Some(stream) = self.streams.remove(&path) {
                self.labels.remove(&stream);
            }
        }
    }
}

impl Wanted<'_> {
    fn list(&self, directory: &Path) -> io::Result<Siblings> {
        let mut files = Siblings::new();
        for entry in fs::read_dir(directory)?.take(DIRECTORY_ENTRIES_MAX) {
            let entry = entry?;
            let name = entry.file_name();
            let is_named = |wanted: &&OsStr| name.as_bytes().starts_with(wanted.as_bytes());
            if !self.inodes.contains(&entry.ino()) && !self.names.iter().any(is_named) {
                continue;
            }
            // Does not follow links; the entry may be gone.
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                files.push((entry.path(), metadata));
            }
        }
        Ok(files)
    }
}

/// The files beside `path`, if its directory was listed.
fn siblings_of<'a>(
    path: &Path,
    siblings: &'a HashMap<PathBuf, Siblings>,
) -> Option<&'a [(PathBuf, Metadata)]> {
    siblings.get(path.parent()?).map(Vec::as_slice)
}

/// What the file at `at` is to `path`.
fn generation_at(path: &Path, at: &Path) -> Generation {
    match (path.file_name(), at.file_name()) {
        (Some(base), Some(name)) if path.parent() == at.parent() => {
            Generation::of(base.as_bytes(), name.as_bytes())
        }
        _ => Generation::Other,
    }
}
