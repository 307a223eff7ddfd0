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
            ..Selector::default()
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
        "{:}",
        "up{a:b=\"c\"}",
        "up[:]",
    ] {
        assert!(parse(query).is_err(), "{query}");
    }
}

/// Words and places are those of Prometheus 2.42, where that knows the case.
#[test]
fn errors_say_where() {
    let wrong = std::cell::RefCell::new(Vec::new());
    let check = |query: &str, expected: &str| {
        let found = parse(query).map_or_else(|error| error.to_string(), |expr| format!("{expr:?}"));
        if found != expected {
            wrong.borrow_mut().push(format!("{query}: {found}, expected {expected}"));
        }
    };
    check("", "unknown position: parse error: no expression found in input");
    check(" # only a comment", "1:1: parse error: no expression found in input");
    check("sum(", "1:5: parse error: unclosed left parenthesis");
    check("sum(a b", "1:7: parse error: unexpected identifier \"b\" in aggregation");
    check("a b 'c", "1:3: parse error: unexpected identifier \"b\"");
    check("up{", "1:4: parse error: unexpected end of input inside braces");
    check("up +", "1:5: parse error: unexpected end of input");
    check("up)", "1:4: parse error: unexpected right parenthesis ')'");
    check("up + 'abc", "1:6: parse error: unterminated quoted string");
    check("a\n  + * b", "2:5: parse error: unexpected <op:*>");
    check("a + bool", "1:9: parse error: unexpected end of input");
    check("a + b bool", "1:7: parse error: unexpected <bool>");
    check("a b", "1:3: parse error: unexpected identifier \"b\"");
    check("a == * b", "1:6: parse error: unexpected <op:*>");
    check("up{a}", "1:5: parse error: unexpected \"}\" in label matching, expected label matching operator");
    check("up{a=1}", "1:6: parse error: unexpected character inside braces: '1'");
    check("up[5m", "1:6: parse error: unclosed left bracket");
    check("up[x]", "1:4: parse error: unexpected identifier \"x\" in duration, expected number or duration");
    check("up[5m5]", "1:4: parse error: bad number or duration syntax: \"5m5\"");
    check("up[0s]", "1:4: parse error: duration must be greater than 0");
    check("nosuch(up)", "1:1: parse error: unknown function with name \"nosuch\"");
    check("a +\n Rate(up)", "2:2: parse error: unknown function with name \"Rate\": did you mean \"rate\"?");
    check("ceill(up)", "1:1: parse error: unknown function with name \"ceill\": did you mean \"ceil\"?");
    check(
        "rate(up)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    );
    check("rate()", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 0");
    check("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3");
    check(
        "label_join(a)",
        "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1",
    );
    check("abs(a,)", "1:6: parse error: trailing commas not allowed in function call args");
    check("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar");
    check(
        "topk(a)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    check("1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check("1 and 2", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    check("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators");
    check("a + on(x) 1", "1:1: parse error: vector matching only allowed between instant vectors");
    check("a and on(x) group_left b", "1:1: parse error: no grouping allowed for \"and\" operation");
    check(
        "a * on(x) group_left(x) b",
        "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once",
    );
    check(
        "a + b[5m]",
        "1:5: parse error: binary expression must contain only scalar and instant vector types",
    );
    check(
        "-a[5m]",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
    );
    check("(a)[5m]", "1:4: parse error: ranges only allowed for vector selectors");
    check("a offset 5m [5m]", "1:13: parse error: no offset modifiers allowed before range");
    check("1[5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got scalar instead");
    check(
        "sum(a) offset 5m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
    check("a offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times");
    check("a @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times");
    check("{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("a{\"b\"}", "1:3: parse error: metric name must not be set twice: \"a\" or \"b\"");
    check(r#"a{__name__=~"b"}"#, "1:2: parse error: metric name must not be set twice: \"a\" or \"b\"");
    let off = |query: &str, place: &str, what: &str, setting: &str| {
        let expected = format!(
            "{place}: parse error: {what} experimental and not enabled: set query.{setting} = true to use it"
        );
        check(query, &expected);
        assert!(parse_with(query, Features::all()).is_ok(), "{query}");
    };
    off("limitk(1, a)", "1:1", "limitk() is", "experimental_functions");
    off("a + end()", "1:5", "function \"end\" is", "experimental_functions");
    off("a[2*5m]", "1:4", "duration expressions are", "duration_expressions");
    off("a offset step()", "1:10", "duration expressions are", "duration_expressions");
    off("rate(a[5m] anchored)", "1:12", "the anchored modifier is", "extended_range_selectors");
    off("a + fill(0) b", "1:5", "fill modifiers are", "fill_modifiers");
    check("\u{e9}", "1:1: parse error: unexpected character: 'é'");
    assert!(wrong.borrow().is_empty(), "{:#?}", wrong.borrow());
}

#[test]
fn experimental_mistakes_say_where() {
    let check = |query: &str, expected: &str| {
        let found = parse_with(query, Features::all()).map(|expr| format!("{expr:?}"));
        assert_eq!(found.map_err(|error| error.to_string()), Err(expected.to_owned()), "{query}");
    };
    check("a[5m-5m]", "1:3: parse error: duration must be greater than 0");
    check("a[1h/0]", "1:3: parse error: duration out of range");
    check("a[min_of(1)]", "1:11: parse error: unexpected \")\" in duration");
    check("a anchored", "1:3: parse error: the anchored modifier needs a range: write metric[5m] anchored");
    check("a smoothed[5m]", "1:11: parse error: write the smoothed modifier behind the range");
    check("a[5m:] smoothed", "1:8: parse error: the smoothed modifier can only follow a selector");
    check(
        "a[5m] smoothed anchored",
        "1:16: parse error: anchored and smoothed may not be set multiple times",
    );
    check(
        "resets(a[5m] smoothed)",
        "1:8: parse error: smoothed modifier can only be used with: delta, increase, rate - not with resets",
    );
    check("a and fill(1) b", "1:1: parse error: filling in missing series not allowed for \"and\" operation");
    check(
        "a + fill(1) 1",
        "1:1: parse error: filling in missing series only allowed between instant vectors",
    );
    check(
        "a + fill(1) fill_left(2) b",
        "1:13: parse error: a side is filled twice: keep one of the fill modifiers",
    );
    check(
        "info(a, b + c)",
        "1:9: parse error: expected label selectors only: write the second argument of info() as \
         {label=\"value\"}",
    );
    check("histogram_quantiles(a, '', 1)", "1:24: parse error: invalid label name \"\"");
}

#[test]
fn nodes_know_their_place() {
    let Ok(Expr::Binary(binary)) = parse("(a)\n + rate((b[5m]))") else { panic!() };
    let place = |line, column| Place { line, column };
    assert_eq!((binary.span.start, binary.span.end, binary.span.place), (0, 20, place(1, 1)));
    let Expr::Call(call) = binary.right else { panic!() };
    assert_eq!((call.span.start, call.span.place), (7, place(2, 4)));
    // What is in the parentheses, as Prometheus points.
    assert_eq!(
        (call.arg_span(0).start, call.arg_span(0).end, call.arg_span(0).place),
        (13, 18, place(2, 10))
    );
    let Ok(Expr::Aggregate(of)) = parse("topk by(x) (5, up{a='b'})") else { panic!() };
    assert_eq!((of.span.start, of.param_span.start, of.expr_span.start, of.expr_span.end), (0, 12, 15, 24));
}

#[test]
fn operators_bind_as_in_prometheus() {
    let check = |query: &str, same: &str| {
        assert_eq!(parse(query).unwrap(), parse(same).unwrap(), "{query} as {same}");
    };
    check("a + b * c ^ d ^ e", "a + (b * (c ^ (d ^ e)))");
    check("a - b - c", "(a - b) - c");
    check("-a ^ b", "-(a ^ b)");
    check("-a * b", "(-a) * b");
    check("a or b and c unless d", "a or ((b and c) unless d)");
    check("a == b + c", "a == (b + c)");
    check("a atan2 b % c", "(a atan2 b) % c");
    check("a ^ -b", "a ^ (-b)");
    check("SUM BY (x) (a)", "sum(a) by (x)");
    check("sum by (b, a,) (x)", "sum by (a, b) (x)");
    check("a[1h30m]", "a[5400]");
    check("a offset -5m0s", "a offset -300");
    check("a[4h0m0s]", "a[4h]");
    check("{'a.b', c=\"d\",}", "{c=\"d\", 'a.b'}");
    check("- - a", "a");
    check("a </ b == c", "(a </ b) == c");
    check("a + b >/ c * d", "(a + b) >/ (c * d)");
    let with_all = |query: &str, same: &str| {
        let parse = |query| parse_with(query, Features::all()).unwrap();
        assert_eq!(parse(query), parse(same), "{query} as {same}");
    };
    with_all("a[2^2*1m]", "a[4m]");
    with_all("a[-5m+35m]", "a[30m]");
    with_all("a[2m*(10+5):STEP()]", "a[30m:step()]");
    with_all("a offset 100 + 2", "(a offset 100) + 2");
    with_all("a offset -2 ^ 2", "(a offset -2) ^ 2");
    with_all("a offset (-2 ^ 2)", "a offset -4");
    with_all("a offset min_of(step(), 1s)^0", "(a offset min_of(step(), 1)) ^ 0");
    with_all("fill + fill(0) smoothed", "{'fill'} + fill(0) {'smoothed'}");
    with_all("a + on(x) group_left(y) fill_left(-1) fill_right(-1) b", "a + on(x) group_left(y) fill(-1) b");
    assert!(matches!(parse("sum"), Ok(Expr::Selector(_))), "a keyword may name a metric");
    assert!(matches!(parse("by{job=\"x\"}"), Ok(Expr::Selector(_))));
}

#[test]
fn hostile_size_is_an_error() {
    let long = "a".repeat(QUERY_BYTES_MAX + 1);
    let nested = "(".repeat(200) + "1" + &")".repeat(200);
    let chain = "1".to_owned() + &"+1".repeat(20_000);
    let signs = "-".repeat(20_000) + "1";
    let powers = "1".to_owned() + &"^1".repeat(300);
    let patterns = format!("{{a=~\"{}\"}}", r"\w{1000}".repeat(50));
    for query in [long, nested, chain, signs, powers, patterns] {
        assert!(parse(&query).is_err());
    }
    let chain = "1".to_owned() + &"+1".repeat(450);
    assert!(parse(&chain).is_ok(), "long chains do not overflow the stack");
    // Nor does what is nested as deep as allowed, with every kind of operator, on a query thread.
    let deep = "1 == bool 1 + 1 * (".repeat(20) + "1" + &")".repeat(20);
    let deep = "-abs(".repeat(70) + &deep + &")".repeat(70);
    let deep = deep.replacen("1)", "vector(1))", 1);
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(move || parse(&deep).map(drop)).unwrap().join().expect("no overflow").ok();
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
        "fill(0)",
        "fill_left(-1)",
        "anchored",
        "smoothed",
        "</",
        ">/",
        "step()",
        "range()",
        "min_of(",
        "[5m*2]",
        "[step():1m]",
        "info(",
        "{}",
        "limitk",
        "histogram_quantiles",
        "increase",
        "(up[5m] anchored)",
        "\n",
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
        let parse = |query: &str| parse_with(query, Features::all());
        let _ = parse(&tokens.concat());
        if let Ok(expr) = parse(&tokens.join(" ")) {
            // What was understood can be written so that it is understood again.
            let written = expr.to_string();
            let is_nan = format!("{expr:?}").contains("NaN");
            let again = parse(&written);
            prop_assert!(is_nan || again.as_ref() == Ok(&expr), "{} as {}: {:?}", tokens.join(" "), written, again);
        }
        let _ = parse(&tokens.join(" "));
    }
}
