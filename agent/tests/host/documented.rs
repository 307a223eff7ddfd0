//! That docs/host-metrics.md lists what there is.

use lm_agent::sources::host::filter::FILTERS;
use lm_agent::sources::host::registry::COLLECTORS;

const PAGE: &str = include_str!("../../../docs/host-metrics.md");

#[test]
fn every_collector_stands_in_the_table_with_its_default() {
    let rows: Vec<_> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap_or_default()))
        .collect();
    let known: Vec<_> =
        COLLECTORS.iter().map(|known| (known.name, if known.is_default { "on" } else { "off" })).collect();
    let undocumented: Vec<_> = known.iter().filter(|row| !rows.contains(row)).collect();
    let unknown: Vec<_> = rows.iter().filter(|row| !known.contains(row)).collect();
    assert!(undocumented.is_empty() && unknown.is_empty(), "lacks {undocumented:?}, has {unknown:?}");
}

/// Filters of collectors that do not exist would promise something.
#[test]
fn every_filter_is_of_a_collector_in_the_table() {
    let unused: Vec<_> =
        FILTERS.iter().filter(|filter| !PAGE.contains(&format!("`{}`", filter.name))).collect();
    assert!(unused.is_empty(), "not in the page: {unused:?}");
}
