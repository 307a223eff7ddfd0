//! `/proc/cpuinfo`: what each CPU is, and what it can do.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, decimal, words};
use crate::sources::host::{Error, HostOptions};

/// Labels and the fields that they come from.
const LABELS: [(&str, &[u8]); 10] = [
    ("package", b"physical id"),
    ("core", b"core id"),
    ("cpu", b"processor"),
    ("vendor", b"vendor_id"),
    ("family", b"cpu family"),
    ("model", b"model"),
    ("model_name", b"model name"),
    ("microcode", b"microcode"),
    ("stepping", b"stepping"),
    ("cachesize", b"cache size"),
];
/// Of those, the ones that say which CPU it is.
const PLACE: usize = 3;

pub struct CpuInfo {
    file: KernelFile,
    flags: Filter,
    bugs: Filter,
    /// Facts and frequency of a CPU, by the values of its labels.
    cpus: SeriesCache<[SeriesIndex; 2]>,
    /// Flags and bugs; `None` when they are not shown.
    features: SeriesCache<Option<SeriesIndex>>,
    key: Vec<u8>,
}

impl CpuInfo {
    pub fn new(options: &HostOptions) -> Self {
        CpuInfo {
            file: KernelFile::new(&options.procfs, "cpuinfo"),
            flags: options.filters.filter("cpu_flags"),
            bugs: options.filters.filter("cpu_bugs"),
            cpus: SeriesCache::default(),
            features: SeriesCache::default(),
            key: Vec::new(),
        }
    }

    pub fn push_all(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        // A CPU is a paragraph. Some machines describe themselves in one more.
        let mut is_first = true;
        let mut values = [&b""[..]; LABELS.len()];
        let mut hertz = None;
        for text in buffer.split(|byte| *byte == b'\n').chain([&b""[..]]) {
            let Some((field, value)) = parse_field(text) else {
                if !values[PLACE - 1].is_empty() {
                    self.push_cpu(cycle, &values, hertz)?;
                    is_first = false;
                }
                (values, hertz) = ([&b""[..]; LABELS.len()], None);
                continue;
            };
            if let Some(at) = LABELS.iter().position(|(_, name)| *name == field) {
                values[at] = value;
            }
            match field {
                b"cpu MHz" => hertz = decimal(value).map(|megahertz| megahertz * 1e6),
                b"flags" if is_first => self.push_features(cycle, b"flag", value)?,
                b"bugs" if is_first => self.push_features(cycle, b"bug", value)?,
                _ => {}
            }
        }
        match is_first {
            true => Err(self.file.wrong(0, "names no CPU")),
            false => Ok(()),
        }
    }

    fn push_cpu(
        &mut self,
        cycle: &mut Cycle<'_>,
        values: &[&[u8]; LABELS.len()],
        hertz: Option<f64>,
    ) -> Result<(), Error> {
        self.key.clear();
        for value in values {
            self.key.extend_from_slice(value);
            self.key.push(b'\n');
        }
        let series = self.cpus.get_or_make(&self.key, |_| {
            let texts = values.map(String::from_utf8_lossy);
            let labels: [_; LABELS.len()] = std::array::from_fn(|at| (LABELS[at].0, &*texts[at]));
            let info = cycle.series("node_cpu_info", &labels)?;
            Ok([info, cycle.series("node_cpu_frequency_hertz", &labels[..PLACE])?])
        })?;
        cycle.push(series[0], 1.0);
        if let Some(hertz) = hertz {
            cycle.push(series[1], hertz);
        }
        Ok(())
    }

    /// Words that name what a CPU can do, or what is wrong with it.
    fn push_features(&mut self, cycle: &mut Cycle<'_>, kind: &[u8], value: &[u8]) -> Result<(), Error> {
        let filter = if kind == b"flag" { &self.flags } else { &self.bugs };
        for feature in words(value) {
            self.key.clear();
            for part in [kind, b" ", feature] {
                self.key.extend_from_slice(part);
            }
            let series = self.features.get_or_make(&self.key, |key| {
                let (kind, name) = key.split_once(' ').unwrap_or_default();
                match filter.shows(feature) {
                    true => cycle.series(&format!("node_cpu_{kind}_info"), &[(kind, name)]).map(Some),
                    false => Ok(None),
                }
            })?;
            if let Some(series) = series {
                cycle.push(series, 1.0);
            }
        }
        Ok(())
    }
}

/// `model name\t: Intel`
fn parse_field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((text[..colon].trim_ascii(), text[colon + 1..].trim_ascii()))
}
