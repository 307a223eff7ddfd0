//! The identity of a series or log stream: sorted, unique name-value pairs.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One name-value pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub name: Box<str>,
    pub value: Box<str>,
}

/// Labels sorted by name, each name once, no empty values (an empty value
/// means that the label is absent, as in Prometheus). Cheap to clone, and one
/// allocation however many labels there are: a store holds millions of them.
///
/// ```text
/// text   = "" | count label*            "" if there are none
/// label  = length name length value
/// length = 6 bits in each byte, least first, 0x40 set on all but the last
/// ```
///
/// So all of it is UTF-8, and equal labels are equal text.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    pub fn empty() -> Self {
        Labels::default()
    }

    /// Builds from pairs in any order; a later pair wins over an earlier one
    /// of the same name, and empty values are left out.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// Builds from pairs that are sorted by name, each name once, without
    /// empty values: what peers must send.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub fn from_sorted<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Self {
        if pairs.len() == 0 {
            return Labels::default();
        }
        let mut text = String::with_capacity(256);
        push_length(&mut text, pairs.len());
        let mut before = None;
        for (name, value) in pairs {
            assert!(before < Some(name) && !value.is_empty(), "labels are sorted and have values");
            before = Some(name);
            for part in [name, value] {
                push_length(&mut text, part.len());
                text.push_str(part);
            }
        }
        Labels(text.into())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The metric's name, or `""` when the labels have none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    pub fn iter(&self) -> Iter<'_> {
        let mut iter = Iter { rest: &self.0, left: 0 };
        if !self.0.is_empty() {
            iter.left = iter.length();
        }
        iter
    }

    pub fn len(&self) -> usize {
        self.iter().left
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Memory of the labels, however often they are shared.
    pub fn bytes(&self) -> usize {
        // The two counts of an Arc.
        16 + self.0.len()
    }

    /// A builder that starts with these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        let label = |(name, value): (&str, &str)| Label { name: name.into(), value: value.into() };
        LabelsBuilder { pairs: self.iter().map(label).collect() }
    }
}

/// Goes over labels in the order of their names.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
    left: usize,
}

impl<'a> Iter<'a> {
    fn length(&mut self) -> usize {
        let mut length = 0;
        for (at, byte) in self.rest.bytes().enumerate() {
            length |= usize::from(byte & 0x3f) << (6 * at);
            if byte & 0x40 == 0 {
                self.rest = &self.rest[at + 1..];
                return length;
            }
        }
        unreachable!("a length ends with a byte that says so: push_length wrote it")
    }

    fn part(&mut self) -> &'a str {
        let length = self.length();
        let (part, rest) = self.rest.split_at(length);
        self.rest = rest;
        part
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.part(), self.part()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

fn push_length(text: &mut String, mut length: usize) {
    while length >= 0x40 {
        text.push(char::from((length & 0x3f) as u8 | 0x40));
        length >>= 6;
    }
    text.push(char::from(length as u8));
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// By names and values, in order.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Labels {
    /// `{a="1", b="2"}`, values quoted as in PromQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

/// Collects labels in any order.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<Label>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<Box<str>>, value: impl Into<Box<str>>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        self.remove(&name);
        if !value.is_empty() {
            self.pairs.push(Label { name, value });
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|label| &*label.name != name);
        self
    }

    /// Keeps the labels for which `keep(name)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) -> &mut Self {
        self.pairs.retain(|label| keep(&label.name));
        self
    }

    pub fn build(mut self) -> Labels {
        self.pairs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Labels::from_sorted(self.pairs.iter().map(|label| (&*label.name, &*label.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_any_size_come_back() {
        let lengths = [1, 63, 64, 4095, 4096, 70_000];
        let pairs = lengths.map(|length| (format!("n{length:06}"), "é".repeat(length)));
        let labels = Labels::from_pairs(pairs.clone());
        assert_eq!((labels.len(), labels.iter().len()), (6, 6));
        let read: Vec<_> = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(read, pairs);
        assert_eq!(labels.get("n004096"), Some(&*"é".repeat(4096)));
        assert_eq!(labels.get("n"), None);
        assert_eq!(Labels::from_sorted(labels.iter()), labels);
        assert_eq!(labels.to_builder().build(), labels);
    }

    #[test]
    fn no_labels_are_equal_however_made() {
        assert_eq!(Labels::from_pairs([("a", "")]), Labels::empty());
        assert_eq!((Labels::empty().len(), Labels::empty().iter().next()), (0, None));
    }

    #[test]
    fn order_is_that_of_names_then_values() {
        let of = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let ascending = [
            of(&[]),
            of(&[("a", "1")]),
            of(&[("a", "1"), ("b", "1")]),
            of(&[("a", "10")]),
            of(&[("a", "2")]),
            of(&[("aa", "1")]),
        ];
        assert!(ascending.is_sorted(), "{ascending:?}");
    }
}
