//! Running a program of the system for what it prints, within bounds.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// More is refused.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// Replaces `output` with what `program` prints on its standard output.
///
/// Blocks for at most `patience`; a program that takes longer is killed.
///
/// # Errors
///
/// Also when it fails or prints too much.
pub fn ask(program: &Path, arguments: &[&str], patience: Duration, output: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let result = read_all(&mut child, Instant::now() + patience, output);
    if result.is_err() {
        // It may have ended meanwhile.
        let _ = child.kill();
    }
    let status = child.wait()?;
    result?;
    if !status.success() {
        return Err(io::Error::other(format!("{status}; run it by hand to see why")));
    }
    Ok(())
}

fn read_all(child: &mut Child, deadline: Instant, output: &mut Vec<u8>) -> io::Result<()> {
    output.clear();
    let stdout = child.stdout.as_mut().expect("standard output is a pipe");
    let mut part = [0; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let descriptor = PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN);
        match poll(&mut [descriptor], Some(&timeout)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "did not answer in time")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let count = stdout.read(&mut part)?;
        if count == 0 {
            return Ok(());
        }
        output.extend_from_slice(&part[..count]);
        if output.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other("printed more than 4 MiB"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expected: Result<&str, &str>) {
        let mut output = b"before".to_vec();
        let began = Instant::now();
        let result = ask(Path::new("/bin/sh"), &["-c", script], Duration::from_millis(500), &mut output);
        let result = result.map(|()| String::from_utf8_lossy(&output).into_owned());
        let found = result.map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(|message| &message[..]), expected, "{script}");
        assert!(began.elapsed() < Duration::from_secs(20), "{script}");
    }

    #[test]
    fn answers() {
        check("echo a; echo b >&2", Ok("a\n"));
        check("exit 3", Err("exit status: 3; run it by hand to see why"));
        check("echo a; exec sleep 60", Err("did not answer in time"));
        check("exec yes", Err("printed more than 4 MiB"));
        let missing = ask(Path::new("/no/such"), &[], Duration::from_secs(1), &mut Vec::new());
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
