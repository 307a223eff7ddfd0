//! Watchdog timers: `/sys/class/watchdog`.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, attribute, push_attributes, push_info, read_texts, text,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const ATTRIBUTES: [Attribute; 7] = [
    attribute("access_cs0", "node_watchdog_access_cs0"),
    attribute("bootstatus", "node_watchdog_bootstatus"),
    attribute("fw_version", "node_watchdog_fw_version"),
    attribute("nowayout", "node_watchdog_nowayout"),
    attribute("pretimeout", "node_watchdog_pretimeout_seconds"),
    attribute("timeleft", "node_watchdog_timeleft_seconds"),
    attribute("timeout", "node_watchdog_timeout_seconds"),
];

const TEXTS: [Text; 5] =
    [text("identity"), text("options"), text("pretimeout_governor"), text("state"), text("status")];

pub struct Watchdogs {
    path: PathBuf,
}

impl Watchdogs {
    pub fn new(options: &HostOptions) -> Self {
        Watchdogs { path: options.sysfs.join("class/watchdog") }
    }
}

impl Collect for Watchdogs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for name in class.names() {
            let Some(watchdog) = class.inside(&name) else { continue };
            push_attributes(cycle, buffer, &watchdog, &ATTRIBUTES, &[("name", &name)])?;
            let texts = read_texts(buffer, &watchdog, &TEXTS);
            push_info(cycle, "node_watchdog_info", &[("name", &name)], &texts)?;
        }
        Ok(())
    }
}
