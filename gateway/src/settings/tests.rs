use super::*;

fn check(text: &str, expected: &[&str]) {
    let found = Settings::parse(Path::new("g.toml"), text).err().unwrap_or_default();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn the_documented_file_is_the_defaults() {
    assert_eq!(Settings::parse(Path::new("config/gateway.toml"), DEFAULTS), Ok(Settings::default()));
    assert_eq!(Settings::parse(Path::new("g.toml"), ""), Ok(Settings::default()));
    // A key that nobody asks for is a mistake in DEFAULTS, so counting shows
    // that every key is there.
    let keys = DEFAULTS.lines().filter(|line| !line.starts_with('#') && line.contains(" = "));
    assert_eq!(keys.count(), 37);
}

#[test]
fn every_mistake_is_named_with_its_line() {
    check(
        "lisen = \"127.0.0.1:1\"\n\n[limits]\nqueries_max = 0\nheader_timeout = \"10\"\n\
         body_bytes_max = 5\nconnection_max = 3\n[colector]\n",
        &[
            "g.toml:1: lisen is not a known key; did you mean \"listen\"?",
            "g.toml:4: limits.queries_max is 0; expected a whole number from 1 to 1000000",
            "g.toml:5: limits.header_timeout is \"10\"; expected a time from \"1ms\" to \"24h\", in ms, s, m or h",
            "g.toml:6: limits.body_bytes_max is 5; expected a size from \"1KiB\" to \"64MiB\", \
             in B, KB, MB, GB, KiB, MiB or GiB",
            "g.toml:7: limits.connection_max is not a known key; did you mean \"connections_max\"?",
            "g.toml:8: colector is not a known key; did you mean \"collector\"?",
        ],
    );
}

#[test]
fn a_file_that_is_not_toml() {
    let found = Settings::parse(Path::new("g.toml"), "listen = \n").unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line, 1);
}

#[test]
fn plaintext_stays_on_the_host_unless_told() {
    check(
        "\nlisten = \"0.0.0.0:18080\"",
        &["g.toml:2: listen is \"0.0.0.0:18080\", which is reachable from other hosts, and the API is not \
           encrypted; name a certificate and key in [tls], listen on 127.0.0.1 behind a proxy with TLS, or \
           set allow_plaintext_beyond_loopback = true"],
    );
    check("listen = \"0.0.0.0:1\"\n[tls]\ncertificate_file = \"a\"\nkey_file = \"b\"", &[]);
    check("[tls]\nkey_file = \"b\"", &["g.toml:2: tls.key_file is of no use without tls.certificate_file"]);
    check("listen = \"0.0.0.0:1\"\nallow_plaintext_beyond_loopback = true", &[]);
    check("listen = \"[::1]:18080\"", &[]);
}

#[test]
fn where_the_api_lies_and_who_may_use_it() {
    check(
        "[api]\npath_prefix = \"/prometheus\"\ncors_origins = [\"https://g.example.org\", \"http://[::1]:3000\"]",
        &[],
    );
    let path = "expected \"\" or a path such as \"/prometheus\"";
    for wrong in ["prometheus", "/", "/a/", "/a//b", "/a b", "/a%2f"] {
        check(
            &format!("[api]\npath_prefix = \"{wrong}\""),
            &[&format!("g.toml:2: api.path_prefix is \"{wrong}\"; {path}")],
        );
    }
    for wrong in ["g.example.org", "https://", "https://a/b", "https://A.org", "https://*.org", "ftp://a"] {
        check(
            &format!("[api]\ncors_origins = [\"{wrong}\"]"),
            &[&format!(
                "g.toml:2: api.cors_origins is a list; expected \"*\" or origins as browsers send \
                 them, such as \"https://grafana.example.org\", not \"{wrong}\""
            )],
        );
    }
}

#[test]
fn values_that_make_no_sense() {
    check(
        "listen = \"here\"\nallowed_hosts = [\"a\", \"http://b\"]\n[collector]\n\
         endpoints = [\"a:1\", \"b\"]\nauth_token_file = \"\"\n\
         [log]\nformat = \"xml\"\n[limits]\nlive_max = 512\n",
        &[
            "g.toml:1: listen is \"here\"; expected an address and port such as \"127.0.0.1:4433\"",
            "g.toml:2: allowed_hosts is a list; expected names such as \"metrics.example.org\", not \"http://b\"",
            "g.toml:4: collector.endpoints is a list; expected a list of \"host:port\" with at least one entry, \
             not \"b\"",
            "g.toml:5: collector.auth_token_file is \"\"; expected a path",
            "g.toml:7: log.format is \"xml\"; expected one of \"text\", \"json\", \"ecs\"",
            "g.toml:9: limits.live_max (512) must be less than limits.requests_max (512): tails would take every place",
        ],
    );
    // Where the file leaves the key out, the section is named.
    check(
        "\n[limits]\nrequests_max = 100\n",
        &[
            "g.toml:2: limits.live_max (128) must be less than limits.requests_max (100): tails would take every place",
        ],
    );
}

#[test]
fn the_level_may_be_a_filter() {
    check("[log]\nlevel = \"info,lm_mesh=debug\"\n", &[]);
    let found = Settings::parse(Path::new("g.toml"), "[log]\nlevel = \"a=b=c\"\n").unwrap_err();
    let start = "g.toml:2: log.level is \"a=b=c\"; expected error, warn, info, debug or trace";
    assert!(found[0].to_string().starts_with(start), "{found:?}");
}

#[test]
fn no_server_name_is_the_endpoints_host() {
    let name = |text: &str| {
        let settings = Settings::parse(Path::new("g.toml"), text).unwrap();
        settings.collector.server_name
    };
    assert_eq!(name("[collector]\nserver_name = \"\"\n"), None);
    assert_eq!(name("[collector]\nserver_name = \"c\"\n").as_deref(), Some("c"));
}
