use super::*;
use crate::search::Direction;
use lm_model::{LogRecord, MatchOp};
use proptest::prelude::*;

fn recent() -> Recent {
    Recent::new(RecentOptions { bytes_max: 64 << 20, retention: Duration::from_nanos(1000) })
}

fn labels(host: &str) -> Labels {
    Labels::from_pairs([("host", host)])
}

fn everything() -> LogQuery {
    LogQuery {
        matchers: Vec::new(),
        contains: Vec::new(),
        excludes: Vec::new(),
        regex: None,
        start_unix_nano: i64::MIN,
        end_unix_nano: i64::MAX,
        limit: usize::MAX,
        direction: Direction::Forward,
        scan_bytes_max: usize::MAX,
    }
}

fn lines(answer: &LogAnswer) -> Vec<&str> {
    answer.records.iter().map(|record| std::str::from_utf8(&record.line).unwrap()).collect()
}

fn store(all: &[(&str, i64, &str)]) -> Recent {
    let mut recent = recent();
    for (host, time, line) in all {
        recent.append(&labels(host), *time, line.as_bytes()).unwrap();
    }
    recent
}

fn small() -> Recent {
    store(&[
        ("a", 10, "error one"),
        ("b", 20, "warn two"),
        ("a", 30, "error three"),
        ("b", 30, "Error four"),
        ("a", 30, "error three"),
    ])
}

fn check(query: LogQuery, expected: &[&str]) {
    let answer = small().search(&query).unwrap();
    assert_eq!(lines(&answer), expected, "{query:?}");
}

#[test]
fn searches_by_text_labels_and_time() {
    check(everything(), &["error one", "warn two", "error three", "error three", "Error four"]);
    check(
        LogQuery { direction: Direction::Backward, ..everything() },
        &["Error four", "error three", "error three", "warn two", "error one"],
    );
    check(
        LogQuery { contains: vec!["error".into(), "e".into()], ..everything() },
        &["error one", "error three", "error three"],
    );
    check(LogQuery { excludes: vec!["error".into(), "two".into()], ..everything() }, &["Error four"]);
    check(LogQuery { regex: Some("(?i)ERROR [of]".into()), ..everything() }, &["error one", "Error four"]);
    check(LogQuery { contains: vec![".".into()], ..everything() }, &[]);
    check(LogQuery { start_unix_nano: 10, end_unix_nano: 30, ..everything() }, &["error one", "warn two"]);
    check(LogQuery { start_unix_nano: 30, end_unix_nano: 10, ..everything() }, &[]);
    let matchers = vec![Matcher::new("host", MatchOp::Re, "b|c")];
    check(LogQuery { matchers, ..everything() }, &["warn two", "Error four"]);
    let matchers = vec![Matcher::new("none", MatchOp::Ne, "")];
    check(LogQuery { matchers, ..everything() }, &[]);
}

#[test]
fn limit_and_budget_cut_off_the_far_end() {
    let limited = |limit, direction| small().search(&LogQuery { limit, direction, ..everything() }).unwrap();
    let answer = limited(2, Direction::Forward);
    assert_eq!((lines(&answer), answer.truncated), (vec!["error one", "warn two"], true));
    let answer = limited(1, Direction::Backward);
    assert_eq!((lines(&answer), answer.truncated), (vec!["Error four"], true));
    assert!(!limited(5, Direction::Forward).truncated);
    assert!(limited(0, Direction::Forward).truncated);

    let answer = small().search(&LogQuery { scan_bytes_max: 30, ..everything() }).unwrap();
    assert_eq!((lines(&answer), answer.truncated), (vec!["error one", "warn two"], true));
    assert!(answer.scanned_bytes >= 30);
}

#[test]
fn bytes_that_are_not_text_are_kept() {
    let mut recent = recent();
    recent.append(&labels("a"), 1, b"\xff\x00needle\xfe").unwrap();
    let query = LogQuery { contains: vec!["needle".into()], ..everything() };
    assert_eq!(&*recent.search(&query).unwrap().records[0].line, b"\xff\x00needle\xfe");
}

#[test]
fn hostile_queries_are_errors() {
    let recent = small();
    let bad = LogQuery { regex: Some("(a{1000}){1000}{1000}".into()), ..everything() };
    assert!(matches!(recent.search(&bad), Err(Error::Regex { .. })));
    let bad = LogQuery { matchers: vec![Matcher::new("a", MatchOp::Re, "a)|(b")], ..everything() };
    assert!(matches!(recent.search(&bad), Err(Error::Regex { .. })));
    let bad = LogQuery { contains: vec!["a".into(); TERMS], ..everything() };
    assert_eq!(recent.search(&bad), Err(Error::TooManyTerms { count: TERMS }));
    const TERMS: usize = crate::search::TERMS_MAX + 1;
}

#[test]
fn long_lines_are_kept_or_refused() {
    let mut recent = recent();
    for time in [50, 10, 30, 30, 70] {
        recent.append(&labels("a"), time, &[b'x'; 100_000]).unwrap();
    }
    let times: Vec<_> =
        recent.search(&everything()).unwrap().records.iter().map(|record| record.time_unix_nano).collect();
    assert_eq!(times, [10, 30, 30, 50, 70]);
    let long = vec![b'x'; LINE_BYTES_MAX + 1];
    assert_eq!(recent.append(&labels("a"), 1, &long), Err(Error::LineTooLong { bytes: long.len() }));
}

#[test]
fn memory_drops_the_oldest_segments() {
    let bytes_max = 1 << 20;
    let mut recent = Recent::new(RecentOptions { bytes_max, retention: Duration::MAX });
    let mut removed = 0;
    for time in 0..100_000 {
        recent
            .append(&labels(["a", "b"][time as usize % 2]), time, b"a line of some length, as lines have")
            .unwrap();
        if recent.is_over_memory() {
            let expired = recent.expire(time);
            assert_eq!(expired.age, Removed::default());
            removed += expired.memory.lines;
        }
        assert!(recent.stats().bytes <= bytes_max);
    }
    assert_eq!(recent.stats().lines + removed, 100_000);
    let first = recent.search(&LogQuery { limit: 1, ..everything() }).unwrap().records[0].time_unix_nano;
    assert!(first > 80_000, "{first}");
    recent.options.bytes_max = 0;
    assert_eq!(recent.expire(100_000).memory.streams, 2);
    assert_eq!(recent.stats(), RecentStats::default());
}

#[test]
fn streams_are_listed_by_matchers() {
    let found = small().streams(&[Matcher::new("host", MatchOp::Ne, "a")]).unwrap();
    assert_eq!(found, [labels("b")]);
}

#[derive(Clone, Debug)]
enum Action {
    /// Many lines at once, so that segments fill and split.
    Append {
        host: u8,
        time: i64,
        step: i64,
        count: usize,
        len: usize,
    },
    Expire {
        now: i64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0u8..3, 0i64..2000, -2i64..3, 1usize..40, 0usize..6000)
            .prop_map(|(host, time, step, count, len)| Action::Append { host, time, step, count, len }),
        1 => (0i64..2500).prop_map(|now| Action::Expire { now }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_sorted_list(
        actions in prop::collection::vec(action(), 1..20),
        (start, len) in (0i64..2000, 0i64..2000),
        backward in any::<bool>(),
        limit in 0usize..400,
        needle in 0usize..20,
    ) {
        let mut recent = recent();
        let mut model: Vec<LogRecord> = Vec::new();
        for action in actions {
            match action {
                Action::Append { host, time, step, count, len } => {
                    for i in 0..count {
                        let time_unix_nano = time + step * i as i64;
                        let mut line = format!("<{i}>").into_bytes();
                        line.resize(line.len() + len, b'.');
                        let labels = labels(&host.to_string());
                        recent.append(&labels, time_unix_nano, &line).unwrap();
                        model.push(LogRecord { labels, time_unix_nano, line: line.into() });
                    }
                }
                Action::Expire { now } => {
                    let before = model.len();
                    model.retain(|record| record.time_unix_nano >= now - 1000);
                    prop_assert_eq!(recent.expire(now).age.lines, before - model.len());
                }
            }
        }
        // Stable: equal keys stay in order of arrival.
        model.sort_by(|a, b| (a.time_unix_nano, &a.labels).cmp(&(b.time_unix_nano, &b.labels)));
        prop_assert_eq!(recent.stats().lines, model.len());
        let needle = format!("<{needle}>");
        model.retain(|record| {
            (start..start + len).contains(&record.time_unix_nano) && record.line.starts_with(needle.as_bytes())
        });
        if backward {
            model.reverse();
        }
        let query = LogQuery {
            contains: vec![needle],
            start_unix_nano: start,
            end_unix_nano: start + len,
            limit,
            direction: if backward { Direction::Backward } else { Direction::Forward },
            ..everything()
        };
        let answer = recent.search(&query).unwrap();
        if !answer.truncated {
            prop_assert!(model.len() <= limit);
        }
        model.truncate(limit);
        prop_assert_eq!(answer.records, model);
        recent.expire(i64::MAX);
        prop_assert_eq!(recent.stats(), RecentStats::default());
    }
}

#[test]
fn lines_in_the_future_neither_stay_for_ever_nor_displace_others() {
    let minute = 60_000_000_000;
    let (now, year) = (1_000 * minute, 525_600 * minute);
    let options = RecentOptions { bytes_max: 64 << 20, retention: Duration::from_secs(3600) };
    let mut recent = Recent::new(options);
    recent.append(&labels("a"), now, b"now").unwrap();
    recent.append(&labels("a"), now + year, b"ahead").unwrap();
    recent.append(&labels("b"), now + year, b"ahead").unwrap();
    assert_eq!(recent.expire(now).age.lines, 0);
    recent.append(&labels("b"), now + year + 1_000_000, b"later").unwrap();
    assert_eq!(recent.expire(now + 30 * minute).age.lines, 0);
    assert_eq!(recent.expire(now + 61 * minute).age.lines, 2);
    assert_eq!(recent.expire(now + 91 * minute).age.lines, 2);
    assert_eq!(recent.stats(), RecentStats { streams: 0, lines: 0, bytes: 0 });

    // Memory is short: what came first goes first, whatever its time says.
    recent.append(&labels("ahead"), now + year, b"first").unwrap();
    recent.expire(now);
    recent.append(&labels("right"), now + 5 * minute, b"second").unwrap();
    recent.options.bytes_max = recent.stats().bytes - 1;
    assert_eq!(recent.expire(now + 5 * minute).memory.lines, 1);
    assert_eq!(lines(&recent.search(&everything()).unwrap()), ["second"]);
}
