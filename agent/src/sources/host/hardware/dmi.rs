//! What the firmware says the machine is: `/sys/class/dmi/id`.
//!
//! It cannot change while the machine runs, so it is read once. Serial numbers
//! are there for root only.

use std::path::PathBuf;

use crate::sources::host::attribute::{Text, push_info, read_texts, text, text_as};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const TEXTS: [Text; 20] = [
    text("bios_date"),
    text("bios_release"),
    text("bios_vendor"),
    text("bios_version"),
    text("board_asset_tag"),
    text("board_name"),
    text("board_serial"),
    text("board_vendor"),
    text("board_version"),
    text("chassis_asset_tag"),
    text("chassis_serial"),
    text("chassis_vendor"),
    text("chassis_version"),
    text("product_family"),
    text("product_name"),
    text("product_serial"),
    text("product_sku"),
    text("product_uuid"),
    text("product_version"),
    text_as("sys_vendor", "system_vendor"),
];

pub struct Dmi {
    path: PathBuf,
    texts: Vec<(&'static str, String)>,
}

impl Dmi {
    pub fn new(options: &HostOptions) -> Self {
        Dmi { path: options.sysfs.join("class/dmi/id"), texts: Vec::new() }
    }
}

impl Collect for Dmi {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        if self.texts.is_empty() {
            self.texts = read_texts(buffer, &Directory::open(&self.path)?, &TEXTS);
        }
        push_info(cycle, "node_dmi_info", &[], &self.texts)
    }
}
