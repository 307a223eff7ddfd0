//! `/proc/net/xfrm_stat`: IPsec packets that went wrong.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct Xfrm {
    file: KernelFile,
    series: SeriesCache<SeriesIndex>,
}

impl Xfrm {
    pub fn new(options: &HostOptions) -> Self {
        Xfrm { file: KernelFile::new(&options.procfs, "net/xfrm_stat"), series: SeriesCache::default() }
    }
}

impl Collect for Xfrm {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)? {
            let mut words = words(text);
            let name = words.next().and_then(|name| name.strip_prefix(b"Xfrm"));
            let (Some(name), Some(value)) = (name, words.next().and_then(number)) else {
                return Err(self.file.wrong(line, "is not a counter and its value"));
            };
            let series = self.series.get_or_make(name, |name| {
                cycle.series(&format!("node_xfrm{}_packets_total", snake_case(name)), &[])
            })?;
            cycle.push(series, value as f64);
        }
        Ok(())
    }
}

/// `InStateProtoError` is `_in_state_proto_error`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 8);
    for letter in name.chars().filter(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
