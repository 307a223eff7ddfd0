//! The kernel's name and version, and the host's name.

use std::ffi::CStr;

use crate::sources::SeriesIndex;
use crate::sources::host::Error;
use crate::sources::host::collector::{Collect, Cycle};

/// The kernel's name and version. Host names change, so the labels are looked
/// up again when they do.
#[derive(Default)]
pub struct Uname {
    known: Option<(rustix::system::Uname, SeriesIndex)>,
}

impl Collect for Uname {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let uname = rustix::system::uname();
        let series = match &self.known {
            Some((known, series)) if facts(known) == facts(&uname) => *series,
            _ => {
                let values = facts(&uname).map(CStr::to_string_lossy);
                let names = ["sysname", "nodename", "release", "version", "machine", "domainname"];
                let labels: [_; 6] = std::array::from_fn(|at| (names[at], &*values[at]));
                let series = cycle.series("node_uname_info", &labels)?;
                self.known.insert((uname, series)).1
            }
        };
        cycle.push(series, 1.0);
        Ok(())
    }
}

fn facts(uname: &rustix::system::Uname) -> [&CStr; 6] {
    [uname.sysname(), uname.nodename(), uname.release(), uname.version(), uname.machine(), uname.domainname()]
}
