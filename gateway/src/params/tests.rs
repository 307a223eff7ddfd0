use super::*;

fn params(query: &str) -> Params {
    Params::parse(b"", query.as_bytes()).unwrap()
}

#[test]
fn times() {
    let cases = [
        ("4", Some(4_000)),
        ("1700000000.123", Some(1_700_000_000_123)),
        ("1700000000.1239999", Some(1_700_000_000_124)),
        ("-1.5", Some(-1_500)),
        ("1e3", Some(1_000_000)),
        // Grafana's probe sends milliseconds.
        ("1700000000123", Some(1_700_000_000_123_000)),
        ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
        ("2023-11-15T00:13:20.5+02:00", Some(1_700_000_000_500)),
        (MIN_TIME, Some(UNIX_MS_MIN)),
        (MAX_TIME, Some(UNIX_MS_MAX)),
        ("NaN", None),
        ("inf", None),
        ("1e300", None),
        ("yesterday", None),
        ("", None),
        ("2023-11-14", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_time(text), expected, "{text}");
    }
}

#[test]
fn durations() {
    let cases = [
        ("15", Some(15_000)),
        ("0.5", Some(500)),
        ("0.0001", Some(1)),
        ("15s", Some(15_000)),
        ("1m", Some(60_000)),
        ("1h30m", Some(5_400_000)),
        ("4h0m0s", Some(14_400_000)),
        ("1m500ms", Some(60_500)),
        ("1y", Some(31_536_000_000)),
        ("30m1h", None),
        ("1m1m", None),
        ("1.5m", None),
        ("m", None),
        ("5x", None),
        ("-5", Some(-5_000)),
        ("", None),
        ("99999999999999999y", None),
        ("1e30", None),
        ("NaN", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_duration_ms(text), expected, "{text}");
    }
}

#[test]
fn log_times_are_read_by_their_size() {
    let expected = Some(1_700_000_000_000_000_000);
    for text in [
        "1700000000",
        "1700000000.0",
        "1700000000000",
        "1700000000000000",
        "1700000000000000000",
        "2023-11-14T22:13:20Z",
    ] {
        assert_eq!(parse_log_time(text), expected, "{text}");
    }
    assert_eq!(parse_log_time("1.5"), Some(1_500_000_000));
    assert_eq!(parse_log_time("now"), None);
}

#[test]
fn ranges_are_checked_as_prometheus_checks_them() {
    let check = |query: &str| params(query).range().map_err(|failure| failure.message);
    assert_eq!(
        check("start=100&end=200&step=15s"),
        Ok(Range { start_ms: 100_000, end_ms: 200_000, step_ms: 15_000 })
    );
    let cases = [
        ("end=2&step=1", "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
        ("start=x&end=2&step=1", "invalid parameter \"start\": cannot parse \"x\" to a valid timestamp"),
        ("start=2&end=1&step=1", "invalid parameter \"end\": end timestamp must not be before start time"),
        ("start=1&end=2", "invalid parameter \"step\": cannot parse \"\" to a valid duration"),
        (
            "start=1&end=2&step=0",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "start=1&end=2&step=-1",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(check(query), Err(expected.to_owned()), "{query}");
    }
    assert!(check("start=0&end=11000&step=1").is_ok());
    // The ends of time do not overflow.
    assert!(check(&format!("start={MIN_TIME}&end={MAX_TIME}&step=1")).is_err());
}

#[test]
fn limits_and_timeouts() {
    assert_eq!(params("").limit(), Ok(0));
    assert_eq!(params("limit=7").limit(), Ok(7));
    assert!(params("limit=-1").limit().unwrap_err().message.contains("non-negative"));
    assert!(params("limit=1.5").limit().is_err());
    let max = Duration::from_secs(60);
    assert_eq!(params("timeout=5s").timeout(max), Ok(Duration::from_secs(5)));
    assert_eq!(params("timeout=1h").timeout(max), Ok(max));
    assert!(params("timeout=0").timeout(max).is_err());
    assert!(params("timeout=x").timeout(max).is_err());
}

#[test]
fn the_body_comes_before_the_query_string() {
    let both = Params::parse(b"query=a%2Bb+c&match%5B%5D=1", b"query=z&match[]=2").unwrap();
    assert_eq!(both.get("query"), Some("a+b c"));
    assert_eq!(both.all("match[]"), ["1", "2"]);
    assert!(Params::parse("a=1&".repeat(1001).as_bytes(), b"").is_err());
}

#[test]
fn names_are_unescaped() {
    let cases = [
        ("job", "job"),
        ("__name__", "__name__"),
        ("U__http_2e_status", "http.status"),
        ("U__a__b", "a_b"),
        ("U___e4_x", "äx"),
        ("U__a_zz_", "U__a_zz_"),
        ("U__a_2e", "U__a_2e"),
        ("U__a_1234567_", "U__a_1234567_"),
    ];
    for (name, expected) in cases {
        assert_eq!(unescape_name(name), expected, "{name}");
    }
}

#[test]
fn words_and_phrases() {
    assert_eq!(words("error  \"disk full\" x"), ["error", "disk full", "x"]);
    assert_eq!(words("  "), [""; 0]);
}

#[test]
fn log_searches() {
    let now = 1_700_000_000_000_000_000;
    let search =
        params("query=a+b&contains=c&exclude=d&regex=e&selector={x%3D%221%22}").log_search(now).unwrap();
    assert_eq!(search.filter.contains, ["a", "b", "c"]);
    assert_eq!(search.filter.selector, "{x=\"1\"}");
    assert_eq!((search.end_nano - search.start_nano, search.limit), (LOG_SPAN_NANO, 100));
    for query in ["limit=5001", "limit=-1", "direction=up", "start=2&end=1", "start=x"] {
        assert!(params(query).log_search(now).is_err(), "{query}");
    }
}
