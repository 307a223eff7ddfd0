//! One event, taken out of `tracing`.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Longest text of one field; more is cut off.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub level: Level,
    pub target: String,
    pub message: String,
    pub fields: Vec<(&'static str, FieldValue)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    /// A text as such.
    Text(String),
    /// What a value says of itself.
    Shown(String),
    /// As JSON writes it.
    Number(String),
    Bool(bool),
}

impl Record {
    pub fn of(event: &Event<'_>) -> Record {
        let metadata = event.metadata();
        let mut record = Record {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    fn add(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", FieldValue::Text(text) | FieldValue::Shown(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, FieldValue::Text(cut(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // It ends early at the bound.
        let _ = write!(text, "{value:?}");
        self.add(field, FieldValue::Shown(text.0));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, FieldValue::Number(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, FieldValue::Number(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let value = match value.is_finite() {
            true => FieldValue::Number(value.to_string()),
            // JSON has no such numbers.
            false => FieldValue::Shown(value.to_string()),
        };
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, FieldValue::Bool(value));
    }
}

/// Two records are the same when they say the same, whenever it was.
impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.message.hash(state);
        for (name, value) in &self.fields {
            name.hash(state);
            match value {
                FieldValue::Text(text) | FieldValue::Shown(text) | FieldValue::Number(text) => {
                    text.hash(state)
                }
                FieldValue::Bool(value) => value.hash(state),
            }
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// A text that takes no more than its bound.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}
