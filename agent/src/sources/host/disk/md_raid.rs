//! Software RAID: `/proc/mdstat` and `/sys/block/md*/md`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Attribute, attribute, push, push_attributes};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::read::{KernelFile, Malformed, lines};
use crate::sources::host::{Error, HostOptions};

const REQUIRED: Attribute = attribute("raid_disks", "node_md_raid_disks");
const DEGRADED: &str = "node_md_degraded";

const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

pub struct MdRaid {
    status: KernelFile,
    devices: PathBuf,
}

impl MdRaid {
    pub fn new(options: &HostOptions) -> Self {
        let status = KernelFile::new(&options.procfs, "mdstat");
        MdRaid { status, devices: options.sysfs.join("block") }
    }
}

impl Collect for MdRaid {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.status.read(buffer)?;
        let arrays = parse(buffer).map_err(|malformed| self.status.malformed(malformed))?;
        for array in arrays {
            push_array(cycle, &array)?;
        }
        let Ok(devices) = Directory::open(&self.devices) else { return Ok(()) };
        for name in devices.names() {
            if !name.starts_with("md") {
                continue;
            }
            let Some(array) = devices.inside(&format!("{name}/md")) else { continue };
            let labels = [("device", &name[..])];
            push_attributes(cycle, buffer, &array, &[REQUIRED], &labels)?;
            // An array that cannot lose a disk has no such file.
            let degraded = array.number("degraded", buffer).unwrap_or(0.0);
            push(cycle, DEGRADED, &labels, degraded)?;
        }
        Ok(())
    }
}

fn push_array(cycle: &mut Cycle<'_>, array: &Array) -> Result<(), Error> {
    let device = ("device", &array.name[..]);
    for (state, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
        push(cycle, "node_md_disks", &[device, ("state", state)], count as f64)?;
    }
    push(cycle, "node_md_disks_required", &[device], array.required as f64)?;
    push(cycle, "node_md_blocks", &[device], array.blocks as f64)?;
    push(cycle, "node_md_blocks_synced", &[device], array.synced as f64)?;
    for state in STATES {
        let value = f64::from(u8::from(state == array.state));
        push(cycle, "node_md_state", &[device, ("state", state)], value)?;
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Array {
    name: String,
    /// One of [`STATES`].
    state: &'static str,
    active: u64,
    failed: u64,
    spare: u64,
    required: u64,
    /// Of 1 KiB.
    blocks: u64,
    synced: u64,
}

/// An array is a line that begins with its name, and lines below it that begin
/// with a space: its size and disks, then maybe a bitmap and what it does.
///
/// ```text
/// md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]
///       195310144 blocks [2/1] [U_]
///       [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec
/// ```
fn parse(bytes: &[u8]) -> Result<Vec<Array>, Malformed> {
    let mut arrays: Vec<Array> = Vec::new();
    let mut lines = lines(bytes)?.map(|(line, text)| (line, String::from_utf8_lossy(text))).peekable();
    while let Some((line, head)) = lines.next() {
        let is_array = !head.starts_with([' ', '\t']) && head.contains(" : ");
        if !is_array || head.starts_with("Personalities") {
            continue;
        }
        let (_, size) = lines.next().ok_or(Malformed { line, reason: "is an array without a size" })?;
        let array = parse_array(&head, &size).ok_or(Malformed { line, reason: "is not an array" })?;
        arrays.push(array);
        while let Some((line, text)) = lines.next_if(|(_, text)| text.starts_with([' ', '\t'])) {
            let array = arrays.last_mut().expect("the array was just pushed");
            apply_progress(array, &text).ok_or(Malformed { line, reason: "is not a progress" })?;
        }
    }
    Ok(arrays)
}

fn parse_array(head: &str, size: &str) -> Option<Array> {
    let (name, rest) = head.split_once(" : ")?;
    let is_active = rest.split_ascii_whitespace().next()? == "active";
    let blocks = size.split_ascii_whitespace().next()?.parse().ok()?;
    let members = head.matches('[').count() as u64;
    let (required, active) = if head.contains(" raid0 ") || head.contains(" linear ") {
        // They need every disk and say nothing of how many work.
        (members, members)
    } else if is_active {
        disks(size)?
    } else {
        (0, 0)
    };
    Some(Array {
        name: name.trim().to_owned(),
        state: if is_active { "active" } else { "inactive" },
        active,
        failed: head.matches("(F)").count() as u64,
        spare: head.matches("(S)").count() as u64,
        required,
        blocks,
        synced: blocks,
    })
}

/// `2` and `1` of `[2/1]`.
fn disks(size: &str) -> Option<(u64, u64)> {
    size.split('[').skip(1).find_map(|part| {
        let (required, active) = part.split_once(']')?.0.split_once('/')?;
        Some((required.parse().ok()?, active.parse().ok()?))
    })
}

/// `None` when the line begins as a progress and goes on as something else.
fn apply_progress(array: &mut Array, line: &str) -> Option<()> {
    let kinds = [("recovery", "recovering"), ("resync", "resync"), ("check", "check")];
    let Some((_, state)) = kinds.into_iter().find(|(word, _)| line.contains(word)) else {
        return Some(()); // a bitmap
    };
    array.state = state;
    array.synced = if line.contains("PENDING") || line.contains("DELAYED") {
        0
    } else {
        line.split_once('(')?.1.split_once('/')?.0.parse().ok()?
    };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str, u64, u64)], &str>) {
        let found = parse(text.as_bytes()).map_err(|malformed| malformed.reason);
        let found: Result<Vec<_>, _> = found.map(|arrays| {
            arrays.into_iter().map(|array| (array.name, array.state, array.active, array.synced)).collect()
        });
        let expected = expected.map(|arrays| {
            arrays
                .iter()
                .map(|(name, state, active, synced)| (name.to_string(), *state, *active, *synced))
                .collect()
        });
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn arrays_and_what_they_do() {
        check("Personalities : \nunused devices: <none>\n", Ok(&[]));
        let head =
            "Personalities : [raid1]\nmd0 : active raid1 sda[0] sdb[1](F)\n      100 blocks [2/1] [U_]\n";
        check(head, Ok(&[("md0", "active", 1, 100)]));
        let bitmap = format!("{head}      bitmap: 0/30 pages [0KB], 65536KB chunk\n\n");
        check(&bitmap, Ok(&[("md0", "active", 1, 100)]));
        let recovery = format!("{head}      [=>]  recovery =  8.5% (42/100) finish=17.0min speed=1K/sec\n");
        check(&recovery, Ok(&[("md0", "recovering", 1, 42)]));
        check(&format!("{head}      resync=PENDING\n"), Ok(&[("md0", "resync", 1, 0)]));
    }

    #[test]
    fn what_is_not_an_array_is_said() {
        check("md0 : active raid1 sda[0]\n", Err("is an array without a size"));
        check("md0 : active raid1 sda[0]\n      100 blocks\n", Err("is not an array"));
        check("md0 : active raid0 sda[0]\n      x blocks\n", Err("is not an array"));
        check("md0 : active raid0 sda[0]\n      1 blocks\n      check = 1% (\n", Err("is not a progress"));
        check("md0 : active", Err("ends within a line"));
    }
}
