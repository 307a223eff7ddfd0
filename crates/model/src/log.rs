//! One log line and where it came from.

use crate::Labels;

/// A complete log line, as bytes: what a program wrote need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The stream it belongs to: host, file and so on.
    pub labels: Labels,
    /// Nanoseconds since the Unix epoch, when the agent read the line.
    pub time_unix_nano: i64,
    /// The line without its line feed.
    pub line: Box<[u8]>,
}
