//! Bonded network interfaces: how many slaves they have and how many work.

use std::path::PathBuf;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

/// Bonds and slaves of a bond beyond these are not looked at.
const COUNT_MAX: usize = 1024;

pub struct Bonding {
    masters: KernelFile,
    path: PathBuf,
}

impl Bonding {
    pub fn new(options: &HostOptions) -> Self {
        let masters = KernelFile::new(&options.sysfs, "class/net/bonding_masters");
        Bonding { masters, path: options.sysfs.join("class/net") }
    }
}

impl Collect for Bonding {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.masters.read(buffer)?;
        let masters = String::from_utf8_lossy(buffer).into_owned();
        let class = Directory::open(&self.path)?;
        for master in masters.split_ascii_whitespace().take(COUNT_MAX) {
            let Some(bond) = class.inside(master) else { continue };
            let Some(slaves) = bond.text("bonding/slaves", buffer).map(String::from) else { continue };
            let slaves = slaves.split_ascii_whitespace().take(COUNT_MAX);
            let (mut count, mut active) = (0, 0);
            for slave in slaves {
                count += 1;
                active += u32::from(is_active(&bond, slave, buffer));
            }
            push(cycle, "node_bonding_slaves", &[("master", master)], f64::from(count))?;
            push(cycle, "node_bonding_active", &[("master", master)], f64::from(active))?;
        }
        Ok(())
    }
}

/// Kernels before 3.13 name the link `slave_`, later ones `lower_`.
fn is_active(bond: &Directory, slave: &str, buffer: &mut Vec<u8>) -> bool {
    ["lower_", "slave_"].iter().any(|prefix| {
        let status = format!("{prefix}{slave}/bonding_slave/mii_status");
        bond.bytes(&status, buffer) == Some(b"up")
    })
}
