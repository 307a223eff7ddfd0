use super::*;

/// A story told in seconds since our start; the wall clock is a million ahead.
struct Story {
    hosts: Hosts,
    start: Instant,
    denied: &'static [&'static str],
    unknown: &'static [&'static str],
    given: Labels,
}

fn story(rows: &[(&str, u64)]) -> Story {
    let start = Instant::now();
    let rows = rows
        .iter()
        .map(|(name, at)| (Arc::from(*name), HostRow { job: "node".to_owned(), last_seen: wall(*at) }));
    Story { hosts: Hosts::new(rows, start), start, denied: &[], unknown: &[], given: Labels::empty() }
}

fn wall(seconds: u64) -> Timestamp {
    Timestamp::from_millis((1_000_000 + seconds as i64) * 1000)
}

fn seen(identity: &str, session: u64, calls: u64) -> Seen {
    Seen { identity: Arc::from(identity), session, calls, job: "node".to_owned(), clock_skew_ms: Some(-1500) }
}

impl Story {
    /// Looks, and returns the samples as `name{labels} value`.
    fn look(&mut self, second: u64, seen: &[Seen]) -> Vec<String> {
        let now = self.start + Duration::from_secs(second);
        let (denied, unknown, given) = (self.denied, self.unknown, self.given.clone());
        self.hosts.handle_look(now, wall(second), seen, |name| {
            if unknown.contains(&name) {
                Standing::Unknown
            } else if denied.contains(&name) {
                Standing::Denied
            } else {
                Standing::Expected(given.clone())
            }
        });
        let mut samples = Vec::new();
        self.hosts.samples(now, wall(second), &mut samples);
        let text = |(labels, value): (Labels, f64)| {
            let rest: Vec<_> = labels
                .iter()
                .filter(|(name, _)| *name != METRIC_NAME)
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{}{{{}}} {value}", labels.metric_name(), rest.join(","))
        };
        samples.into_iter().map(text).collect()
    }

    /// As [`Story::look`], of `up` alone.
    fn up(&mut self, second: u64, seen: &[Seen]) -> Vec<String> {
        let mut found = self.look(second, seen);
        found.retain(|sample| sample.starts_with("up{"));
        found
    }
}

const UP_A: &str = "up{instance=a,job=node} 1";
const DOWN_A: &str = "up{instance=a,job=node} 0";

#[test]
fn a_host_is_down_when_it_is_silent_and_up_when_it_calls() {
    let mut story = story(&[]);
    assert_eq!(
        story.look(0, &[seen("a", 1, 1)]),
        [
            UP_A,
            "lmcollector_host_last_seen_age_seconds{instance=a,job=node} 0",
            "lmcollector_host_clock_skew_seconds{instance=a,job=node} -1.5"
        ]
    );
    assert_eq!(story.up(10, &[seen("a", 1, 2)]), [UP_A]);
    // Unplugged: the session stays for a while, its calls do not grow.
    assert_eq!(story.up(25, &[seen("a", 1, 2)]), [UP_A]);
    assert_eq!(
        story.look(30, &[seen("a", 1, 2)]),
        [DOWN_A, "lmcollector_host_last_seen_age_seconds{instance=a,job=node} 20"]
    );
    assert_eq!(story.up(70, &[]), [DOWN_A]);
    assert_eq!(story.up(75, &[seen("a", 2, 1)]), [UP_A]);
    // Stopped: nothing to wait for.
    assert_eq!(story.up(80, &[]), [DOWN_A]);
}

#[test]
fn the_latest_session_of_an_agent_counts() {
    let mut story = story(&[]);
    story.up(0, &[seen("a", 1, 5)]);
    assert_eq!(story.up(25, &[seen("a", 1, 5), seen("a", 2, 1)]), [UP_A]);
    assert_eq!(story.up(40, &[seen("a", 1, 5), seen("a", 2, 1)]), [UP_A]);
    assert_eq!(story.up(45, &[seen("a", 1, 6), seen("a", 2, 1)]), [DOWN_A]);
}

#[test]
fn after_a_start_a_known_host_has_time_to_come_back() {
    let mut story = story(&[("a", 0), ("b", 0)]);
    assert!(story.look(0, &[]).is_empty(), "nobody knows yet");
    assert_eq!(story.up(5, &[seen("a", 1, 1)]), [UP_A]);
    assert_eq!(story.up(40, &[seen("a", 1, 2)]), [UP_A]);
    let found = story.look(45, &[seen("a", 1, 3)]);
    assert!(found.contains(&"up{instance=b,job=node} 0".to_owned()), "{found:?}");
    let age = "lmcollector_host_last_seen_age_seconds{instance=b,job=node} 45";
    assert!(found.contains(&age.to_owned()), "{found:?}");
    assert_eq!(story.hosts.count(), (1, 1));
}

#[test]
fn a_host_that_was_never_seen_is_not_missed() {
    assert!(story(&[]).look(500, &[]).is_empty());
}

#[test]
fn a_denied_host_is_silent_and_one_without_a_token_is_forgotten() {
    let mut story = story(&[]);
    let saved = |story: &mut Story, second| {
        story.hosts.poll_changes(story.start + Duration::from_secs(second), false)
    };
    story.up(0, &[seen("a", 1, 1)]);
    assert_eq!(
        saved(&mut story, 0),
        [(Arc::from("a"), Some(HostRow { job: "node".to_owned(), last_seen: wall(0) }))]
    );
    story.denied = &["a"];
    assert!(story.look(5, &[]).is_empty());
    assert_eq!(saved(&mut story, 5), []);
    story.denied = &[];
    assert_eq!(story.up(10, &[]), [DOWN_A]);
    story.unknown = &["a"];
    assert!(story.look(15, &[]).is_empty());
    assert_eq!(saved(&mut story, 15), [(Arc::from("a"), None)]);
    story.unknown = &[];
    assert!(story.look(20, &[]).is_empty(), "it is new");
}

#[test]
fn labels_are_the_credentials_and_the_job_is_the_agents() {
    let mut story = story(&[]);
    story.given = Labels::from_pairs([("env", "prod")]);
    let edge = Seen { job: "edge".to_owned(), ..seen("a", 1, 1) };
    assert_eq!(story.up(0, std::slice::from_ref(&edge)), ["up{env=prod,instance=a,job=edge} 1"]);
    story.given = Labels::from_pairs([("job", "given"), ("env", "lab")]);
    assert_eq!(story.up(5, &[edge]), ["up{env=lab,instance=a,job=given} 1"]);
    story.given = Labels::empty();
    assert_eq!(story.up(10, &[Seen { job: String::new(), ..seen("a", 1, 2) }]), [UP_A]);
}

#[test]
fn when_a_host_was_seen_is_saved_now_and_then() {
    let mut story = story(&[]);
    let mut saves = Vec::new();
    for second in 0..200 {
        story.look(second, &[seen("a", 1, second)]);
        let changes = story.hosts.poll_changes(story.start + Duration::from_secs(second), false);
        saves.extend(changes.iter().map(|_| second));
    }
    assert_eq!(saves, [0, 60, 120, 180]);
    let last = story.hosts.poll_changes(story.start + Duration::from_secs(199), true);
    assert_eq!(last[0].1.as_ref().unwrap().last_seen, wall(199));
}
