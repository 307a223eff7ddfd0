//! Sizes of mounted file systems.
//!
//! Asking a dead file server for its size blocks for ever, and there is no
//! way to give up. So only file systems that live in this machine are asked:
//! the list names them, and whatever it does not name (NFS, CIFS, FUSE, what
//! is invented next) is left out, where node_exporter would try and get stuck.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, Malformed, lines, words};
use crate::sources::host::{Error, HostOptions};

const LOCAL_TYPES: [&[u8]; 18] = [
    b"bcachefs",
    b"btrfs",
    b"exfat",
    b"ext2",
    b"ext3",
    b"ext4",
    b"f2fs",
    b"hfsplus",
    b"jfs",
    b"msdos",
    b"nilfs2",
    b"ntfs3",
    b"ramfs",
    b"reiserfs",
    b"tmpfs",
    b"vfat",
    b"xfs",
    b"zfs",
];

/// More mounts than this are not asked for their size, in the order of the
/// file: each costs a system call and seven series.
const MOUNT_COUNT_MAX: usize = 256;

const NAMES: [&str; 7] = [
    "node_filesystem_size_bytes",
    "node_filesystem_free_bytes",
    "node_filesystem_avail_bytes",
    "node_filesystem_files",
    "node_filesystem_files_free",
    "node_filesystem_readonly",
    "node_filesystem_device_error",
];

pub struct FileSystems {
    /// What process 1 sees, which is the host also from inside a container.
    init: KernelFile,
    own: KernelFile,
    rootfs: PathBuf,
    mount_points: Filter,
    /// By mount point, device and type together.
    series: SeriesCache<[SeriesIndex; 7]>,
    key: Vec<u8>,
}

impl FileSystems {
    pub fn new(options: &HostOptions) -> Self {
        FileSystems {
            init: KernelFile::new(&options.procfs, "1/mountinfo"),
            own: KernelFile::new(&options.procfs, "self/mountinfo"),
            rootfs: options.rootfs.clone(),
            mount_points: options.filters.filter("filesystem_mount_points"),
            series: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for FileSystems {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // Process 1 may be another user's and hidden.
        let mut file = &self.init;
        if file.read(buffer).is_err() {
            file = &self.own;
            file.read(buffer)?;
        }
        let mut mounts: Vec<Mount<'_>> = Vec::new();
        for (line, text) in lines(buffer).map_err(|malformed| file.malformed(malformed))? {
            let mount = parse_mount(text).ok_or(Malformed { line, reason: "is not a mount" });
            let mount = mount.map_err(|malformed| file.malformed(malformed))?;
            if !is_shown(&mount, &self.mount_points) {
                continue;
            }
            // What is mounted later at the same place hides what was there.
            mounts.retain(|earlier| earlier.mount_point != mount.mount_point);
            if mounts.len() < MOUNT_COUNT_MAX {
                mounts.push(mount);
            }
        }
        for mount in &mounts {
            self.key.clear();
            for part in [mount.mount_point, mount.device, mount.fstype] {
                self.key.extend_from_slice(part);
                self.key.push(0);
            }
            let series = self.series.get_or_make(&self.key, |_| mount_series(cycle, mount))?;
            push_sizes(cycle, &self.rootfs, mount, series);
        }
        Ok(())
    }
}

fn mount_series(cycle: &mut Cycle<'_>, mount: &Mount<'_>) -> Result<[SeriesIndex; 7], Error> {
    let text = |word: &[u8]| unescape(word).to_string_lossy().into_owned();
    let (device, fstype, point) = (text(mount.device), text(mount.fstype), text(mount.mount_point));
    cycle.series_each(NAMES, &[("device", &device), ("fstype", &fstype), ("mountpoint", &point)])
}

/// One failing mount (no permission) is an error of that mount only.
fn push_sizes(cycle: &mut Cycle<'_>, rootfs: &Path, mount: &Mount<'_>, series: [SeriesIndex; 7]) {
    let [size, free, avail, files, files_free, readonly, device_error] = series;
    let point = unescape(mount.mount_point);
    let relative = Path::new(&point).strip_prefix("/").unwrap_or(Path::new(""));
    cycle.push(readonly, f64::from(u8::from(mount.is_readonly)));
    match rustix::fs::statvfs(rootfs.join(relative)) {
        Ok(sizes) => {
            let block = sizes.f_frsize as f64;
            cycle.push(size, sizes.f_blocks as f64 * block);
            cycle.push(free, sizes.f_bfree as f64 * block);
            cycle.push(avail, sizes.f_bavail as f64 * block);
            cycle.push(files, sizes.f_files as f64);
            cycle.push(files_free, sizes.f_ffree as f64);
            cycle.push(device_error, 0.0);
        }
        Err(_) => cycle.push(device_error, 1.0),
    }
}

/// One line of `mountinfo`; words are still escaped.
struct Mount<'a> {
    mount_point: &'a [u8],
    fstype: &'a [u8],
    device: &'a [u8],
    is_readonly: bool,
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
/// with any number of words before the dash.
fn parse_mount(line: &[u8]) -> Option<Mount<'_>> {
    let mut words = words(line);
    let mount_point = words.nth(4)?;
    let mount_options = words.next()?;
    words.find(|word| *word == b"-")?;
    let (fstype, device) = (words.next()?, words.next()?);
    let super_options = words.next().unwrap_or_default();
    let is_readonly = [mount_options, super_options]
        .iter()
        .any(|options| options.split(|byte| *byte == b',').any(|option| option == b"ro"));
    Some(Mount { mount_point, fstype, device, is_readonly })
}

fn is_shown(mount: &Mount<'_>, mount_points: &Filter) -> bool {
    LOCAL_TYPES.contains(&mount.fstype) && mount_points.shows(mount.mount_point)
}

/// `mountinfo` writes a space as `\040`, and tab, newline and backslash alike.
fn unescape(word: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => plain.push(*first),
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::host::filter::Filters;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn mount_lines() {
        let line = br"36 35 98:0 / /mnt/a\040b rw,noatime master:1 shared:2 - ext4 /dev/sda1 ro,errors=x";
        let mount = parse_mount(line).unwrap();
        assert_eq!(unescape(mount.mount_point).as_os_str(), OsStr::from_bytes(b"/mnt/a b"));
        assert_eq!((mount.fstype, mount.device, mount.is_readonly), (&b"ext4"[..], &b"/dev/sda1"[..], true));
        assert!(is_shown(&mount, &Filters::default().filter("filesystem_mount_points")));
        assert!(parse_mount(b"36 35 98:0 / /mnt rw").is_none());
    }

    #[test]
    fn remote_and_virtual_file_systems_are_not_asked() {
        let filter = Filters::default().filter("filesystem_mount_points");
        let check = |mount_point: &str, fstype: &str, expected: bool| {
            let (mount_point, fstype) = (mount_point.as_bytes(), fstype.as_bytes());
            let mount = Mount { mount_point, fstype, device: b"x", is_readonly: false };
            assert_eq!(is_shown(&mount, &filter), expected, "{}", String::from_utf8_lossy(mount_point));
        };
        check("/", "ext4", true);
        check("/run", "tmpfs", true);
        check("/devices", "xfs", true);
        check("/mnt", "nfs4", false);
        check("/mnt", "fuse.sshfs", false);
        check("/dev/shm", "tmpfs", false);
        check("/var/lib/docker/x", "ext4", false);
        check("/var/lib/docker", "ext4", true);
    }
}
