use std::fs::File;
use std::path::{Path, PathBuf};

use super::*;

/// Opens a file below procfs, without the care that real collectors take: a
/// FIFO there is a kernel file that never answers.
struct Opens(PathBuf);

impl Collect for Opens {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let name = self.0.file_name().unwrap().to_str().unwrap().to_owned();
        let before = cycle.series("before", &[("file", &name)])?;
        cycle.push(before, 1.0);
        drop(File::open(&self.0).unwrap());
        let after = cycle.series("after", &[("file", &name)])?;
        cycle.push(after, 1.0);
        Ok(())
    }
}

static OPENS: [KnownCollector; 3] = [
    KnownCollector { name: "a", is_default: true, make: |options| opens(options, "a") },
    KnownCollector { name: "b", is_default: true, make: |options| opens(options, "b") },
    KnownCollector { name: "c", is_default: true, make: |options| opens(options, "c") },
];

fn opens(options: &HostOptions, name: &str) -> Box<dyn Collect> {
    Box::new(Opens(options.procfs.join(name)))
}

/// A workshop of the three above, its table, and how often it stalled.
struct Host {
    dir: tempfile::TempDir,
    workshop: Workshop,
    table: SeriesTable,
    stalls: u64,
}

impl Host {
    /// Of `names` the files are FIFOs.
    fn with_fifos(names: &[&str]) -> Host {
        let dir = tempfile::tempdir().unwrap();
        for known in &OPENS {
            let path = dir.path().join(known.name);
            match names.contains(&known.name) {
                true => fifo(&path),
                false => drop(File::create(path).unwrap()),
            }
        }
        let options = HostOptions {
            procfs: dir.path().into(),
            collector_time_max: Duration::from_millis(300),
            ..HostOptions::default()
        };
        let workshop = Workshop::new(options, OPENS.iter());
        Host { dir, workshop, table: SeriesTable::new(100), stalls: 0 }
    }

    /// One cycle: what was measured but for durations, as text.
    fn cycle(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        let report = self.workshop.run(Timestamp::default(), &mut self.table, &mut out);
        self.stalls += report.stalls;
        for (_, error) in &report.failures {
            assert!(matches!(error, Error::Stalled), "{error}");
        }
        let text = |m: &Measurement| {
            let labels = self.table.labels(m.series);
            let value = labels.get("file").or(labels.get("collector")).unwrap();
            format!("{} {value} {}", labels.metric_name(), m.value)
        };
        let texts = out.iter().map(text).filter(|text| !text.contains("duration"));
        texts.map(|text| text.replace("node_scrape_collector_", "")).collect()
    }

    /// Lets the read of a FIFO return.
    fn answer(&self, name: &str) {
        drop(File::options().write(true).open(self.dir.path().join(name)).unwrap());
    }
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn a_collector_that_hangs_costs_itself_alone_and_comes_back() {
    let mut host = Host::with_fifos(&["b"]);
    let without_b =
        ["before a 1", "after a 1", "success a 1", "success b 0", "before c 1", "after c 1", "success c 1"];
    assert_eq!(host.cycle(), without_b);
    assert_eq!(host.stalls, 1);
    // Its thread is lost, and no other is given to it.
    let began = Instant::now();
    assert_eq!(host.cycle(), without_b);
    assert!(began.elapsed() < Duration::from_millis(300), "it was waited for again");
    assert_eq!(host.stalls, 1);

    host.answer("b");
    std::fs::remove_file(host.dir.path().join("b")).unwrap();
    File::create(host.dir.path().join("b")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while host.cycle().len() != 9 {
        assert!(Instant::now() < deadline, "b never came back");
        std::thread::yield_now();
    }
    assert!(host.cycle().contains(&"after b 1".to_owned()));
    assert_eq!(host.stalls, 1);
}

#[test]
fn all_may_hang() {
    let mut host = Host::with_fifos(&["a", "b", "c"]);
    let began = Instant::now();
    assert_eq!(host.cycle(), ["success a 0", "success b 0", "success c 0"]);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(host.stalls, 3);
    assert_eq!(host.cycle(), ["success a 0", "success b 0", "success c 0"]);
    assert_eq!(host.stalls, 3);
    for known in &OPENS {
        host.answer(known.name);
    }
}

#[test]
fn what_a_lost_thread_finds_changes_nothing() {
    let mut host = Host::with_fifos(&["b"]);
    host.cycle();
    // The number of a series that b saw is another's now.
    host.table.clear();
    host.workshop.renew();
    let known = host.cycle();
    host.answer("b");
    std::fs::remove_file(host.dir.path().join("b")).unwrap();
    fifo(&host.dir.path().join("b"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while host.stalls == 1 {
        assert_eq!(host.cycle(), known);
        assert!(Instant::now() < deadline, "b was never tried again");
    }
    assert_eq!(host.cycle(), known);
    host.answer("b");
}
