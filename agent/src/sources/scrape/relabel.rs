//! Relabeling: rules that keep, drop and rewrite labels, with the words and
//! the meaning of Prometheus.
//!
//! A regular expression is anchored at both ends. It is Rust's, not RE2's:
//! [`Rule`] refuses what does not compile, and a compiled one is bounded.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

/// Labels while they are rewritten; an empty value is an absent label.
pub type LabelMap = BTreeMap<String, String>;

/// Memory of one compiled expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    pub const NAMES: [(&'static str, Action); 10] = [
        ("replace", Action::Replace),
        ("keep", Action::Keep),
        ("drop", Action::Drop),
        ("keepequal", Action::KeepEqual),
        ("dropequal", Action::DropEqual),
        ("labelmap", Action::LabelMap),
        ("labeldrop", Action::LabelDrop),
        ("labelkeep", Action::LabelKeep),
        ("lowercase", Action::Lowercase),
        ("uppercase", Action::Uppercase),
    ];

    /// Whether the rule writes into, or compares with, its target label.
    pub fn needs_target(self) -> bool {
        matches!(
            self,
            Action::Replace | Action::KeepEqual | Action::DropEqual | Action::Lowercase | Action::Uppercase
        )
    }
}

/// An anchored regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As it was written.
    text: String,
    regex: Regex,
}

impl Pattern {
    /// # Errors
    ///
    /// What is wrong with `text`, for people.
    pub fn new(text: &str) -> Result<Self, String> {
        let compile = |text: &str| RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
        // On its own first: brackets that only the anchors' close are a mistake.
        let anchored = compile(text).and_then(|_| compile(&format!("^(?s:{text})$")));
        let regex = anchored.map_err(|error| {
            // The last line of a syntax error says what, those before draw where.
            let message = error.to_string();
            message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(Pattern { text: text.to_owned(), regex })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// One step of relabeling.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub action: Action,
    pub source_labels: Vec<String>,
    /// Between the values of the source labels.
    pub separator: String,
    pub regex: Pattern,
    pub target_label: String,
    pub replacement: String,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            action: Action::Replace,
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            regex: Pattern::new("(.*)").expect("a constant that compiles"),
            target_label: String::new(),
            replacement: "$1".to_owned(),
        }
    }
}

impl Rule {
    /// Applies the rule; whether the labels are kept.
    fn apply(&self, labels: &mut LabelMap) -> bool {
        let regex = &self.regex.regex;
        match self.action {
            Action::Replace => self.replace(labels),
            Action::Keep => return regex.is_match(&self.source(labels)),
            Action::Drop => return !regex.is_match(&self.source(labels)),
            Action::KeepEqual => return self.source(labels) == value(labels, &self.target_label),
            Action::DropEqual => return self.source(labels) != value(labels, &self.target_label),
            Action::Lowercase => set(labels, &self.target_label, self.source(labels).to_lowercase()),
            Action::Uppercase => set(labels, &self.target_label, self.source(labels).to_uppercase()),
            Action::LabelDrop => labels.retain(|name, _| !regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| regex.is_match(name)),
            Action::LabelMap => {
                let mapped: Vec<_> = labels
                    .iter()
                    .filter(|(name, _)| regex.is_match(name))
                    .map(|(name, value)| (regex.replace(name, &self.replacement).into_owned(), value.clone()))
                    .collect();
                mapped.into_iter().for_each(|(name, value)| set(labels, &name, value));
            }
        }
        true
    }

    fn replace(&self, labels: &mut LabelMap) {
        let source = self.source(labels);
        let Some(captures) = self.regex.regex.captures(&source) else { return };
        let (mut target, mut replaced) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut target);
        captures.expand(&self.replacement, &mut replaced);
        set(labels, &target, replaced);
    }

    fn source(&self, labels: &LabelMap) -> String {
        let values: Vec<_> = self.source_labels.iter().map(|name| value(labels, name)).collect();
        values.join(&self.separator)
    }
}

/// Applies `rules` in turn; whether the labels are kept.
pub fn relabel(rules: &[Rule], labels: &mut LabelMap) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

fn value<'l>(labels: &'l LabelMap, name: &str) -> &'l str {
    labels.get(name).map_or("", String::as_str)
}

/// A name that expanded to nothing names no label.
fn set(labels: &mut LabelMap, name: &str, value: String) {
    if name.is_empty() {
        return;
    }
    if value.is_empty() {
        labels.remove(name);
    } else {
        labels.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> LabelMap {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        pairs.filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    fn rule(action: Action, source: &[&str], regex: &str, target: &str, replacement: &str) -> Rule {
        Rule {
            action,
            source_labels: source.iter().map(|name| (*name).to_owned()).collect(),
            regex: Pattern::new(regex).unwrap(),
            target_label: target.to_owned(),
            replacement: replacement.to_owned(),
            ..Rule::default()
        }
    }

    /// `None`: dropped.
    fn check(rules: &[Rule], before: &str, after: Option<&str>) {
        let mut labels = map(before);
        let kept = relabel(rules, &mut labels);
        assert_eq!(kept.then_some(labels), after.map(map), "{rules:?} of {before}");
    }

    #[test]
    fn rules() {
        use Action::*;
        check(&[rule(Replace, &["a"], "f(.*)", "d", "ch${1}-ch${1}")], "a=foo", Some("a=foo,d=choo-choo"));
        check(
            &[rule(Replace, &["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m")],
            "a=foo,b=bar",
            Some("a=boobam,b=bar"),
        );
        check(&[rule(Replace, &["a"], "nothing", "d", "x")], "a=foo", Some("a=foo"));
        check(&[rule(Replace, &["a"], "oo", "d", "x")], "a=foo", Some("a=foo"));
        check(&[rule(Replace, &["a"], "f(.*)", "a", "$2")], "a=foo,b=1", Some("b=1"));
        check(&[rule(Replace, &["a"], "(.*)", "${1}", "x")], "a=foo", Some("a=foo,foo=x"));
        check(&[rule(Replace, &["b"], "(.*)", "${1}", "x")], "a=foo", Some("a=foo"));
        check(&[rule(Replace, &[], "(.*)", "b", "fixed")], "a=1", Some("a=1,b=fixed"));
        check(&[rule(Keep, &["a"], "f.*", "", "")], "a=foo", Some("a=foo"));
        check(&[rule(Keep, &["a"], "o", "", "")], "a=foo", None);
        check(&[rule(Drop, &["a"], "f.*", "", "")], "a=foo", None);
        check(
            &[rule(Drop, &["a"], "f.*", "", ""), rule(Replace, &[], "", "b", "x")],
            "a=boo",
            Some("a=boo,b=x"),
        );
        check(&[rule(KeepEqual, &["a"], "(.*)", "b", "")], "a=1,b=1", Some("a=1,b=1"));
        check(&[rule(KeepEqual, &["a"], "(.*)", "b", "")], "a=1,b=2", None);
        check(&[rule(DropEqual, &["a"], "(.*)", "b", "")], "a=1,b=1", None);
        check(&[rule(DropEqual, &["a"], "(.*)", "b", "")], "a=1,b=2", Some("a=1,b=2"));
        check(&[rule(LabelMap, &[], "meta_(.+)", "", "$1")], "meta_a=1,b=2", Some("a=1,b=2,meta_a=1"));
        check(&[rule(LabelDrop, &[], "meta_.*", "", "")], "meta_a=1,b=2", Some("b=2"));
        check(&[rule(LabelKeep, &[], "b|c", "", "")], "a=1,b=2", Some("b=2"));
        check(&[rule(Lowercase, &["a"], "(.*)", "b", "")], "a=FoO", Some("a=FoO,b=foo"));
        check(&[rule(Uppercase, &["a"], "(.*)", "a", "")], "a=foo", Some("a=FOO"));
        // A line feed is a character like others.
        check(&[rule(Drop, &["a"], "x.*z", "", "")], "a=x\nz", None);
    }

    #[test]
    fn expressions_that_do_not_compile() {
        assert_eq!(Pattern::new("a(b").unwrap_err(), "unclosed group");
        assert!(Pattern::new("(.{1000}){1000}").unwrap_err().contains("size limit"), "bounded");
        assert!(Pattern::new(")(").is_err());
    }
}
