//! Which series of an aggregation belong together.

use std::collections::HashMap;

use lm_model::{Labels, METRIC_NAME};

use crate::ast::Grouping;

/// Series by group, both in the order in which they came.
pub(crate) struct Groups {
    /// Labels of each group.
    pub labels: Vec<Labels>,
    /// Places of the series, those of one group together.
    members: Vec<u32>,
    /// Where in `members` each group begins, and where the last one ends.
    bounds: Vec<usize>,
}

impl Groups {
    pub fn of<'l>(series: impl ExactSizeIterator<Item = &'l Labels>, grouping: &Grouping) -> Self {
        let mut group_of: Vec<u32> = Vec::with_capacity(series.len());
        let mut labels = Vec::new();
        let mut places: HashMap<Box<[u8]>, u32> = HashMap::new();
        let (mut key, mut last_key, mut last) = (Vec::new(), Vec::new(), None);
        for of in series {
            write_key(of, grouping, &mut key);
            // Neighbours often belong together.
            let group = match last {
                Some(group) if key == last_key => group,
                _ => match places.get(key.as_slice()) {
                    Some(group) => *group,
                    None => {
                        let group = labels.len() as u32;
                        labels.push(group_labels(of, grouping));
                        places.insert(key.as_slice().into(), group);
                        group
                    }
                },
            };
            group_of.push(group);
            last = Some(group);
            std::mem::swap(&mut key, &mut last_key);
        }
        let mut bounds = vec![0; labels.len() + 1];
        group_of.iter().for_each(|group| bounds[*group as usize + 1] += 1);
        for group in 0..labels.len() {
            bounds[group + 1] += bounds[group];
        }
        let mut members = vec![0; group_of.len()];
        let mut ends = bounds.clone();
        for (place, group) in group_of.into_iter().enumerate() {
            members[ends[group as usize]] = place as u32;
            ends[group as usize] += 1;
        }
        Groups { labels, members, bounds }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Places of the series of a group.
    pub fn members(&self, group: usize) -> &[u32] {
        &self.members[self.bounds[group]..self.bounds[group + 1]]
    }
}

/// Writes bytes that are equal for, and only for, labels of one group.
fn write_key(labels: &Labels, grouping: &Grouping, key: &mut Vec<u8>) {
    key.clear();
    let mut write = |text: &str| {
        key.extend_from_slice(&(text.len() as u64).to_le_bytes());
        key.extend_from_slice(text.as_bytes());
    };
    match grouping {
        // No label has an empty value, so that stands for a missing one.
        Grouping::By(names) => names.iter().for_each(|name| write(labels.get(name).unwrap_or(""))),
        Grouping::Without(names) => {
            for (name, value) in labels.iter().filter(|(name, _)| !is_dropped(name, names)) {
                write(name);
                write(value);
            }
        }
    }
}

fn is_dropped(name: &str, names: &[String]) -> bool {
    name == METRIC_NAME || names.iter().any(|dropped| dropped == name)
}

/// The labels of the group that a series with `labels` belongs to.
pub(crate) fn group_labels(labels: &Labels, grouping: &Grouping) -> Labels {
    match grouping {
        Grouping::By(names) if names.is_empty() => Labels::empty(),
        Grouping::By(names) => {
            let mut builder = labels.to_builder();
            builder.retain(|name| names.iter().any(|kept| kept == name));
            builder.build()
        }
        Grouping::Without(names) => {
            let mut builder = labels.to_builder();
            builder.retain(|name| !is_dropped(name, names));
            builder.build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'p> = &'p [(&'p str, &'p str)];

    fn check(grouping: Grouping, series: &[Pairs<'_>], expected: &[(Pairs<'_>, &[u32])]) {
        let labels = |pairs: Pairs<'_>| Labels::from_pairs(pairs.iter().copied());
        let series: Vec<Labels> = series.iter().map(|pairs| labels(pairs)).collect();
        let groups = Groups::of(series.iter(), &grouping);
        let found: Vec<(Labels, &[u32])> =
            (0..groups.len()).map(|group| (groups.labels[group].clone(), groups.members(group))).collect();
        let expected: Vec<(Labels, &[u32])> =
            expected.iter().map(|(pairs, places)| (labels(pairs), *places)).collect();
        assert_eq!(found, expected, "{grouping:?}");
    }

    #[test]
    fn series_are_grouped_by_labels_in_their_order() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let series: [Pairs<'_>; 4] = [
            &[("__name__", "m"), ("a", "1"), ("b", "x")],
            &[("__name__", "n"), ("a", "1"), ("b", "y")],
            &[("__name__", "m"), ("b", "x")],
            &[("__name__", "n"), ("a", "1"), ("b", "x")],
        ];
        check(Grouping::By(names(&["a"])), &series, &[(&[("a", "1")], &[0, 1, 3]), (&[], &[2])]);
        check(Grouping::By(names(&["c"])), &series, &[(&[], &[0, 1, 2, 3])]);
        check(
            Grouping::Without(names(&["a"])),
            &series,
            &[(&[("b", "x")], &[0, 2, 3]), (&[("b", "y")], &[1])],
        );
    }

    #[test]
    fn texts_are_not_mixed_up_with_their_neighbours() {
        let by = Grouping::By(vec!["a".to_owned(), "b".to_owned()]);
        let series: [Pairs<'_>; 2] = [&[("a", "xb"), ("b", "y")], &[("a", "x"), ("b", "by")]];
        check(by, &series, &[(series[0], &[0]), (series[1], &[1])]);
    }
}
