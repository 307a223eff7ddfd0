//! Sizes of mounted file systems.
//!
//! File systems that live in this machine answer from memory and are asked
//! here. All others (NFS, CIFS, FUSE, what is invented next) may never answer,
//! so [`Sizes`] asks them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfs;

use super::sizes::Sizes;
use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, Malformed, lines, words};
use crate::sources::host::{Error, HostOptions};

/// Types that answer from memory.
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
pub const MOUNT_COUNT_MAX: usize = 256;

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
    types: Filter,
    sizes: Sizes<rustix::io::Result<StatVfs>>,
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
            types: options.filters.filter("filesystem_types"),
            sizes: Sizes::new(|path| rustix::fs::statvfs(path)),
            series: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for FileSystems {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        // Process 1 may be another user's and hidden.
        let mut file = &self.init;
        let is_own = file.read(buffer).is_err();
        if is_own {
            file = &self.own;
            file.read(buffer)?;
        }
        let mut mounts: Vec<Mount<'_>> = Vec::new();
        for (line, text) in lines(buffer).map_err(|malformed| file.malformed(malformed))? {
            let mount = parse_mount(text).ok_or(Malformed { line, reason: "is not a mount" });
            let mut mount = mount.map_err(|malformed| file.malformed(malformed))?;
            // A sandbox (systemd's ProtectSystem=) shows us each mount as
            // read-only; what the file system is, it cannot hide.
            mount.is_readonly &= !is_own || mount.is_file_system_readonly;
            if !(self.types.shows(mount.fstype) && self.mount_points.shows(mount.mount_point)) {
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
            let point = unescape(mount.mount_point);
            let path = self.rootfs.join(Path::new(&point).strip_prefix("/").unwrap_or(Path::new("")));
            let sizes = match LOCAL_TYPES.contains(&mount.fstype) {
                true => rustix::fs::statvfs(&path).ok(),
                false => self.sizes.ask(&path).and_then(Result::ok),
            };
            push_sizes(cycle, mount, sizes, series);
        }
        Ok(())
    }
}

fn mount_series(cycle: &mut Cycle<'_>, mount: &Mount<'_>) -> Result<[SeriesIndex; 7], Error> {
    let text = |word: &[u8]| unescape(word).to_string_lossy().into_owned();
    let (device, fstype, point) = (text(mount.device), text(mount.fstype), text(mount.mount_point));
    cycle.series_each(NAMES, &[("device", &device), ("fstype", &fstype), ("mountpoint", &point)])
}

/// One mount that does not answer (no permission, a dead server) is an error of
/// that mount only.
fn push_sizes(cycle: &mut Cycle<'_>, mount: &Mount<'_>, sizes: Option<StatVfs>, series: [SeriesIndex; 7]) {
    let [size, free, avail, files, files_free, readonly, device_error] = series;
    cycle.push(readonly, f64::from(u8::from(mount.is_readonly)));
    cycle.push(device_error, f64::from(u8::from(sizes.is_none())));
    if let Some(sizes) = sizes {
        let block = sizes.f_frsize as f64;
        cycle.push(size, sizes.f_blocks as f64 * block);
        cycle.push(free, sizes.f_bfree as f64 * block);
        cycle.push(avail, sizes.f_bavail as f64 * block);
        cycle.push(files, sizes.f_files as f64);
        cycle.push(files_free, sizes.f_ffree as f64);
    }
}

/// One line of `mountinfo`; words are still escaped.
pub struct Mount<'a> {
    pub mount_point: &'a [u8],
    pub fstype: &'a [u8],
    pub device: &'a [u8],
    pub super_options: &'a [u8],
    /// The mount or its file system.
    is_readonly: bool,
    is_file_system_readonly: bool,
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
/// with any number of words before the dash.
pub fn parse_mount(line: &[u8]) -> Option<Mount<'_>> {
    let mut words = words(line);
    let mount_point = words.nth(4)?;
    let mount_options = words.next()?;
    words.find(|word| *word == b"-")?;
    let (fstype, device) = (words.next()?, words.next()?);
    let super_options = words.next().unwrap_or_default();
    let has_ro = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let is_file_system_readonly = has_ro(super_options);
    let is_readonly = is_file_system_readonly || has_ro(mount_options);
    Some(Mount { mount_point, fstype, device, super_options, is_readonly, is_file_system_readonly })
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
        assert!(mount.is_file_system_readonly);
        let sandboxed = parse_mount(br"36 35 98:0 / / ro,relatime - ext4 /dev/sda1 rw,errors=x").unwrap();
        assert!(sandboxed.is_readonly && !sandboxed.is_file_system_readonly);
        assert!(parse_mount(b"36 35 98:0 / /mnt rw").is_none());
    }

    #[test]
    fn virtual_file_systems_are_not_shown() {
        let filters = Filters::default();
        let shows = |filter: &str, name: &str| filters.filter(filter).shows(name.as_bytes());
        for mount_point in ["/", "/run", "/devices", "/var/lib/docker"] {
            assert!(shows("filesystem_mount_points", mount_point), "{mount_point}");
        }
        for mount_point in ["/dev", "/dev/shm", "/proc/sys/fs/binfmt_misc", "/var/lib/docker/x"] {
            assert!(!shows("filesystem_mount_points", mount_point), "{mount_point}");
        }
        assert!(shows("filesystem_types", "ext4") && shows("filesystem_types", "nfs4"));
        assert!(!shows("filesystem_types", "overlay") && !shows("filesystem_types", "cgroup2"));
    }
}
