//! Bounds that a collector puts on what a batch may hold.

/// Checked while a batch is decoded, before anything of it is stored.
///
/// The defaults are the sample values of the collector's configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Body after decompression, in bytes.
    pub raw_bytes_max: u32,
    /// New dictionary entries plus references in one batch.
    pub series_per_batch_max: u32,
    pub samples_per_batch_max: u32,
    pub labels_per_series_max: u32,
    pub label_name_bytes_max: u32,
    pub label_value_bytes_max: u32,
    pub logs_per_batch_max: u32,
    pub log_line_bytes_max: u32,
    pub events_per_batch_max: u32,
    /// Entries of one dictionary epoch.
    pub dictionary_entries_max: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits {
            raw_bytes_max: 4 << 20,
            series_per_batch_max: 2048,
            samples_per_batch_max: 65_536,
            labels_per_series_max: 32,
            label_name_bytes_max: 128,
            label_value_bytes_max: 512,
            logs_per_batch_max: 4096,
            log_line_bytes_max: 65_536,
            events_per_batch_max: 256,
            dictionary_entries_max: 65_536,
        }
    }
}

impl DecodeLimits {
    /// For what applications write. A gateway refuses series beyond these one
    /// by one; a batch that goes beyond them is refused whole.
    pub const WRITER: DecodeLimits = DecodeLimits {
        raw_bytes_max: 8 << 20,
        series_per_batch_max: 32_768,
        samples_per_batch_max: 32_768,
        labels_per_series_max: 64,
        label_name_bytes_max: 512,
        label_value_bytes_max: 4096,
        logs_per_batch_max: 0,
        log_line_bytes_max: 0,
        events_per_batch_max: 0,
        dictionary_entries_max: 65_536,
    };

    /// For bytes that were checked when they were accepted: limits may have
    /// shrunk since, and what was acknowledged stays readable.
    pub const STORED: DecodeLimits = DecodeLimits {
        raw_bytes_max: 64 << 20,
        series_per_batch_max: u32::MAX,
        samples_per_batch_max: u32::MAX,
        labels_per_series_max: u32::MAX,
        label_name_bytes_max: u32::MAX,
        label_value_bytes_max: u32::MAX,
        logs_per_batch_max: u32::MAX,
        log_line_bytes_max: u32::MAX,
        events_per_batch_max: u32::MAX,
        dictionary_entries_max: u32::MAX,
    };
}
