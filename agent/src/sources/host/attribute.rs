//! Files of a device as series.

use super::directory::Directory;
use crate::sources::host::Error;
use crate::sources::host::collector::Cycle;

/// A file with one number, and the metric it becomes.
pub struct Attribute {
    pub file: &'static str,
    pub name: &'static str,
    pub unit: Unit,
}

/// What turns the kernel's unit into the metric's.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Same,
    Times(f64),
    Over(f64),
}

impl Unit {
    pub fn convert(self, value: f64) -> f64 {
        match self {
            Unit::Same => value,
            Unit::Times(factor) => value * factor,
            Unit::Over(divisor) => value / divisor,
        }
    }
}

pub const fn attribute(file: &'static str, name: &'static str) -> Attribute {
    Attribute { file, name, unit: Unit::Same }
}

pub const fn attribute_in(file: &'static str, name: &'static str, unit: Unit) -> Attribute {
    Attribute { file, name, unit }
}

/// Those of `attributes` that the device has, all with the same labels.
pub fn push_attributes(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    directory: &Directory,
    attributes: &[Attribute],
    labels: &[(&str, &str)],
) -> Result<(), Error> {
    for Attribute { file, name, unit } in attributes {
        if let Some(value) = directory.number(file, buffer) {
            push(cycle, name, labels, unit.convert(value))?;
        }
    }
    Ok(())
}

/// One value of a series that is looked up by its labels. Looking up a known
/// series allocates nothing and costs a fraction of the system calls that
/// brought the value, so device collectors remember no numbers.
///
/// A value that is no number (a file lied, and its unit made it infinite) is
/// left out.
pub fn push(cycle: &mut Cycle<'_>, name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), Error> {
    if value.is_finite() {
        let series = cycle.series(name, labels)?;
        cycle.push(series, value);
    }
    Ok(())
}

/// A file with text, and the label it becomes.
pub struct Text {
    pub file: &'static str,
    pub label: &'static str,
}

/// A label from the file of its name.
pub const fn text(name: &'static str) -> Text {
    Text { file: name, label: name }
}

pub const fn text_as(file: &'static str, label: &'static str) -> Text {
    Text { file, label }
}

/// The texts of a device; empty where there is no such file, which as the
/// value of a label means that the label is absent.
pub fn read_texts(
    buffer: &mut Vec<u8>,
    directory: &Directory,
    texts: &[Text],
) -> Vec<(&'static str, String)> {
    let read = |text: &Text| {
        let value = directory.text(text.file, buffer).unwrap_or_default().into_owned();
        (text.label, value)
    };
    texts.iter().map(read).collect()
}

/// A series that is always 1 and says something in its labels.
pub fn push_info(
    cycle: &mut Cycle<'_>,
    name: &str,
    own: &[(&str, &str)],
    texts: &[(&'static str, String)],
) -> Result<(), Error> {
    let texts = texts.iter().map(|(label, value)| (*label, &value[..]));
    let labels: Vec<(&str, &str)> = own.iter().copied().chain(texts).collect();
    push(cycle, name, &labels, 1.0)
}
