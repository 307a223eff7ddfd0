//! What the Docker daemon calls its containers, and the state of each.
//!
//! One question over its socket, `GET /containers/json?all=1`, which Podman
//! answers too: nothing is changed, nothing else is asked. The request is
//! HTTP/1.0, so that the answer is one piece that ends with the connection:
//! the agent's HTTP client is for its own thread and an async one.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lm_model::Timestamp;
use serde::Deserialize;

use super::containers::{CONTAINER_COUNT_MAX, ID_DIGITS};
use crate::sources::host::Error;

const REQUEST: &[u8] =
    b"GET /containers/json?all=1 HTTP/1.0\r\nHost: docker\r\nAccept: application/json\r\n\r\n";
/// For how long an answer counts.
const REPEATED_FOR: Duration = Duration::from_secs(15);
/// For how long measuring may be held up.
const PATIENCE: Duration = Duration::from_secs(2);
/// A container is some 2 KiB; more is refused.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Of a name; Docker itself has no bound.
const NAME_BYTES_MAX: usize = 256;

/// Asks the daemon now and then, and remembers what it said.
pub struct Docker {
    socket: PathBuf,
    asked_at: Option<Timestamp>,
    known: Vec<Named>,
}

/// A container as the daemon knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The first digits of its id, as [`containers`](super::containers) has it.
    pub id: String,
    pub name: String,
    /// `running`, `paused`, `exited` and others of Docker's.
    pub state: String,
}

impl Docker {
    pub fn new(socket: PathBuf) -> Self {
        Docker { socket, asked_at: None, known: Vec::new() }
    }

    /// All containers, by id. Blocks for two seconds at most.
    ///
    /// With an error come those of the last answer: names stay what they were
    /// while the daemon is away.
    pub fn containers(&mut self, now: Timestamp) -> (&[Named], Option<Error>) {
        let is_fresh = self.asked_at.is_some_and(|asked_at| {
            let age = now.as_nanos().saturating_sub(asked_at.as_nanos());
            (0..REPEATED_FOR.as_nanos() as i64).contains(&age)
        });
        if is_fresh {
            return (&self.known, None);
        }
        // Also after a failure: a daemon in trouble is not asked each second.
        self.asked_at = Some(now);
        match ask(&self.socket).and_then(|answer| parse(&answer)) {
            Ok(known) => {
                self.known = known;
                (&self.known, None)
            }
            Err(source) => (&self.known, Some(Error::Read { path: self.socket.clone(), source })),
        }
    }
}

fn ask(socket: &Path) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let (mut answer, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "did not answer in time"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(answer),
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a timeout of a socket is called.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("answered more than 8 MiB"));
        }
    }
}

/// The part of Docker's answer that is used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
}

fn parse(answer: &[u8]) -> io::Result<Vec<Named>> {
    let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| wrong("the answer is not HTTP".to_owned()))?;
    let status =
        String::from_utf8_lossy(answer[..end].split(|byte| *byte == b'\r').next().unwrap_or_default());
    if !(status.starts_with("HTTP/1.") && status.split(' ').nth(1) == Some("200")) {
        let start: String = status.chars().take(80).collect();
        return Err(wrong(format!("answered {start:?}")));
    }
    let listed: Vec<Listed> = serde_json::from_slice(&answer[end + 4..])
        .map_err(|error| wrong(format!("the answer is no list of containers: {error}")))?;
    let mut known: Vec<Named> = listed.into_iter().filter_map(named).take(CONTAINER_COUNT_MAX).collect();
    known.sort_by(|a, b| a.id.cmp(&b.id));
    known.dedup_by(|a, b| a.id == b.id);
    Ok(known)
}

fn named(listed: Listed) -> Option<Named> {
    let id = listed.id.get(..ID_DIGITS)?.to_owned();
    // Others are aliases in the networks of linked containers: `/web/db`.
    let own = |name: &&str| !name.contains('/');
    let name = listed.names.iter().map(|name| name.trim_start_matches('/')).find(own)?;
    let name = name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
    Some(Named { id, name, state: listed.state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let id = "0123456789abcdef".repeat(4);
        let check = |answer: String, expected: Result<&[(&str, &str, &str)], &str>| {
            let found = parse(answer.as_bytes()).map_err(|error| error.to_string());
            let found: Result<Vec<_>, _> = found
                .as_ref()
                .map(|known| known.iter().map(|one| (&one.id[..], &one.name[..], &one.state[..])).collect());
            match expected {
                Ok(expected) => assert_eq!(found.as_deref(), Ok(expected), "{answer}"),
                Err(why) => assert!(found.as_ref().unwrap_err().contains(why), "{found:?}"),
            }
        };
        let ok = |body: &str| format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        let web = format!(r#"{{"Id":"{id}","Names":["/db/web","/web"],"State":"running","Image":"x"}}"#);
        check(ok(&format!("[{web}, {web}]")), Ok(&[("0123456789ab", "web", "running")]));
        check(ok("[]"), Ok(&[]));
        check(ok(r#"[{"Id":"12","Names":["/a"]},{"Id":"0123456789ab"}]"#), Ok(&[]));
        check(ok("{"), Err("no list of containers"));
        check(ok(&web), Err("no list of containers"));
        check("HTTP/1.1 403 Forbidden\r\n\r\n[]".to_owned(), Err("answered \"HTTP/1.1 403 Forbidden\""));
        check("SSH-2.0\r\n".to_owned(), Err("is not HTTP"));
        check(String::new(), Err("is not HTTP"));
    }
}
