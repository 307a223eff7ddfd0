use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A small process with a key of each kind.
#[derive(Debug, PartialEq)]
struct Example {
    name: String,
    dir: PathBuf,
    files: Vec<String>,
    is_on: bool,
    count: u32,
    mode: u8,
    wait: Duration,
    room: u64,
    listen: Option<SocketAddr>,
    endpoints: Vec<String>,
}

fn take(root: &mut Section<'_, '_>) -> Example {
    let mut example = Example {
        name: String::new(),
        dir: PathBuf::new(),
        files: Vec::new(),
        is_on: false,
        count: 0,
        mode: 0,
        wait: Duration::ZERO,
        room: 0,
        listen: None,
        endpoints: Vec::new(),
    };
    root.read("name", &mut example.name, units::text);
    let mut queue = root.section("queue");
    queue.read("dir", &mut example.dir, units::path);
    queue.read("files", &mut example.files, units::texts);
    queue.read("is_on", &mut example.is_on, units::flag);
    queue.read("count", &mut example.count, |value| units::integer(value, 1..=10));
    queue.read("mode", &mut example.mode, |value| units::choice(value, &[("fast", 1), ("safe", 2)]));
    let waits = Duration::from_millis(1)..=Duration::from_secs(86_400);
    queue.read("wait", &mut example.wait, |value| units::duration(value, waits));
    queue.read("room", &mut example.room, |value| units::size(value, 1 << 10..=64 << 20));
    queue.finish();
    let mut net = root.section("net");
    net.read("listen", &mut example.listen, |value| units::socket_addr(value).map(Some));
    net.read("endpoints", &mut example.endpoints, units::endpoints);
    let mut tls = net.section("tls");
    let mut key = PathBuf::new();
    tls.read("key_file", &mut key, units::path);
    tls.finish();
    net.finish();
    example
}

fn good(text: &str) -> Example {
    parse(Path::new("x.toml"), text, take).unwrap_or_else(|found| panic!("{text}: {found:?}"))
}

/// Compares the mistakes of `text` without the file's name.
fn check(text: &str, expected: &[&str]) {
    let found = parse(Path::new("x.toml"), text, take).err().unwrap_or_default();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected: Vec<_> = expected.iter().map(|mistake| format!("x.toml:{mistake}")).collect();
    assert_eq!(found, expected, "{text}");
}

/// The same for one key of `[queue]`, which is line 2.
fn check_key(key_and_value: &str, expected: &str) {
    check(&format!("[queue]\n{key_and_value}\n"), &[&format!("2: queue.{expected}")]);
}

#[test]
fn values_are_read() {
    let example = good(
        "name = 'a'\n[queue]\ndir = '/d'\nfiles = ['x', 'y']\nis_on = true\ncount = 0x0a\nmode = 'safe'\n\
         wait = '5m'\nroom = '64MiB'\n[net]\nlisten = '[::1]:80'\nendpoints = ['c:1', '[::1]:2']\n\
         tls.key_file = 'k'\n",
    );
    let expected = Example {
        name: "a".to_owned(),
        dir: "/d".into(),
        files: vec!["x".to_owned(), "y".to_owned()],
        is_on: true,
        count: 10,
        mode: 2,
        wait: Duration::from_secs(300),
        room: 64 << 20,
        listen: Some("[::1]:80".parse().unwrap()),
        endpoints: vec!["c:1".to_owned(), "[::1]:2".to_owned()],
    };
    assert_eq!(example, expected);
}

#[test]
fn what_is_left_out_keeps_its_value() {
    assert_eq!(good("[queue]\n").count, 0);
    assert_eq!(good(""), good("# nothing\n"));
}

#[test]
fn unknown_keys() {
    check("nam = 'a'\n", &["1: nam is not a known key; did you mean \"name\"?"]);
    check("[queue]\n\ncuont = 1\n", &["3: queue.cuont is not a known key; did you mean \"count\"?"]);
    check(
        "[net.tls]\nkeyfile = 'k'\n",
        &["2: net.tls.keyfile is not a known key; did you mean \"key_file\"?"],
    );
    // Too far from all of them.
    check("[net.tls]\ncolour = 1\n", &["2: net.tls.colour is not a known key; known here: key_file"]);
}

#[test]
fn unknown_sections() {
    check("name = 'a'\n[qeue]\ncount = 1\n", &["2: qeue is not a known key; did you mean \"queue\"?"]);
    check("[nothing.at.all]\n", &["1: nothing is not a known key; known here: name, queue, net"]);
    check("queue = 3\n", &["1: queue must be a table"]);
    check("[[net]]\n", &["1: net must be a table"]);
}

#[test]
fn wrong_types() {
    check("name = ''\n", &["1: name is \"\"; expected a text that is not empty"]);
    check("name = 1979-05-27\n", &["1: name is 1979-05-27; expected a text that is not empty"]);
    check("[name]\n", &["1: name is a table; expected a text that is not empty"]);
    check_key("dir = 3", "dir is 3; expected a path");
    check_key("files = ['a', '']", "files is a list; expected a list of texts, none of them empty");
    check_key("is_on = 'yes'", "is_on is \"yes\"; expected true or false");
    check_key("count = 1.5", "count is 1.5; expected a whole number from 1 to 10");
    check_key("count = -1", "count is -1; expected a whole number from 1 to 10");
    check_key("count = 11", "count is 11; expected a whole number from 1 to 10");
    check_key("mode = 'Safe'", "mode is \"Safe\"; expected one of \"fast\", \"safe\"");
    check_key("wait = 10", "wait is 10; expected a time from \"1ms\" to \"24h\", in ms, s, m or h");
    check(
        "[net]\nlisten = 'localhost:80'\nendpoints = []\n",
        &[
            "2: net.listen is \"localhost:80\"; expected an address and port such as \"127.0.0.1:4433\"",
            "3: net.endpoints is a list; expected a list of \"host:port\" with at least one entry",
        ],
    );
    check(
        "net.endpoints = ['c:1', 'c:0']\n",
        &[
            "1: net.endpoints is a list; expected a list of \"host:port\" with at least one entry, not \"c:0\"",
        ],
    );
}

#[test]
fn a_long_value_is_cut() {
    let long = "\u{e9}".repeat(61);
    let shown = "\u{e9}".repeat(60);
    check_key(&format!("is_on = '{long}'"), &format!("is_on is \"{shown}\"...; expected true or false"));
}

#[test]
fn durations() {
    for (text, millis) in [
        ("1ms", Some(1)),
        ("500ms", Some(500)),
        ("10s", Some(10_000)),
        ("10 s", Some(10_000)),
        ("5m", Some(300_000)),
        ("24h", Some(86_400_000)),
        ("25h", None),
        ("0s", None),
        ("10", None),
        ("s", None),
        ("", None),
        ("-1s", None),
        ("1.5s", None),
        ("1h30m", None),
        ("1S", None),
        ("99999999999999999999s", None),
        ("18446744073709551615h", None),
    ] {
        let found = parse(Path::new("x.toml"), &format!("[queue]\nwait = '{text}'\n"), take);
        assert_eq!(found.ok().map(|example| example.wait), millis.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn sizes() {
    for (toml, bytes) in [
        ("1024", Some(1024)),
        ("0x800", Some(2048)),
        ("'1024B'", Some(1024)),
        ("'2KB'", Some(2000)),
        ("'2KiB'", Some(2048)),
        ("'1MB'", Some(1_000_000)),
        ("'1 MiB'", Some(1 << 20)),
        ("'64MiB'", Some(64 << 20)),
        ("1023", None),
        ("'1023B'", None),
        ("'65MiB'", None),
        ("'1GiB'", None),
        ("'1024'", None),
        ("'1mib'", None),
        ("'MiB'", None),
        ("-1", None),
        ("'18446744073709551615GiB'", None),
    ] {
        let found = parse(Path::new("x.toml"), &format!("[queue]\nroom = {toml}\n"), take);
        assert_eq!(found.ok().map(|example| example.room), bytes, "{toml}");
    }
    check_key(
        "room = '65MiB'",
        "room is \"65MiB\"; expected a size from \"1KiB\" to \"64MiB\", in B, KB, MB, GB, KiB, MiB or GiB",
    );
}

#[test]
fn numbers() {
    for (toml, number) in [
        ("1", Some(1.0)),
        ("-0.5", Some(-0.5)),
        ("1_000.5", Some(1000.5)),
        ("0x10", Some(16.0)),
        ("1e3", Some(1000.0)),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("'1'", None),
    ] {
        let take = |root: &mut Section<'_, '_>| {
            let mut found = 0.0;
            root.read("x", &mut found, units::number);
            found
        };
        let found = parse(Path::new("x.toml"), &format!("x = {toml}\n"), take);
        assert_eq!(found.ok(), number, "{toml}");
    }
}

#[test]
fn a_complaint_about_two_keys_names_a_line() {
    let two = |text: &str| {
        let take = |root: &mut Section<'_, '_>| {
            let mut queue = root.section("queue");
            queue.read("count", &mut 0, |value| units::integer(value, 1..=10));
            queue.complain_at("count", "count must be less than room");
            queue.finish();
        };
        parse(Path::new("x.toml"), text, take).unwrap_err()[0].to_string()
    };
    assert_eq!(two("\n[queue]\ncount = 1\n"), "x.toml:3: queue.count must be less than room");
    assert_eq!(two("\n[queue]\n"), "x.toml:2: queue.count must be less than room");
    assert_eq!(two("\n\n"), "x.toml:1: queue.count must be less than room");
}

/// `[[rows]]`, each with a `title`, some `sizes` and `[[rows.cells]]`, with lines.
type Rows = Vec<(String, usize, Vec<(u32, usize)>, Vec<(String, usize)>)>;

fn take_rows(root: &mut Section<'_, '_>) -> Rows {
    let mut rows = Vec::new();
    for mut from in root.sections("rows", 1..=3) {
        let (mut title, mut sizes) = (String::new(), Vec::new());
        from.require("title", &mut title, units::text);
        from.read_each("sizes", &mut sizes, 3, |value, line| {
            units::integer(value, 1..=9).map(|size| (size, line))
        });
        let mut cells = Vec::new();
        for mut cell in from.sections("cells", 0..=2) {
            let mut name = String::new();
            cell.read("name", &mut name, units::text);
            cells.push((name, cell.line_at("name")));
            cell.finish();
        }
        rows.push((title, from.line_at("title"), sizes, cells));
        from.finish();
    }
    rows
}

#[test]
fn lists_of_tables_are_read() {
    let text = "\n[[rows]]\ntitle = 'a'\nsizes = [1,\n 2]\n[[rows.cells]]\nname = 'x'\n\n[[rows.cells]]\n\
                [[rows]]\ntitle = 'b'\ncells = [{ name = 'y' },\n  { name = 'z' }]\n";
    let cell = |name: &str, line| (name.to_owned(), line);
    let expected = vec![
        ("a".to_owned(), 3, vec![(1, 4), (2, 5)], vec![cell("x", 7), cell("", 9)]),
        ("b".to_owned(), 11, vec![], vec![cell("y", 12), cell("z", 13)]),
    ];
    assert_eq!(parse(Path::new("x.toml"), text, take_rows), Ok(expected));
}

#[test]
fn mistakes_in_lists_are_found_where_they_are() {
    let check = |text: &str, expected: &[&str]| {
        let found = parse(Path::new("x.toml"), text, take_rows).err().unwrap_or_default();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let expected: Vec<_> = expected.iter().map(|mistake| format!("x.toml:{mistake}")).collect();
        assert_eq!(found, expected, "{text}");
    };
    check(
        "\n[[rows]]\n\n[[rows]]\ntitle = 'b'\nsizes = [1,\n 10, 'x']\n[[rows.cells]]\nnam = 'x'\n",
        &[
            "2: rows.title is missing",
            "7: rows.sizes has 10; expected a whole number from 1 to 9",
            "7: rows.sizes has \"x\"; expected a whole number from 1 to 9",
            "9: rows.cells.nam is not a known key; did you mean \"name\"?",
        ],
    );
    check("", &["1: rows is missing; expected a list of tables"]);
    check("rows = []\n", &["1: rows has 0 entries; expected 1 to 3"]);
    check("rows = 3\n", &["1: rows is 3; expected a list of tables"]);
    check("rows = [{ title = 'a' },\n 3]\n", &["2: rows has 3; expected a list of tables"]);
    check("[rows]\ntitle = 'a'\n", &["1: rows is a table; expected a list of tables"]);
    check(&"[[rows]]\ntitle = 'a'\n".repeat(4), &["1: rows has 4 entries; expected 1 to 3"]);
    check("[[rows]]\ntitle = 'a'\nsizes = 3\n", &["3: rows.sizes is 3; expected a list"]);
    // What is no TOML is not followed by complaints about what it hides.
    let found = parse(Path::new("x.toml"), "[[rows]]\ntitle = = 'a'\n", take_rows).unwrap_err();
    assert!(found.iter().all(|mistake| mistake.line == 2), "{found:?}");
}

/// The line of each mistake.
fn lines(text: &str) -> Vec<usize> {
    let found = parse(Path::new("x.toml"), text, take).unwrap_err();
    println!("{text}: {found:#?}");
    found.iter().map(|mistake| mistake.line).collect()
}

#[test]
fn what_is_no_toml_has_a_line() {
    assert_eq!(lines("name = \n"), [1]);
    assert_eq!(lines("name = 'a'\n[queue\n"), [2]);
    assert_eq!(lines("name = 'a'\n\n[queue]\ncount = 3\ncount = 4\n"), [5]);
    assert_eq!(lines("name = 'a'\nqueue = = 3\n"), [2]);
    // One a line, and what is wrong on other lines is said all the same.
    assert_eq!(lines("nam = 'a'\n[queue]\ncount = = 2\nmode = 3\nwait = 10s\n"), [1, 3, 4, 5]);
}

#[test]
fn there_is_an_end_of_mistakes() {
    let unknown: String = (0..1000).map(|key| format!("key{key} = 1\n")).collect();
    assert_eq!(lines(&unknown).len(), 100);
    let no_toml = "= \n".repeat(1000);
    assert!((1..=50).contains(&lines(&no_toml).len()));
}

/// [`read`]s a file of `bytes`; the line and message of its only mistake.
fn unreadable(bytes: &[u8]) -> (usize, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, bytes).unwrap();
    let found = read(&file, take).unwrap_err();
    let [Mistake { file: named, line, message }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*named, file);
    (*line, message.clone())
}

#[test]
fn files_that_cannot_be_read() {
    assert_eq!(unreadable(b"name = 'a'\n# \xff\n"), (2, "not UTF-8 text".to_owned()));
    let comment = vec![b'#'; FILE_BYTES_MAX as usize + 1];
    let too_large = "larger than 1048576 bytes: is it a configuration file?".to_owned();
    assert_eq!(unreadable(&comment), (1, too_large));
    let missing = read(Path::new("/nonexistent/x.toml"), take).unwrap_err();
    assert_eq!(
        missing[0].to_string(),
        "/nonexistent/x.toml:1: cannot read the file: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_of_the_largest_size_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, vec![b'\n'; FILE_BYTES_MAX as usize]).unwrap();
    assert_eq!(read(&file, take), Ok(good("")));
}

#[test]
fn an_idle_session_may_lose_one_sign_of_life() {
    let parse = |text: &str| {
        parse(Path::new("x.toml"), text, |root| {
            let (mut every, mut idle) = (Duration::from_secs(15), Duration::from_secs(60));
            take_keep_alive(root, &mut every, &mut idle);
            (every, idle)
        })
    };
    let seconds = Duration::from_secs;
    assert_eq!(parse(""), Ok((seconds(15), seconds(60))));
    assert_eq!(parse("keep_alive = \"5s\"\nidle_timeout = \"10s\""), Ok((seconds(5), seconds(10))));
    for (text, says) in [
        ("idle_timeout = \"20s\"", "x.toml:1: idle_timeout (20s) must be at least twice keep_alive (15s)"),
        ("keep_alive = \"40s\"", "idle_timeout (60s) must be at least twice keep_alive (40s)"),
        ("keep_alive = \"1ms\"", "keep_alive is"),
    ] {
        let mistakes = parse(text).unwrap_err();
        assert!(mistakes[0].to_string().contains(says), "{mistakes:?}");
    }
}
