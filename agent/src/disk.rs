//! The disk that the queue is on.
//!
//! With the feature `mutants`, for the accounting checker only, the process
//! can be told to fail on purpose:
//!
//! - `LM_CRASH_AT=n` aborts at the n-th sync of a file or directory or write
//!   to a file, before it.
//! - `LM_MUTANT=cursor_apart` stores positions of log files apart from, and
//!   before, the lines that they cover: a crash between loses lines.

#[cfg(not(feature = "mutants"))]
pub use lm_fs::RealFs as Disk;

#[cfg(feature = "mutants")]
pub use crashing::CrashFs as Disk;

/// The disk as it is.
#[cfg(not(feature = "mutants"))]
pub fn disk() -> Disk {
    lm_fs::RealFs
}

/// The disk, with the crash that the environment asks for.
#[cfg(feature = "mutants")]
pub fn disk() -> Disk {
    Disk::default()
}

/// Whether `LM_MUTANT` names `mutant`.
#[cfg(feature = "mutants")]
pub fn is_mutant(mutant: &str) -> bool {
    std::env::var("LM_MUTANT").is_ok_and(|chosen| chosen == mutant)
}

#[cfg(feature = "mutants")]
mod crashing {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use lm_fs::{File, Fs, RealFile, RealFs, RealLock};

    /// Counts down the syncs that are left.
    #[derive(Clone, Debug)]
    pub struct CrashFs {
        syncs_left: Arc<AtomicU64>,
    }

    impl Default for CrashFs {
        fn default() -> Self {
            let crash_at = std::env::var("LM_CRASH_AT").ok().and_then(|text| text.parse().ok());
            CrashFs { syncs_left: Arc::new(AtomicU64::new(crash_at.unwrap_or(u64::MAX))) }
        }
    }

    impl CrashFs {
        fn sync_point(&self) {
            if self.syncs_left.fetch_sub(1, Ordering::Relaxed) == 1 {
                std::process::abort();
            }
        }

        fn file(&self, file: RealFile) -> CrashFile {
            CrashFile { fs: self.clone(), file }
        }
    }

    #[derive(Debug)]
    pub struct CrashFile {
        fs: CrashFs,
        file: RealFile,
    }

    impl Fs for CrashFs {
        type File = CrashFile;
        type Lock = RealLock;

        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            RealFs.create_dir(dir)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            RealFs.list(dir)
        }

        fn create_new(&self, path: &Path) -> io::Result<CrashFile> {
            RealFs.create_new(path).map(|file| self.file(file))
        }

        fn open(&self, path: &Path) -> io::Result<CrashFile> {
            RealFs.open(path).map(|file| self.file(file))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealFs.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            RealFs.remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.sync_point();
            RealFs.sync_dir(dir)
        }

        fn lock(&self, path: &Path) -> io::Result<RealLock> {
            RealFs.lock(path)
        }
    }

    impl File for CrashFile {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            // Records wait in memory for their sync: what a crash before the
            // write loses, one after it does not.
            self.fs.sync_point();
            self.file.write_at(bytes, offset)
        }

        fn allocate(&self, len: u64) -> io::Result<()> {
            self.file.allocate(len)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.fs.sync_point();
            self.file.sync_data()
        }

        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
    }
}
