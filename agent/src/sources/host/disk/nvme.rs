//! NVMe controllers and their namespaces: `/sys/class/nvme`.

use std::path::PathBuf;

use crate::sources::host::attribute::{Text, push, push_info, read_texts, text, text_as};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const TEXTS: [Text; 5] = [
    text_as("firmware_rev", "firmware_revision"),
    text("model"),
    text("serial"),
    text("state"),
    text("cntlid"),
];

pub struct Nvme {
    path: PathBuf,
}

impl Nvme {
    pub fn new(options: &HostOptions) -> Self {
        Nvme { path: options.sysfs.join("class/nvme") }
    }
}

impl Collect for Nvme {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            let Some(controller) = class.inside(&name) else { continue };
            let texts = read_texts(buffer, &controller, &TEXTS);
            push_info(cycle, "node_nvme_info", &[("device", &name)], &texts)?;
            for entry in controller.names() {
                let Some(namespace) = namespace_number(&entry) else { continue };
                let Some(directory) = controller.inside(&entry) else { continue };
                push_namespace(cycle, buffer, &directory, &[("device", &name), ("nsid", namespace)])?;
            }
        }
        Ok(())
    }
}

/// Sizes are counted in logical blocks, as node_exporter takes them.
fn push_namespace(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    namespace: &Directory,
    labels: &[(&str, &str); 2],
) -> Result<(), Error> {
    let state = namespace.text("ana_state", buffer).map_or_else(|| "unknown".to_owned(), String::from);
    push(cycle, "node_nvme_namespace_info", &[labels[0], labels[1], ("ana_state", &state)], 1.0)?;
    let Some(block) = namespace.number("queue/logical_block_size", buffer) else { return Ok(()) };
    push(cycle, "node_nvme_namespace_logical_block_size_bytes", labels, block)?;
    if let Some(size) = namespace.number("size", buffer) {
        push(cycle, "node_nvme_namespace_capacity_bytes", labels, size * block)?;
        push(cycle, "node_nvme_namespace_size_bytes", labels, size * block)?;
    }
    if let Some(used) = namespace.number("nuse", buffer) {
        push(cycle, "node_nvme_namespace_used_bytes", labels, used * block)?;
    }
    Ok(())
}

/// `1` of `nvme0n1`, and of `nvme0c0n1` where there are several paths.
fn namespace_number(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("nvme")?;
    let (controller, number) = rest.rsplit_once('n')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (controller.split('c').all(is_number) && is_number(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces() {
        assert_eq!(namespace_number("nvme0n1"), Some("1"));
        assert_eq!(namespace_number("nvme0c1n12"), Some("12"));
        assert_eq!(namespace_number("nvme0"), None);
        assert_eq!(namespace_number("ng0n1"), None);
        assert_eq!(namespace_number("hwmon3"), None);
        assert_eq!(namespace_number("nvme0n1p1"), None);
    }
}
