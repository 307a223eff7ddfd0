//! Numbered lines, `p=<producer> i=<number> crc=<crc32c of what is before>`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Violations;
use crate::api::{Labels, LogLine};
use crate::random::Random;

/// The line of a number.
pub fn line(producer: u32, number: u64) -> String {
    let text = format!("p={producer} i={number}");
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{text} crc={crc:08x}")
}

/// The producer and number of a line; `None` when it is damaged.
pub fn parse(text: &str) -> Option<(u32, u64)> {
    let (head, crc) = text.split_once(" crc=")?;
    if format!("{:08x}", crc32c::crc32c(head.as_bytes())) != crc {
        return None;
    }
    let (producer, number) = head.strip_prefix("p=")?.split_once(" i=")?;
    Some((producer.parse().ok()?, number.parse().ok()?))
}

/// How a log file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The file gets another name and a new one is begun.
    Rename,
    /// The file is copied to where nobody looks, and emptied.
    CopyTruncate,
}

/// Writes numbered lines into `app.log` of a directory. Every line that it
/// has written completely is an obligation.
pub struct LineWriter {
    producer: u32,
    dir: PathBuf,
    file: File,
    written: u64,
    rotations: u32,
    /// How many lines are obligations, on disk: for whoever looks at a failed run.
    obligations: File,
}

impl LineWriter {
    /// # Panics
    ///
    /// When the directory cannot be written.
    pub fn new(dir: &Path, producer: u32) -> LineWriter {
        let file = open(dir);
        let obligations =
            File::create(dir.join(format!("obligations-{producer}"))).expect("the directory is ours");
        LineWriter { producer, dir: dir.to_owned(), file, written: 0, rotations: 0, obligations }
    }

    /// Lines that were written completely.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes `count` lines in one call.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write(&mut self, count: u64) {
        let mut text = String::new();
        for number in self.written..self.written + count {
            text.push_str(&line(self.producer, number));
            text.push('\n');
        }
        self.file.write_all(text.as_bytes()).expect("the file is ours");
        self.note(count);
    }

    /// Writes one line in two calls, `between` between them.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write_in_halves(&mut self, between: impl FnOnce()) {
        let text = format!("{}\n", line(self.producer, self.written));
        let (first, second) = text.split_at(text.len() / 2);
        self.file.write_all(first.as_bytes()).expect("the file is ours");
        between();
        self.file.write_all(second.as_bytes()).expect("the file is ours");
        self.note(1);
    }

    /// Writes some lines as the generator says, and rotates now and then.
    pub fn step(&mut self, random: &mut Random) {
        match random.between(0, 20) {
            0 => self.rotate(Rotation::Rename),
            1 => {
                let pause = std::time::Duration::from_millis(random.between(1, 30));
                self.write_in_halves(|| std::thread::sleep(pause));
            }
            _ => self.write(random.between(1, 40)),
        }
    }

    /// # Panics
    ///
    /// When the file system refuses.
    pub fn rotate(&mut self, rotation: Rotation) {
        self.rotations += 1;
        let current = self.dir.join("app.log");
        match rotation {
            Rotation::Rename => {
                let aside = self.dir.join(format!("app.log.{}", self.rotations));
                fs::rename(&current, aside).expect("the directory is ours");
                self.file = open(&self.dir);
            }
            Rotation::CopyTruncate => {
                let aside = self.dir.join(format!("copy-{}", self.rotations));
                fs::copy(&current, aside).expect("the directory is ours");
                // Opened with O_APPEND: the next write is at the new end.
                self.file.set_len(0).expect("the file is ours");
            }
        }
    }

    fn note(&mut self, count: u64) {
        self.written += count;
        let _ = writeln!(self.obligations, "{}", self.written);
    }
}

fn open(dir: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(dir.join("app.log")).expect("the directory is ours")
}

/// Compares what was found with the `written` lines of `producer`.
pub fn check(found: &[LogLine], producer: u32, written: u64, violations: &mut Violations) {
    let mut counts = vec![0_u32; written as usize];
    let (mut damaged, mut foreign, mut disordered) = (Vec::new(), Vec::new(), Vec::new());
    let mut newest: BTreeMap<&Labels, u64> = BTreeMap::new();
    for entry in found {
        let Some((by, number)) = parse(&entry.line) else {
            damaged.push(&entry.line);
            continue;
        };
        match counts.get_mut(number as usize) {
            Some(count) if by == producer => *count += 1,
            _ => {
                foreign.push(&entry.line);
                continue;
            }
        }
        match newest.insert(&entry.labels, number) {
            Some(before) if before > number => disordered.push((before, number)),
            _ => {}
        }
    }
    let numbers = |wanted: &dyn Fn(u32) -> bool| -> Vec<usize> {
        (0..counts.len()).filter(|number| wanted(counts[*number])).collect()
    };
    violations.add_all(&format!("lost lines of producer {producer}"), &numbers(&|count| count == 0));
    violations.add_all(&format!("doubled lines of producer {producer}"), &numbers(&|count| count > 1));
    violations.add_all("damaged lines", &damaged);
    violations.add_all(&format!("lines that producer {producer} never wrote"), &foreign);
    violations.add_all(&format!("lines of producer {producer} out of order"), &disordered);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: &[u64]) -> Vec<LogLine> {
        let line =
            |number: &u64| LogLine { labels: Labels::new(), time_unix_nano: 0, line: line(0, *number) };
        numbers.iter().map(line).collect()
    }

    #[track_caller]
    fn check_numbers(numbers: &[u64], expected: &[&str]) {
        let mut violations = Violations::default();
        check(&found(numbers), 0, 3, &mut violations);
        let told = violations.into_vec();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn the_checker_sees_what_is_wrong() {
        check_numbers(&[0, 1, 2], &[]);
        check_numbers(&[0, 2], &["lost lines of producer 0: 1 of them, first [1]"]);
        check_numbers(&[0, 1, 1, 2], &["doubled"]);
        check_numbers(&[0, 2, 1], &["out of order"]);
        check_numbers(&[0, 1, 2, 3], &["never wrote"]);
    }

    #[test]
    fn damage_is_seen() {
        assert_eq!(parse(&line(3, 17)), Some((3, 17)));
        assert_eq!(parse(&line(3, 17).replace("17", "18")), None);
        let mut violations = Violations::default();
        let mut entries = found(&[0, 1, 2]);
        entries[1].line.pop();
        check(&entries, 0, 3, &mut violations);
        assert_eq!(violations.into_vec().len(), 2);
    }
}
