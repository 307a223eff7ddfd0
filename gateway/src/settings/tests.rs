use super::*;

fn mistakes(text: &str) -> Vec<String> {
    parse("g.toml", text).mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_documented_file_is_the_defaults() {
    let parsed = parse("config/gateway.toml", DEFAULTS);
    assert_eq!(parsed.mistakes, []);
    assert_eq!(parsed.settings, Settings::default());
    // Every key is there, not merely no wrong one.
    for key in [
        "listen",
        "allow_plaintext_beyond_loopback",
        "allowed_hosts",
        "collector.endpoints",
        "collector.server_name",
        "collector.tls_ca_cert_file",
        "collector.auth_token_file",
        "limits.connections_max",
        "limits.connections_per_ip_max",
        "limits.requests_max",
        "limits.queries_max",
        "limits.body_bytes_max",
        "limits.header_timeout",
        "limits.stall_timeout",
        "limits.idle_timeout",
        "limits.query_timeout",
        "limits.live_max",
        "limits.live_per_user_max",
        "limits.users_max",
        "limits.user_cache",
        "limits.drain_timeout",
        "log.level",
        "log.format",
    ] {
        assert!(parsed.source.lines.iter().any(|(known, _)| known == key), "{key} is not documented");
    }
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text = "lisen = \"127.0.0.1:1\"\n\n[limits]\nqueries_max = 0\nheader_timeout = \"10\"\n\
                body_bytes_max = 5\nconnection_max = 3\n[colector]\n";
    assert_eq!(
        mistakes(text),
        [
            "g.toml:4: limits.queries_max: found 0, expected a number from 1 to 1000000",
            "g.toml:6: limits.body_bytes_max: found 5, expected a size from \"1KiB\" to \"64MiB\", such as \"512KiB\"",
            "g.toml:5: limits.header_timeout: found \"10\", expected a duration from \"1ms\" to \"24h\", such as \"500ms\", \"10s\" or \"5m\"",
            "g.toml:7: unknown key limits.connection_max; did you mean limits.connections_max?",
            "g.toml:8: unknown key colector; did you mean collector?",
            "g.toml:1: unknown key lisen; did you mean listen?",
        ]
    );
}

#[test]
fn a_file_that_is_not_toml() {
    let found = mistakes("listen = \n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("g.toml:1: "), "{found:?}");
}

#[test]
fn units() {
    let cases = [
        ("500ms", Some(500)),
        ("10s", Some(10_000)),
        ("5m", Some(300_000)),
        ("24h", Some(86_400_000)),
        ("25h", None),
        ("0s", None),
        ("10", None),
        ("s", None),
        ("-1s", None),
        ("1.5s", None),
        ("99999999999999999999s", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_duration(text).map(|d| d.as_millis() as u64), expected, "{text}");
    }
    assert_eq!(parse_size("64MiB"), Some(64 << 20));
    assert_eq!(parse_size("1MB"), None);
}
