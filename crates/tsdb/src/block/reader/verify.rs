//! Reading everything once, to know what is damaged.

use lm_fs::Fs;
use lm_model::{Samples, TimeRange};

use super::Block;
use crate::block::error::Error;

impl<F: Fs> Block<F> {
    /// Reads and verifies everything; calls `damaged` for each part that is not what was written.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn verify(&self, mut damaged: impl FnMut(&Error)) -> Result<(), Error> {
        let mut see = |outcome: Result<(), Error>| match outcome {
            Err(error @ Error::Damaged { .. }) => {
                damaged(&error);
                Ok(false)
            }
            other => other.map(|()| true),
        };
        let mut is_sound = true;
        for entry in &self.directory.pages {
            is_sound &= see(self.load(entry).map(drop))?;
        }
        if !is_sound {
            return Ok(());
        }
        // The checksums are right: what follows finds mistakes of a writer.
        let mut samples = Samples::default();
        for at in 0..self.directory.values_pages.len() {
            see(self.values_page(at).map(drop))?;
        }
        for series in 0..self.series_count() {
            samples.clear();
            see(self.read(series, TimeRange::ALL, &mut samples))?;
        }
        Ok(())
    }
}
