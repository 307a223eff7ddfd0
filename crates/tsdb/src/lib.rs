//! Metrics store: the head, and later blocks.
