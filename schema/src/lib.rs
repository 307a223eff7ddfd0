//! What the processes say to each other: Cap'n Proto files, generated Rust, conversions.
