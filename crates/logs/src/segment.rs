//! A run of lines of one stream, in one allocation each for times, ends, text.

/// A segment is full at this many bytes of text. One longer line fills a
/// segment of its own.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A segment is full at this many lines.
const LINES_MAX: usize = 4096;

/// Lines in ascending time; lines of one time in order of arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    times: Vec<i64>,
    /// Where each line ends in `text`, and the next begins.
    ends: Vec<usize>,
    text: Vec<u8>,
}

impl Segment {
    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_full(&self) -> bool {
        self.text.len() >= TEXT_BYTES_MAX || self.len() >= LINES_MAX
    }

    /// # Panics
    ///
    /// If the segment is empty, as are the next two.
    pub fn first_time(&self) -> i64 {
        self.times[0]
    }

    pub fn last_time(&self) -> i64 {
        self.times[self.len() - 1]
    }

    pub fn time(&self, index: usize) -> i64 {
        self.times[index]
    }

    pub fn line(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }

    /// All lines, one after the other without separators.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Index of the first line at or after `time`.
    pub fn first_at(&self, time: i64) -> usize {
        self.times.partition_point(|t| *t < time)
    }

    /// Memory of this segment, its struct included.
    pub fn bytes(&self) -> usize {
        let entries = self.times.capacity() * size_of::<i64>() + self.ends.capacity() * size_of::<usize>();
        size_of::<Segment>() + entries + self.text.capacity()
    }

    /// Inserts after all lines that are not newer.
    pub fn insert(&mut self, time: i64, line: &[u8]) {
        let index = self.times.partition_point(|t| *t <= time);
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.times.insert(index, time);
        self.ends.insert(index, start);
        for end in &mut self.ends[index..] {
            *end += line.len();
        }
        self.text.splice(start..start, line.iter().copied());
        if self.is_full() {
            self.times.shrink_to_fit();
            self.ends.shrink_to_fit();
            self.text.shrink_to_fit();
        }
    }

    /// Splits off the newer half. The segment has at least two lines.
    pub fn split_half(&mut self) -> Segment {
        let middle = self.len() / 2;
        let newer = self.copy(middle, self.len());
        *self = self.copy(0, middle);
        newer
    }

    /// Removes the first `count` lines.
    pub fn remove_first(&mut self, count: usize) {
        *self = self.copy(count, self.len());
    }

    /// Keeps the first `count` lines, at least one.
    pub fn truncate(&mut self, count: usize) {
        *self = self.copy(0, count);
    }

    fn copy(&self, start: usize, end: usize) -> Segment {
        let offset = start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let text_end = end.checked_sub(1).map_or(0, |last| self.ends[last]);
        Segment {
            times: self.times[start..end].to_vec(),
            ends: self.ends[start..end].iter().map(|at| at - offset).collect(),
            text: self.text[offset..text_end].to_vec(),
        }
    }
}
