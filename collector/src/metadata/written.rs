//! What applications say of the metrics that they write.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Description, MetricType};

/// Metrics that are remembered; what else is described is not.
const METRICS_MAX: usize = 20_000;
/// A name, help or unit is cut off here.
const NAME_BYTES_MAX: usize = 512;
const TEXT_BYTES_MAX: usize = 1024;

/// Descriptions by name; the last one counts. Clones share it.
#[derive(Clone, Default)]
pub(super) struct WrittenMetadata(Arc<Mutex<HashMap<Box<str>, Description>>>);

impl WrittenMetadata {
    pub fn set(&self, name: &str, description: Description) {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(name) == Some(&description) {
            return;
        }
        if known.len() < METRICS_MAX || known.contains_key(name) {
            known.insert(name.into(), description);
        }
    }

    pub fn get(&self, name: &str) -> Option<Description> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Description {
    /// As a sender describes a metric, with the type's name as Prometheus has it.
    pub fn written(kind: &str, help: &str, unit: &str) -> Description {
        let owned = |text: &str| Cow::Owned(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned());
        Description { kind: MetricType::of_name(kind), help: owned(help), unit: owned(unit) }
    }
}
