use super::*;

/// The settings of `text`, or its mistakes without the file's name.
fn parse(text: &str) -> Result<Settings, Vec<String>> {
    let shown = |mistake: &Mistake| mistake.to_string().trim_start_matches("agent.toml:").to_owned();
    Settings::parse(Path::new("agent.toml"), text).map_err(|found| found.iter().map(shown).collect())
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(parse(text).err().unwrap_or_default(), expected, "{text}");
}

#[test]
fn the_documented_file_is_the_defaults() {
    assert_eq!(parse(DEFAULTS), Ok(Settings::default()));
    assert_eq!(parse(""), Ok(Settings::default()));
}

#[test]
fn every_key_is_documented() {
    let mut found = Vec::new();
    for line in DEFAULTS.lines() {
        let line = line.trim_start_matches("# ");
        if let Some((key, _)) = line.split_once(" = ") {
            found.push(key);
        }
    }
    // What the file may say is what take() asks for; a key that nobody asks
    // for is a mistake in DEFAULTS, so counting is enough.
    assert_eq!(found.len(), 96, "{found:?}");
}

#[test]
fn values_with_units() {
    let text = "shutdown_timeout = '250ms'\n[queue]\nbytes_max = '1GiB'\nsegment_bytes = 65536\n";
    let settings = parse(text).unwrap();
    assert_eq!(settings.shutdown_timeout, Duration::from_millis(250));
    assert_eq!((settings.queue.bytes_max, settings.queue.segment_bytes), (1 << 30, 65_536));
}

#[test]
fn a_typo_is_answered_with_the_nearest_key() {
    check(
        "[collector]\nendpoint = ['a:1']\n",
        &["2: collector.endpoint is not a known key; did you mean \"endpoints\"?"],
    );
    check("[qeue]\n", &["1: qeue is not a known key; did you mean \"queue\"?"]);
    check("[log]\ncolour = true\n", &["2: log.colour is not a known key; known here: level, format"]);
}

#[test]
fn every_mistake_is_found() {
    check(
        "agent_id = 'a b'\n[queue]\non_full = 'block'\nbytes_max = '10 MB'\ndurability = 3\n\
         [metrics]\ninterval = '1d'\nhost = 'yes'\n[limits]\nmax_series_per_batch = 106\n",
        &[
            "1: agent_id is \"a b\"; expected 1 to 128 letters, digits, '.', '_' or '-'",
            "3: queue.on_full is \"block\"; expected one of \"drop_oldest\", \"drop_newest\", \"refuse\"",
            "5: queue.durability is 3; expected one of \"sync\", \"interval\"",
            "7: metrics.interval is \"1d\"; expected a time from \"1s\" to \"1h\", in ms, s, m or h",
            "8: metrics.host is \"yes\"; expected true or false",
            "10: limits.max_series_per_batch is 106; expected a whole number from 107 to 65536",
        ],
    );
}

#[test]
fn shapes() {
    check(
        "[collector]\nendpoints = []\n",
        &["2: collector.endpoints is a list; expected a list of \"host:port\" with at least one entry"],
    );
    check(
        "[logs]\nfiles = ['var/log']\n",
        &["2: logs.files is a list; expected absolute paths, not \"var/log\""],
    );
    check("queue = 3\n", &["1: queue must be a table"]);
    check(
        "[queue]\nbytes_max = '5MB'\nsegment_bytes = '64MiB'\n",
        &["3: queue.segment_bytes must be at most half of bytes_max (5000000 B)"],
    );
}

#[test]
fn a_file_that_is_not_there() {
    let missing = Settings::load(Path::new("/nonexistent/agent.toml")).unwrap_err();
    assert_eq!(
        missing[0].to_string(),
        "/nonexistent/agent.toml:1: cannot read the file: No such file or directory (os error 2)"
    );
}

#[test]
fn collectors_and_filters_of_the_host() {
    let text = "[metrics.collectors]\nenable = ['meminfo_numa']\ndisable = ['uname']\n\
                [metrics.filters.diskstats]\ninclude = '^sda$'\n\
                [metrics.filters]\nnetdev = { exclude = 'veth' }\n";
    let host = parse(text).unwrap().metrics.host_options;
    assert!(host.collectors.contains("meminfo_numa") && !host.collectors.contains("uname"));
    assert!(host.collectors.contains("stat"));
    let shows = |filter: &str, name: &str| host.filters.filter(filter).shows(name.as_bytes());
    assert!(shows("diskstats", "sda") && !shows("diskstats", "sdb"));
    assert!(shows("netdev", "eth0") && !shows("netdev", "veth1"));
    assert!(shows("vmstat", "pgfault") && !shows("vmstat", "nr_free_pages"));
}

#[test]
fn an_include_alone_replaces_a_default_exclude() {
    let host = parse("[metrics.filters.cpu_flags]\ninclude = '^aes$'\n").unwrap().metrics.host_options;
    assert!(host.filters.filter("cpu_flags").shows(b"aes"));
    let host = parse("[metrics.filters.vmstat]\nexclude = '^nr_'\n").unwrap().metrics.host_options;
    assert!(host.filters.filter("vmstat").shows(b"thp_fault_alloc"));
}

#[test]
fn mistakes_about_collectors_and_filters() {
    check(
        "[metrics.collectors]\nenable = ['meminfo_numma', 3]\n",
        &[
            "2: metrics.collectors.enable has \"meminfo_numma\"; did you mean \"meminfo_numa\"?",
            "2: metrics.collectors.enable has 3; expected the name of a collector",
        ],
    );
    check(
        "[metrics.collectors]\nenable = ['stat']\ndisable = ['cpu', 'stat']\n",
        &["3: metrics.collectors.disable has \"stat\", which is in enable too"],
    );
    check(
        "[metrics.filters]\nnetdevs = { include = 'x' }\nnetdev = { include = '(', excluded = '' }\n",
        &[
            "2: metrics.filters.netdevs is not a known key; did you mean \"netdev\"?",
            "3: metrics.filters.netdev.include is \"(\"; expected a regular expression: unclosed group",
            "3: metrics.filters.netdev.excluded is not a known key; did you mean \"exclude\"?",
        ],
    );
    check("[metrics.options]\ncpu_info = 1\n", &["2: metrics.options.cpu_info is 1; expected true or false"]);
    check(
        "[metrics.options]\nsysctl = ['fs.file-nr:a,b,c', 'fs..file', '/etc', 'a:b c']\nsysctl_info = ['a/b']\n",
        &[
            "2: metrics.options.sysctl has \"fs..file\"; \
             expected such as \"vm.swappiness\" or \"fs.file-nr:total,current,max\"",
            "2: metrics.options.sysctl has \"/etc\"; \
             expected such as \"vm.swappiness\" or \"fs.file-nr:total,current,max\"",
            "2: metrics.options.sysctl has \"a:b c\"; \
             expected such as \"vm.swappiness\" or \"fs.file-nr:total,current,max\"",
            "3: metrics.options.sysctl_info has \"a/b\"; expected such as \"kernel.seccomp.actions_avail\"",
        ],
    );
}

/// The text of a job with `more` behind what it must have.
fn job(more: &str) -> String {
    format!("[[scrape]]\njob_name = 'app'\ntargets = ['a:1']\n{more}\n")
}

#[test]
fn scrape_jobs_as_documented() {
    let documented: String = DEFAULTS
        .lines()
        .skip_while(|line| *line != "# [[scrape]]")
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        })
        .filter(|line| !line.starts_with("basic_auth"))
        .map(|line| format!("{line}\n"))
        .collect();
    let jobs = parse(&documented).unwrap().scrape;
    let defaults = Job {
        name: "app".to_owned(),
        targets: jobs[0].targets.clone(),
        labels: jobs[0].labels.clone(),
        files: jobs[0].files.clone(),
        params: jobs[0].params.clone(),
        headers: jobs[0].headers.clone(),
        credentials: jobs[0].credentials.clone(),
        tls_server_name: jobs[0].tls_server_name.clone(),
        relabel: jobs[0].relabel.clone(),
        metric_relabel: jobs[0].metric_relabel.clone(),
        ..Job::default()
    };
    assert_eq!(jobs, [defaults]);
    assert_eq!((jobs[0].relabel.len(), jobs[0].metric_relabel.len()), (1, 1));
}

#[test]
fn scrape_timeouts_follow_the_interval() {
    let timeout = |text: &str| parse(&job(text)).unwrap().scrape[0].timeout;
    assert_eq!(timeout(""), Duration::from_secs(10));
    assert_eq!(timeout("scrape_interval = '1s'"), Duration::from_secs(1));
    assert_eq!(timeout("scrape_interval = '1m'\nscrape_timeout = '30s'"), Duration::from_secs(30));
    let mistake = "4: scrape.scrape_timeout is longer than scrape_interval";
    check(&job("scrape_timeout = '30s'"), &[mistake]);
}

#[test]
fn mistakes_of_scrape_jobs() {
    check(
        "[[scrape]]\n",
        &["1: scrape.job_name is missing", "1: scrape.targets is missing (or files in its place)"],
    );
    check(&(job("") + &job("")), &["6: scrape.job_name \"app\" stands twice"]);
    for (text, expected) in [
        ("target = []", "4: scrape.target is not a known key; did you mean \"targets\"?"),
        ("files = ['/a.yml']", "4: scrape.files is a list; expected files that end in .json, not \"/a.yml\""),
        ("files = ['a.json']", "4: scrape.files is a list; expected absolute paths, not \"a.json\""),
        ("scheme = 'ftp'", "4: scrape.scheme is \"ftp\"; expected one of \"http\", \"https\""),
        (
            "metrics_path = 'm?x'",
            "4: scrape.metrics_path is \"m?x\"; expected a path such as \"/metrics\"; \
             what follows a \"?\" goes to params",
        ),
        (
            "labels = { a-b = 'x' }",
            "4: scrape.labels is a table; \"a-b\" cannot be a label's name: use letters, digits and '_'",
        ),
        (
            "headers = { Authorization = 'x' }",
            "4: scrape.headers is a table; Authorization is set by the agent; credentials come from files",
        ),
        ("headers = { \"a b\" = 'x' }", "4: scrape.headers is a table; \"a b\" is no header of HTTP"),
        ("basic_auth_username = 'a'", "4: scrape.basic_auth_password_file is missing"),
        ("label_limit = 33", "4: scrape.label_limit is 33; expected a whole number from 3 to 32"),
        (
            "relabel_configs = [{ regex = 'a(b', action = 'keep' }]",
            "4: scrape.relabel_configs.regex is \"a(b\"; unclosed group",
        ),
        ("relabel_configs = [{ regex = 'a' }]", "4: scrape.relabel_configs.target_label is missing"),
        (
            "metric_relabel_configs = [{ action = 'hashmod', target_label = 'x' }]",
            "4: scrape.metric_relabel_configs.action is \"hashmod\"; expected one of \"replace\", \"keep\", \"drop\", \
             \"keepequal\", \"dropequal\", \"labelmap\", \"labeldrop\", \"labelkeep\", \"lowercase\", \"uppercase\"",
        ),
    ] {
        check(&job(text), &[expected]);
    }
    let text = "targets = ['http://a:1/m']";
    let job = job("").replace("targets = ['a:1']", text);
    check(
        &job,
        &[
            "3: scrape.targets is a list; expected \"host:port\" without scheme and path, not \"http://a:1/m\"",
        ],
    );
}
