//! Files below `/proc/sys` that the settings name.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::memory::meminfo::metric_suffix;
use crate::sources::host::read::{KernelFile, decimal, words};
use crate::sources::host::{Error, HostOptions};

pub struct Sysctl {
    values: Vec<Value>,
    series: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
}

/// One file and how it is shown.
struct Value {
    file: KernelFile,
    /// `fs.file-nr`
    name: String,
    shown: Shown,
}

enum Shown {
    Numbers,
    /// Numbers with a name each.
    Named(Vec<String>),
    Texts,
}

impl Sysctl {
    pub fn new(options: &HostOptions) -> Self {
        let value = |setting: &String, is_text: bool| {
            let (name, names) = setting.split_once(':').unwrap_or((setting, ""));
            let shown = match (is_text, names) {
                (true, _) => Shown::Texts,
                (false, "") => Shown::Numbers,
                (false, names) => Shown::Named(names.split(',').map(str::to_owned).collect()),
            };
            let file = KernelFile::new(&options.procfs, &format!("sys/{}", name.replace('.', "/")));
            Value { file, name: name.to_owned(), shown }
        };
        let numbers = options.sysctl.iter().map(|setting| value(setting, false));
        let texts = options.sysctl_info.iter().map(|setting| value(setting, true));
        Sysctl { values: numbers.chain(texts).collect(), series: SeriesCache::default(), key: Vec::new() }
    }
}

impl Collect for Sysctl {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (value_index, value) in self.values.iter().enumerate() {
            value.file.read(buffer)?;
            let count = words(buffer.trim_ascii()).count();
            if let Shown::Named(names) = &value.shown
                && names.len() != count
            {
                return Err(value.file.wrong(1, "has another number of values than names in the settings"));
            }
            for (at, word) in words(buffer.trim_ascii()).enumerate() {
                let number = match value.shown {
                    Shown::Texts => 1.0,
                    Shown::Numbers | Shown::Named(_) => {
                        decimal(word).ok_or_else(|| value.file.wrong(1, "is not numbers"))?
                    }
                };
                self.key.clear();
                self.key.extend_from_slice(&value_index.to_ne_bytes());
                self.key.extend_from_slice(&at.to_ne_bytes());
                if matches!(value.shown, Shown::Texts) {
                    // A number changes and its series stays; a text is the series.
                    self.key.extend_from_slice(word);
                }
                let series = self.series.get_or_make(&self.key, |_| {
                    let index = if count > 1 { at.to_string() } else { String::new() };
                    let name = format!("node_sysctl_{}", metric_suffix(&value.name));
                    match &value.shown {
                        Shown::Numbers => cycle.series(&name, &[("index", &index)]),
                        Shown::Named(names) => cycle.series(&format!("{name}_{}", names[at]), &[]),
                        Shown::Texts => {
                            let text = String::from_utf8_lossy(word);
                            let labels = [("name", &*value.name), ("index", &*index), ("value", &*text)];
                            cycle.series("node_sysctl_info", &labels)
                        }
                    }
                })?;
                cycle.push(series, number);
            }
        }
        Ok(())
    }
}
