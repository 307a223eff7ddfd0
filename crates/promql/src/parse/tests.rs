use super::*;
use crate::ast::*;
use lm_model::{METRIC_NAME, MatchOp, Matcher, Timestamp};
use proptest::prelude::*;

fn selector(query: &str) -> Selector {
    match parse(query) {
        Ok(Expr::Selector(selector)) => selector,
        other => panic!("{query}: {other:?}"),
    }
}

#[test]
fn selectors_keep_what_was_written() {
    assert_eq!(
        selector(r#"up{job=~"a|b", "quoted.name"!='it\'s', x!~`\d`} @ 1.5 offset -5m"#),
        Selector {
            matchers: vec![
                Matcher::new(METRIC_NAME, MatchOp::Eq, "up"),
                Matcher::new("job", MatchOp::Re, "a|b"),
                Matcher::new("quoted.name", MatchOp::Ne, "it's"),
                Matcher::new("x", MatchOp::Nre, r"\d"),
            ],
            offset_millis: -300_000,
            at: Some(At::Time(Timestamp::from_millis(1500))),
        }
    );
    assert_eq!(selector(r#"{"a b"}"#).matchers, [Matcher::new(METRIC_NAME, MatchOp::Eq, "a b")]);
    assert_eq!(selector(r#"{a=~"/{id}"}"#).matchers, [Matcher::new("a", MatchOp::Re, r"/\{id}")]);
    assert_eq!(selector(r#"{a!=""}"#).matchers, [Matcher::new("a", MatchOp::Ne, "")]);
}

#[test]
fn mistakes_are_errors() {
    for query in [
        "",
        "(",
        "up[0s]",
        "up[1e300]",
        "up offset 1e300",
        "up offset - Inf",
        "up offset nan",
        "up[99999999999s]",
        "up[99999999999]",
        "up @ 1e300",
        "1y99999999999w",
        r#"{a=""}"#,
        r#"{a=~".*"}"#,
        r#"{a=~"("}"#,
        r#"{a=~"a)|(b"}"#,
        r#"{a="b" or c="d"}"#,
        r#"{a="\xff"}"#,
        r#""unterminated"#,
        "rate(up)",
        "nosuch(up)",
        "mad_over_time(up[5m])",
        "limitk(1, up)",
        "1 > 2",
        "up and 1",
        "exp(NaN)",
        "\u{e9}",
        "up[5m] offset",
    ] {
        assert!(parse(query).is_err(), "{query}");
    }
    assert_eq!(parse("up + 'abc").unwrap_err().position, Some(5));
}

#[test]
fn hostile_size_is_an_error() {
    let long = "a".repeat(QUERY_BYTES_MAX + 1);
    let nested = "(".repeat(200) + "1" + &")".repeat(200);
    let chain = "1".to_owned() + &"+1".repeat(20_000);
    let signs = "-".repeat(20_000) + "1";
    let patterns = format!("{{a=~\"{}\"}}", r"\w{1000}".repeat(50));
    for query in [long, nested, chain, signs, patterns] {
        assert!(parse(&query).is_err());
    }
    let chain = "1".to_owned() + &"+1".repeat(450);
    assert!(parse(&chain).is_ok(), "long chains do not overflow the stack");
}

fn token() -> impl Strategy<Value = String> {
    let fixed = [
        "up",
        "rate",
        "sum",
        "topk",
        "(",
        ")",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "{a=\"b\"}",
        "[5m]",
        "[5m:1m]",
        ",",
        "+",
        "-",
        "*",
        "/",
        "^",
        "==",
        "=~",
        "!~",
        "=",
        "bool",
        "on",
        "by",
        "without",
        "group_left",
        "offset",
        "@",
        "start()",
        "end",
        "1",
        "5m",
        "0x1f",
        "1e400",
        "Inf",
        "NaN",
        "\"s\"",
        "'\\xff'",
        "`r`",
        "and",
        "or",
        "unless",
        "atan2",
        "time()",
        "le",
        "#c\n",
        " ",
        ":",
        "é",
        "quantile",
        "fill",
        "label_replace",
    ];
    prop_oneof![
        9 => prop::sample::select(fixed.map(str::to_owned).to_vec()),
        1 => any::<char>().prop_map(String::from),
        1 => "[0-9.]{1,12}[a-z]{0,2}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nothing_panics(tokens in prop::collection::vec(token(), 0..16)) {
        let _ = parse(&tokens.concat());
        let _ = parse(&tokens.join(" "));
    }
}
