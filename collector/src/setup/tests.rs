use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::settings::Settings;

const DAY: Duration = Duration::from_secs(86_400);

fn options(dir: &Path) -> SetupOptions {
    SetupOptions {
        dir: dir.to_owned(),
        names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        agents: vec!["local-agent".to_owned()],
        lifetime: 30 * DAY,
        listen: ([0, 0, 0, 0], 4433).into(),
        gateway_listen: ([127, 0, 0, 1], 18080).into(),
        unit_dir: None,
        group: None,
    }
}

#[test]
fn everything_is_made_once_and_secrets_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let written = setup(&options(dir.path()), now).unwrap();
    let public = ["ca.pem", "fullchain.pem", "endpoint", "server.toml", "gateway.toml"];
    for file in &written {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        let is_public = public.iter().any(|name| file.ends_with(name));
        assert_eq!(mode, if is_public { 0o644 } else { 0o600 }, "{file:?}");
    }
    assert_eq!(written.len(), public.len() + 9, "{written:#?}");
    let query = fs::read_to_string(dir.path().join("query-token")).unwrap();
    assert_eq!(setup(&options(dir.path()), now).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(fs::read_to_string(dir.path().join("query-token")).unwrap(), query);
    let mut more = options(dir.path());
    more.agents.push("second".to_owned());
    assert_eq!(setup(&more, now).unwrap().len(), 2);
    more.agents.push("no good".to_owned());
    assert!(matches!(setup(&more, now), Err(SetupError::Enrol(lm_enrol::Error::Name(_)))));
}

#[test]
fn what_is_written_is_a_collector() {
    let dir = tempfile::tempdir().unwrap();
    setup(&options(dir.path()), SystemTime::now()).unwrap();
    let settings = Settings::read(&dir.path().join("server.toml")).unwrap();
    assert_eq!(settings.storage.dir, dir.path().join("data/collector"));
    let tokens = crate::check(&settings).map_err(|errors| format!("{errors:?}")).unwrap();
    let agent = fs::read_to_string(dir.path().join("token-local-agent")).unwrap();
    let known = lm_mesh::Credentials::new(tokens).verify(agent.trim()).unwrap();
    assert_eq!((&known.name[..], known.role), ("local-agent", lm_mesh::Role::Agent));
    let users = fs::read_to_string(dir.path().join("users.toml")).unwrap();
    assert!(users.lines().all(|line| line.starts_with('#')), "an example, not a user");
}

#[test]
fn a_gateway_beyond_loopback_gets_tls() {
    let dir = tempfile::tempdir().unwrap();
    let alone = settings::gateway(&options(dir.path()));
    assert!(alone.contains("\n# [tls]\n"), "{alone}");
    let open = SetupOptions { gateway_listen: ([0, 0, 0, 0], 18080).into(), ..options(dir.path()) };
    assert!(settings::gateway(&open).contains("\n[tls]\n"));
    assert_eq!(settings::endpoint("::1", 5), "[::1]:5");
}

#[test]
fn a_certificate_is_renewed_before_it_ends_and_keeps_its_key_and_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, tls) = (dir.path().join("ca.pem"), dir.path().join("tls"));
    let now = SystemTime::now();
    setup(&options(dir.path()), now).unwrap();
    let read = |path: &Path| fs::read(path).unwrap();
    let (authority, key, chain) = (read(&ca), read(&tls.join("key.pem")), read(&tls.join("fullchain.pem")));
    assert!(!renew(dir.path(), now + 19 * DAY).unwrap(), "not before two thirds");
    assert!(renew(dir.path(), now + 20 * DAY).unwrap());
    assert_ne!(read(&tls.join("fullchain.pem")), chain);
    assert_eq!((read(&ca), read(&tls.join("key.pem"))), (authority, key));
    assert!(!renew(dir.path(), now + 39 * DAY).unwrap(), "the new one lives as long");
    lm_mesh::check_certificate(&tls.join("fullchain.pem"), &tls.join("key.pem")).unwrap_err();
    assert!(renew(dir.path(), now + 41 * DAY).unwrap());

    let other = SetupOptions { names: vec!["mon.example.com".to_owned()], ..options(dir.path()) };
    let written = setup(&other, now).unwrap();
    assert_eq!(written, [tls.join("fullchain.pem")], "other names need another certificate");
    lm_mesh::check_certificate(&tls.join("fullchain.pem"), &tls.join("key.pem")).unwrap();
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let chain = dir.path().join("tls/fullchain.pem");
    let now = SystemTime::now();
    let missing = renew(dir.path(), now).unwrap_err().to_string();
    assert!(missing.contains("setup --name HOST"), "{missing}");
    setup(&options(dir.path()), now).unwrap();
    fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
    let lost = renew(dir.path(), now + 25 * DAY).unwrap_err().to_string();
    assert!(lost.contains("ca-key.pem: restore it"), "{lost}");
    fs::write(&chain, "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert!(!renew(dir.path(), now + 25 * DAY).unwrap());
    assert_eq!(setup(&options(dir.path()), now).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn units_name_our_files() {
    let (dir, units) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let unit_dir = Some(units.path().to_owned());
    setup(&SetupOptions { unit_dir, ..options(dir.path()) }, SystemTime::now()).unwrap();
    for name in ["lm-collector.service", "lm-gateway.service", "lm-collector-renew.service"] {
        let text = fs::read_to_string(units.path().join(name)).unwrap();
        let exec = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert!(exec.contains(&dir.path().display().to_string()) || exec.contains("systemctl"), "{exec}");
        assert!(!text.contains("/etc/lightmetrics"), "{text}");
    }
    assert!(units.path().join("lm-collector-renew.timer").exists());
}
