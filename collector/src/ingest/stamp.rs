//! What the collector puts on everything that an agent sends, whatever the
//! agent says of itself.
//!
//! A series that brings an `instance` of its own (a scraped target's) keeps it
//! where the agent's scope allows, and then has the agent's name as `agent`.
//! Anything else is the agent's own: `instance` is its name. So each series
//! and stream says in one of the two whose it is, and nobody else's can be
//! written. A name that is taken away from what was sent is kept with
//! `exported_` before it.

use lm_model::{Labels, LabelsBuilder};

/// Label that a session's scope decides.
pub const INSTANCE: &str = "instance";
/// Who sent what has an instance of its own.
pub const AGENT: &str = "agent";
/// Our own, where series and notices have an agent's name.
pub const COLLECTOR: &str = "collector";
/// Whose batch it is when we made it ourselves. No identity has this name:
/// those are letters, digits, '.', '_' and '-'.
pub const OWN: &str = "@collector";
/// Where a stamp holds the instances that its agent may write beside its own:
/// patterns with [`PATTERN_END`] between them. It is kept with each record, so
/// that a replay decides as ingest did, and is never put on anything. No token
/// file can give a label of this name.
const INSTANCES: &str = "__instances__";
pub const PATTERN_END: char = ',';
/// Where a stamp holds the name of a writer; never put on anything either.
const WRITER: &str = "__writer__";

/// What everything of `agent` is labelled with: its name as `instance`, and
/// the labels that its credential gives.
pub fn stamp(agent: &str, labels: &Labels) -> Labels {
    let mut builder = labels.to_builder();
    builder.set(INSTANCE, agent);
    builder.build()
}

/// As [`stamp`], of an agent that may write the `instances` too.
pub fn stamp_with(agent: &str, labels: &Labels, instances: &[String]) -> Labels {
    let mut builder = stamp(agent, labels).to_builder();
    builder.set(INSTANCES, instances.join(&PATTERN_END.to_string()));
    builder.build()
}

/// What everything of `writer` is labelled with: the labels that its
/// credential gives. Its series bring their own `instance`.
pub fn stamp_writer(writer: &str, labels: &Labels) -> Labels {
    let mut builder = labels.to_builder();
    builder.set(WRITER, writer);
    builder.build()
}

/// `sent` with the stamp over it. Our own series have no stamp: each of them
/// says itself whose it is.
pub fn stamped(sent: &Labels, stamp: &Labels) -> Labels {
    if stamp.get(WRITER).is_some() {
        return written(sent, stamp);
    }
    let Some(agent) = stamp.get(INSTANCE) else { return sent.clone() };
    let mut builder = sent.to_builder();
    for (name, value) in stamp.iter().filter(|(name, _)| *name != INSTANCES) {
        builder.set(name, value);
    }
    let other = sent.get(INSTANCE).filter(|instance| *instance != agent);
    if let Some(claimed) = sent.get(AGENT).filter(|claimed| *claimed != agent) {
        builder.remove(AGENT);
        export(sent, AGENT, claimed, &mut builder);
    }
    match other {
        Some(other) if may_write(agent, stamp.get(INSTANCES).unwrap_or_default(), other) => {
            builder.set(INSTANCE, other).set(AGENT, agent);
        }
        Some(other) => export(sent, INSTANCE, other, &mut builder),
        None => {}
    }
    builder.build()
}

/// A writer's series is whatever it says, but for what its credential gives,
/// and for our own.
fn written(sent: &Labels, stamp: &Labels) -> Labels {
    let is_ours = sent.get(INSTANCE) == Some(COLLECTOR);
    if stamp.len() == 1 && !is_ours {
        return sent.clone();
    }
    let mut builder = sent.to_builder();
    if is_ours {
        builder.remove(INSTANCE);
        export(sent, INSTANCE, COLLECTOR, &mut builder);
    }
    for (name, value) in stamp.iter().filter(|(name, _)| *name != WRITER) {
        builder.set(name, value);
    }
    builder.build()
}

fn export(sent: &Labels, name: &str, value: &str, builder: &mut LabelsBuilder) {
    let mut exported = format!("exported_{name}");
    while sent.get(&exported).is_some() {
        exported.insert_str(0, "exported_");
    }
    builder.set(exported, value);
}

/// Whether `agent` may write `instance`: ports of its own name and of loopback,
/// which nobody else can mean, and what `patterns` allow.
fn may_write(agent: &str, patterns: &str, instance: &str) -> bool {
    if instance == COLLECTOR {
        return false;
    }
    let host = match instance.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => instance,
    };
    let is_loopback = matches!(host, "localhost" | "[::1]")
        || host
            .strip_prefix("127.")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    is_loopback
        || host == agent
        || patterns.split(PATTERN_END).any(|pattern| !pattern.is_empty() && fits(pattern, instance))
}

/// Whether `text` is `pattern`, in which each `*` stands for any characters.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, behind)) = text.split_once(part) else { return false };
        text = behind;
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &[(&str, &str)], patterns: &str, expected: &str) {
        let given = Labels::from_pairs([("env", "prod")]);
        let patterns: Vec<_> = patterns.split_terminator(PATTERN_END).map(str::to_owned).collect();
        let stamp = stamp_with("web1", &given, &patterns);
        let labels = stamped(&Labels::from_pairs(sent.iter().copied()), &stamp);
        assert_eq!(labels.to_string(), expected, "{sent:?} {patterns:?}");
    }

    #[test]
    fn whose_a_series_is() {
        check(&[("a", "1")], "", r#"{a="1", env="prod", instance="web1"}"#);
        check(&[("instance", "web1"), ("env", "dev")], "", r#"{env="prod", instance="web1"}"#);
        // Nobody else's name, unless it was allowed.
        check(&[("instance", "db1")], "", r#"{env="prod", exported_instance="db1", instance="web1"}"#);
        check(
            &[("instance", "db1"), ("exported_instance", "x")],
            "",
            r#"{env="prod", exported_exported_instance="db1", exported_instance="x", instance="web1"}"#,
        );
        check(
            &[("instance", "db1:9100")],
            "a,db*:9100",
            r#"{agent="web1", env="prod", instance="db1:9100"}"#,
        );
        check(
            &[("instance", "db1:9100")],
            "db*:910",
            r#"{env="prod", exported_instance="db1:9100", instance="web1"}"#,
        );
        check(
            &[("instance", "collector")],
            "*",
            r#"{env="prod", exported_instance="collector", instance="web1"}"#,
        );
        // Its own ports, and loopback, which every host has.
        for own in ["web1:9100", "localhost:9100", "127.0.0.1:80", "[::1]:80", "localhost"] {
            check(&[("instance", own)], "", &format!(r#"{{agent="web1", env="prod", instance="{own}"}}"#));
        }
        for other in ["web12:9100", "127.0.0.1.example.com:80", "localhost.example.com", "web1:x"] {
            let expected = format!(r#"{{env="prod", exported_instance="{other}", instance="web1"}}"#);
            check(&[("instance", other)], "", &expected);
        }
        // Nor can it say that another has sent it.
        check(&[("agent", "db1")], "", r#"{env="prod", exported_agent="db1", instance="web1"}"#);
        check(
            &[("agent", "db1"), ("instance", "localhost:1")],
            "",
            r#"{agent="web1", env="prod", exported_agent="db1", instance="localhost:1"}"#,
        );
    }

    #[test]
    fn what_writers_send_is_theirs_but_for_the_stamp() {
        let stamp = stamp_writer("ci", &Labels::from_pairs([("env", "prod")]));
        for (sent, expected) in [
            ([("env", "dev"), ("instance", "db1")], r#"{env="prod", instance="db1"}"#),
            (
                [("a", "1"), ("instance", "collector")],
                r#"{a="1", env="prod", exported_instance="collector"}"#,
            ),
        ] {
            assert_eq!(stamped(&Labels::from_pairs(sent), &stamp).to_string(), expected);
        }
        let plain = stamp_writer("ci", &Labels::empty());
        let sent = Labels::from_pairs([("a", "1"), ("agent", "db1")]);
        assert_eq!(stamped(&sent, &plain), sent);
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*", "b", false),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c", false),
            ("a**c", "ac", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
