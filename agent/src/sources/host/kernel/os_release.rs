//! The operating system's name and version: `os-release(5)` below the root.

use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::read::read_file;
use crate::sources::host::{Error, HostOptions};

/// Where it is, in the order in which they count.
const PATHS: [&str; 3] = ["etc/os-release", "usr/lib/os-release", "usr/share/factory/etc/os-release"];

/// Keys of the file, and the labels of `node_os_info` that they become.
const LABELS: [(&str, &str); 12] = [
    ("BUILD_ID", "build_id"),
    ("ID", "id"),
    ("ID_LIKE", "id_like"),
    ("IMAGE_ID", "image_id"),
    ("IMAGE_VERSION", "image_version"),
    ("NAME", "name"),
    ("PRETTY_NAME", "pretty_name"),
    ("VARIANT", "variant"),
    ("VARIANT_ID", "variant_id"),
    ("VERSION", "version"),
    ("VERSION_CODENAME", "version_codename"),
    ("VERSION_ID", "version_id"),
];

pub struct OsRelease {
    paths: [PathBuf; 3],
}

impl OsRelease {
    pub fn new(options: &HostOptions) -> Self {
        OsRelease { paths: PATHS.map(|path| options.rootfs.join(path)) }
    }
}

impl Collect for OsRelease {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let [first, rest @ ..] = &self.paths;
        let mut found = read_file(first, buffer);
        for path in rest {
            if found.is_err() {
                found = read_file(path, buffer);
            }
        }
        found?;
        let text = String::from_utf8_lossy(buffer);
        let values = LABELS.map(|(key, _)| value(&text, key).unwrap_or_default());
        let labels: Vec<(&str, &str)> =
            LABELS.iter().zip(&values).map(|((_, label), value)| (*label, &value[..])).collect();
        push(cycle, "node_os_info", &labels, 1.0)?;
        let of =
            |wanted: &str| labels.iter().find(|(label, _)| *label == wanted).copied().unwrap_or_default();
        if let Some(version) = version(of("version_id").1) {
            push(cycle, "node_os_version", &[of("id"), of("id_like"), of("name")], version)?;
        }
        Ok(())
    }
}

/// The value of `key`, in shell syntax: bare, or in quotes of either kind.
fn value(text: &str, key: &str) -> Option<String> {
    let raw = text.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix('='))?.trim();
    if let Some(inner) = raw.strip_prefix('\'').and_then(|raw| raw.strip_suffix('\'')) {
        return Some(inner.to_owned());
    }
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    Some(plain)
}

/// The major and minor version that `version_id` begins with.
fn version(version_id: &str) -> Option<f64> {
    let mut points = 0;
    let end = version_id.find(|c: char| {
        points += u32::from(c == '.');
        !(c.is_ascii_digit() || c == '.' && points < 2)
    });
    let version: f64 = version_id[..end.unwrap_or(version_id.len())].parse().ok()?;
    (version > 0.0).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_shell_syntax() {
        let text = "NAME=\"A \\\"b\\\" c\"\nID=debian\nVERSION='1 $x'\nPRETTY_NAME=\nID_LIKE=\"\n";
        assert_eq!(value(text, "NAME").as_deref(), Some("A \"b\" c"));
        assert_eq!(value(text, "ID").as_deref(), Some("debian"));
        assert_eq!(value(text, "VERSION").as_deref(), Some("1 $x"));
        assert_eq!(value(text, "PRETTY_NAME").as_deref(), Some(""));
        assert_eq!(value(text, "ID_LIKE").as_deref(), Some("\""));
        assert_eq!(value(text, "VERSION_ID"), None);
    }

    #[test]
    fn versions() {
        assert_eq!(version("20.04"), Some(20.04));
        assert_eq!(version("12"), Some(12.0));
        assert_eq!(version("1.2.3"), Some(1.2));
        for text in ["", "rolling", ".", "0"] {
            assert_eq!(version(text), None, "{text}");
        }
    }
}
