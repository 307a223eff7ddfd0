use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lm_mesh::{Credentials, Rates};
use lm_model::{Labels, MatchOp, Matcher};
use lm_telemetry::log::{LogControl, LogFilter, LogReload};

use super::*;

const FIRST: &str = "first-first-first-first-first-first";
const SECOND: &str = "second-second-second-second-second";
/// Of `FIRST`, by `sha256sum`.
const FIRST_SHA256: &str = "6eaa0e15ad4d3d9851ffc1afe7692f36a05a53d81c9ff4ec83fd45839858108d";

struct Place(tempfile::TempDir, Settings);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        let auth = &mut settings.auth;
        for (name, file) in [
            ("gateway", &mut auth.gateway_token_file),
            ("query", &mut auth.query_token_file),
            ("write", &mut auth.write_token_file),
            ("operator", &mut auth.operator_token_file),
        ] {
            *file = dir.path().join(name);
        }
        auth.agent_tokens_file = dir.path().join("agents.toml");
        settings.users.tokens_file = Some(dir.path().join("users.toml"));
        let place = Place(dir, settings);
        for name in ["gateway", "query", "write", "operator"] {
            place.write(name, &name.repeat(8));
        }
        place.write("agents.toml", "");
        place.write("users.toml", "");
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The mistakes, without the directory.
    fn mistakes(&self) -> Vec<String> {
        let errors = load(&self.1).unwrap_err();
        let dir = format!("{}/", self.0.path().display());
        let texts: Vec<_> = errors.iter().map(|error| error.to_string().replace(&dir, "")).collect();
        for text in &texts {
            assert!(!text.contains(FIRST) && !text.contains(SECOND), "a token is told: {text}");
        }
        texts
    }
}

#[test]
fn users_are_read() {
    let place = Place::new();
    place.write(
        "users.toml",
        &format!(
            "[[users]]\nname = 'ann'\nrole = 'viewer'\ntoken_sha256 = '{FIRST_SHA256}'\n\
             scope = '{{env=\"prod\",instance=~\"web-.*\"}}'\nexpires = 2027-01-31T18:00:00Z\n\
             [[users]]\nname = 'ben'\nrole = 'writer'\ntoken = '{SECOND}'\nexpires = '2027-01-31T19:00:00+01:00'\n"
        ),
    );
    let credentials = Credentials::new(load(&place.1).unwrap());
    let ann = credentials.verify_at(FIRST, 0).unwrap();
    assert_eq!((&ann.name[..], ann.role), ("ann", Role::Viewer));
    let wanted = [Matcher::new("env", MatchOp::Eq, "prod"), Matcher::new("instance", MatchOp::Re, "web-.*")];
    assert_eq!(ann.scope.selector, wanted);
    assert_eq!(ann.scope.expires_unix_ms, Some(1_801_418_400_000));
    let ben = credentials.verify_at(SECOND, 0).unwrap();
    assert_eq!((ben.role, ben.scope.expires_unix_ms), (Role::Writer, Some(1_801_418_400_000)));
    assert_eq!(credentials.verify_at(SECOND, 1_801_418_400_000), None);
    assert_eq!(credentials.verify(&"query".repeat(8)).unwrap(), Principal::new("viewer", Role::Viewer));
}

#[test]
fn agents_are_read() {
    let place = Place::new();
    place.write(
        "agents.toml",
        &format!(
            "[[tokens]]\nagent_id = 'web-1'\ntoken = '{FIRST}'\nlabels = {{ env = 'prod' }}\n\
             samples_per_second = 1000\nlines_per_second = 10\nbytes_per_second = 4294967295\n\
             instances = ['10.0.0.*:9100']\n"
        ),
    );
    let web = Credentials::new(load(&place.1).unwrap()).verify(FIRST).unwrap();
    assert_eq!((&web.name[..], web.role), ("web-1", Role::Agent));
    assert_eq!(web.scope.labels, Labels::from_pairs([("env", "prod")]));
    assert_eq!(web.scope.instances, ["10.0.0.*:9100"]);
    let rates = Rates { samples: Some(1000), lines: Some(10), bytes: Some(u32::MAX) };
    assert_eq!(web.scope.rates, rates);
}

#[test]
fn every_mistake_of_users_has_its_line() {
    let place = Place::new();
    let text = format!(
        "[[users]]\nname = 'ann'\nroll = 'viewer'\ntoken = '{FIRST}'\n\
         [[users]]\nname = 'ann b'\nrole = 'admin'\ntoken = '{SECOND}'\n\
         [[users]]\nname = 'cat'\nrole = 'viewer'\ntoken = 'short'\nscope = 'rate(up[5m])'\n\
         [[users]]\nname = 'cat'\nrole = 'writer'\ntoken = '{SECOND}'\nscope = '{{a=\"b\"}}'\n\
         [[users]]\nname = 'dan'\nrole = 'viewer'\ntoken = '{SECOND}'\nexpires = 'soon'\n\
         [[users]]\nname = 'viewer'\nrole = 'viewer'\ntoken = '{FIRST}'\ntoken_sha256 = '{FIRST_SHA256}'\n\
         [[users]]\nrole = 'viewer'\nscope = '{{env=\"prod\"'\n{FIRST} = 1\n"
    );
    place.write("users.toml", &text);
    let found = place.mistakes();
    let wanted = [
        (1, "role is missing"),
        (3, "roll is not a known key; did you mean \"role\"?"),
        (6, "users.name is a text that is not shown; expected 1 to 128 letters"),
        (7, "users.role is a text that is not shown; expected"),
        (12, "the token has 5 bytes"),
        (13, "users.scope is a text that is not shown; expected a selector such as"),
        (15, "name \"cat\" stands twice"),
        (18, "scope is for viewers"),
        (22, "token: writer \"cat\" has the same token"),
        (23, "expected a time such as"),
        (25, "viewer is the holder of a token of [auth]"),
        (28, "token and token_sha256 say the same thing"),
        (29, "name is missing"),
        (29, "token is missing (or token_sha256 in its place)"),
        (31, "parse error"),
        (32, "this is not a known key; known here: "),
    ];
    for (line, text) in wanted {
        let prefix = format!("users.toml:{line}: ");
        assert!(
            found.iter().any(|known| known.starts_with(&prefix) && known.contains(text)),
            "{prefix}{text} in {found:#?}"
        );
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

#[test]
fn every_mistake_of_agents_has_its_line() {
    let place = Place::new();
    let text = format!(
        "[[tokens]]\nagent_id = 'a'\ntoken = '{FIRST}'\nlabels = {{ instance = 'x' }}\n\
         [[tokens]]\nagent_id = 'a'\ntoken = '{SECOND}'\nlabels = {{ 'no good' = 'x' }}\n\
         [[tokens]]\nagent_id = 'b'\ntoken = '{FIRST}'\nlines_per_second = 0\n\
         [[tokens]]\nagent_id = 'c'\ntoken = {FIRST}\n"
    );
    place.write("agents.toml", &text);
    let found = place.mistakes();
    let wanted = [
        (4, "instance cannot be given"),
        (6, "agent_id \"a\" stands twice"),
        (8, "\"no good\" cannot be a label's name"),
        (11, "agent \"a\" has the same token"),
        (12, "lines_per_second is 0; expected a whole number from 1"),
        (15, "not TOML; the line is not shown"),
    ];
    for (line, text) in wanted {
        let prefix = format!("agents.toml:{line}: ");
        assert!(
            found.iter().any(|known| known.starts_with(&prefix) && known.contains(text)),
            "{prefix}{text} in {found:#?}"
        );
    }
}

#[test]
fn a_token_is_one_persons_whatever_the_file() {
    let place = Place::new();
    place.write(
        "users.toml",
        &format!("[[users]]\nname = 'ann'\nrole = 'viewer'\ntoken = '{}'\n", "query".repeat(8)),
    );
    assert_eq!(place.mistakes(), ["users.toml:4: users.token: viewer \"viewer\" has the same token"]);
    let exposed = place.write("users.toml", "");
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(place.mistakes()[0].contains("users.toml can be read by others (mode 0604)"));
}

#[test]
fn a_broken_file_keeps_the_last_good_state_and_losses_are_told() {
    let place = Place::new();
    let user = |name: &str, token: &str, scope: &str| {
        format!("[[users]]\nname = '{name}'\nrole = 'viewer'\ntoken = '{token}'\nscope = '{scope}'\n")
    };
    place.write("users.toml", &(user("ann", FIRST, "{a=\"1\"}") + &user("ben", SECOND, "{a=\"1\"}")));
    let log = LogReload::new("log".into(), None, LogControl::default(), |_| Ok(LogFilter::default()));
    let reload = Reload::new(place.1.clone(), load(&place.1).unwrap(), lm_mesh::Registry::default(), log);
    let credentials = reload.credentials();
    let generation = || *reload.generations().borrow();
    let before = generation();

    place.write("users.toml", "[[users]]\nname = 'ann'\nrole = 'viewer'\n");
    let broken = reload.reload();
    assert!(broken.parts[0].result.as_ref().unwrap_err()[0].contains("users.toml:1: "), "{broken:?}");
    assert!(broken.lost.is_empty());
    assert!(credentials.verify(FIRST).is_some() && generation() == before);

    place.write("users.toml", &user("ann", FIRST, "{a=\"2\"}"));
    let mended = reload.reload();
    assert_eq!(mended.parts[0].result, Ok("0 added, 1 changed, 1 removed".to_owned()));
    let mut lost: Vec<_> = mended.lost.iter().map(|principal| &principal.name[..]).collect();
    lost.sort();
    assert_eq!(lost, ["ann", "ben"]);
    assert!(credentials.verify(SECOND).is_none());
    assert_eq!(generation(), before + 1);
    assert_eq!(reload.reload().parts[0].result, Ok("unchanged".to_owned()));
    assert_eq!(generation(), before + 1);

    let figure = |outcome: &str| {
        let mut figures = Vec::new();
        reload.figures(&mut figures);
        let of_tokens = figures.iter().filter(|figure| figure.labels[0].1 == "tokens");
        of_tokens
            .filter(|figure| figure.labels.last().unwrap().1 == outcome)
            .flat_map(|figure| figure.samples().map(|(.., number)| number).collect::<Vec<_>>())
            .sum::<f64>()
    };
    assert_eq!((figure("failure"), figure("success")), (1.0, 2.0));
}
