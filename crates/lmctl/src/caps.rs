//! `lmctl caps`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use lm_schema::operator::{CapabilityFacts, CapabilityFilter, read_list};
use serde::Serialize;

use crate::failure::Failure;
use crate::ids;
use crate::link::{Link, answer, goes_on, unix_ms};
use crate::output::{Out, age, or_dash, size, table as aligned};
use crate::watch::{self, WatchArgs};

/// Deepest level that the tree is drawn to; below it lines are not indented
/// any further.
const LEVELS_MAX: usize = 16;

#[derive(Args)]
pub struct CapsArgs {
    /// Each capability below the one that it was derived from
    #[arg(long)]
    tree: bool,
    /// Of one session
    #[arg(long, value_name = "SESSION", value_parser = ids::session)]
    session: Option<u64>,
    /// Of one interface, such as Reader
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Of one identity
    #[arg(long, value_name = "IDENTITY")]
    holder: Option<String>,
    #[command(flatten)]
    watch: WatchArgs,
}

#[derive(Serialize)]
struct Document {
    capabilities: Vec<CapabilityFacts>,
}

pub async fn run(link: &Link, args: &CapsArgs, out: &mut Out) -> Result<(), Failure> {
    let filter = CapabilityFilter {
        session: args.session.unwrap_or(0),
        interface: args.interface.clone().unwrap_or_default(),
        holder: args.holder.clone().unwrap_or_default(),
    };
    let fetch = async || Ok(Document { capabilities: fetch(link, &filter).await? });
    watch::show(link, &args.watch, out, fetch, |found| table(&found.capabilities, args.tree, unix_ms())).await
}

/// Asks for the capabilities, without those of our own session.
async fn fetch(link: &Link, filter: &CapabilityFilter) -> Result<Vec<CapabilityFacts>, Failure> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let mut request = link.operator().capabilities_request();
        request.get().set_after_id(after);
        filter.write(request.get().init_filter());
        let response = answer(request.send().promise).await?;
        let page = response.get()?;
        let capabilities = read_list(page.get_capabilities()?, CapabilityFacts::read)?;
        let last = capabilities.last().map(|capability| capability.id);
        found.extend(capabilities.into_iter().filter(|capability| capability.session != link.own()));
        if !page.get_has_more() {
            return Ok(found);
        }
        after = goes_on(after, last, found.len())?;
    }
}

fn table(capabilities: &[CapabilityFacts], is_tree: bool, now: i64) -> String {
    let heads = [
        "ID",
        "SESSION",
        "HOLDER",
        "INTERFACE",
        "SCOPE",
        "AGE",
        "EXPIRES",
        "CALLS",
        "ERRORS",
        "RECEIVED",
        "SENT",
        "NOW",
        "LAST CALL",
    ];
    let row = |(prefix, c): &(String, &CapabilityFacts)| {
        let expires = match c.expires_unix_ms {
            0 => "-".to_owned(),
            at if at <= now => "over".to_owned(),
            at => format!("in {}", age(at - now)),
        };
        let last = match c.last_use_unix_ms {
            0 => "-".to_owned(),
            at => format!("{} {} ago", c.last_method, age(now - at)),
        };
        vec![
            format!("{prefix}c{}", c.id),
            format!("s{}", c.session),
            c.holder.clone(),
            c.interface.clone(),
            or_dash(&c.scope),
            age(now - c.granted_unix_ms),
            expires,
            c.calls.to_string(),
            c.errors.to_string(),
            size(c.bytes_received),
            size(c.bytes_sent),
            c.in_flight.to_string(),
            last,
        ]
    };
    let lines = if is_tree { tree(capabilities) } else { flat(capabilities) };
    aligned(&heads, &lines.iter().map(row).collect::<Vec<_>>())
}

fn flat(capabilities: &[CapabilityFacts]) -> Vec<(String, &CapabilityFacts)> {
    capabilities.iter().map(|capability| (String::new(), capability)).collect()
}

/// Lines in the order of the tree, each with what is drawn before its id. A
/// capability whose grantor is not in the list stands at the left.
fn tree(capabilities: &[CapabilityFacts]) -> Vec<(String, &CapabilityFacts)> {
    let known: BTreeSet<u64> = capabilities.iter().map(|capability| capability.id).collect();
    let mut derived: BTreeMap<u64, Vec<&CapabilityFacts>> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    let is_root = |c: &CapabilityFacts| !known.contains(&c.grantor);
    for capability in capabilities.iter().filter(|c| !is_root(c)) {
        derived.entry(capability.grantor).or_default().push(capability);
    }
    // What no root leads to would be a circle; it is listed all the same.
    let roots = capabilities.iter().filter(|c| is_root(c)).chain(capabilities);
    for root in roots {
        // `(what is drawn before its descendants, before itself, capability)`
        let mut next = vec![(String::new(), String::new(), 0, root)];
        while let Some((below, before, level, capability)) = next.pop() {
            if !seen.insert(capability.id) {
                continue;
            }
            lines.push((before, capability));
            let children = derived.get(&capability.id).map_or(&[][..], Vec::as_slice);
            for (index, child) in children.iter().enumerate().rev() {
                let (turn, on) =
                    if index + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                let on = if level < LEVELS_MAX { on } else { "" };
                next.push((format!("{below}{on}"), format!("{below}{turn}"), level + 1, child));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(pairs: &[(u64, u64)]) -> Vec<String> {
        let facts = |(id, grantor): &(u64, u64)| CapabilityFacts {
            id: *id,
            grantor: *grantor,
            ..CapabilityFacts::default()
        };
        let capabilities: Vec<_> = pairs.iter().map(facts).collect();
        tree(&capabilities).iter().map(|(before, c)| format!("{before}c{}", c.id)).collect()
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let pairs = [(1, 0), (2, 1), (3, 2), (4, 1), (5, 4), (6, 0), (9, 77)];
        assert_eq!(
            drawn(&pairs),
            ["c1", "├─ c2", "│  └─ c3", "└─ c4", "   └─ c5", "c6", "c9"],
            "c9's grantor is not in the list"
        );
    }

    #[test]
    fn circles_and_chains_come_to_an_end() {
        let mut circle = drawn(&[(1, 2), (2, 1), (3, 3)]);
        circle.sort();
        assert_eq!(circle.len(), 3);
        let chain: Vec<_> = (1..20_000).map(|id| (id, id - 1)).collect();
        let lines = drawn(&chain);
        assert_eq!(lines.len(), chain.len());
        assert!(lines.iter().all(|line| line.chars().count() < 80), "the depth that is drawn is bounded");
    }
}
