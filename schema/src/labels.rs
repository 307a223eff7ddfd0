//! Labels on the wire.

use lm_model::{Labels, LabelsBuilder};

use crate::batch_capnp::{label, labels};
use crate::error::ensure;
use crate::{DecodeLimits, Error};

/// Writes label pairs into a list of the same length.
pub fn write_pairs(from: &Labels, mut to: capnp::struct_list::Builder<'_, label::Owned>) {
    for (index, (name, value)) in from.iter().enumerate() {
        let mut pair = to.reborrow().get(index as u32);
        pair.set_name(name);
        pair.set_value(value);
    }
}

/// Reads pairs that our own collector wrote: shape is checked, sizes are not.
pub fn read_pairs(from: capnp::struct_list::Reader<'_, label::Owned>) -> Result<Labels, Error> {
    let mut builder = LabelsBuilder::default();
    for pair in from {
        builder.set(pair.get_name()?.to_str()?, pair.get_value()?.to_str()?);
    }
    Ok(builder.build())
}

/// Writes a list of label sets.
pub fn write_list(from: &[Labels], mut to: capnp::struct_list::Builder<'_, labels::Owned>) {
    for (index, entry) in from.iter().enumerate() {
        write_pairs(entry, to.reborrow().get(index as u32).init_pairs(entry.len() as u32));
    }
}

/// Reads label sets that a peer sent.
///
/// # Errors
///
/// As [`read_sent`].
pub fn read_list(
    from: capnp::struct_list::Reader<'_, labels::Owned>,
    limits: &DecodeLimits,
) -> Result<Vec<Labels>, Error> {
    from.iter().map(|entry| read_sent(entry.get_pairs()?, limits)).collect()
}

/// Reads pairs that a peer sent.
///
/// # Errors
///
/// [`Error::Invalid`] when names are not sorted and unique, when a name or
/// value is empty or too long, or when there are too many.
pub fn read_sent(
    pairs: capnp::struct_list::Reader<'_, label::Owned>,
    limits: &DecodeLimits,
) -> Result<Labels, Error> {
    ensure!(
        pairs.len() <= limits.labels_per_series_max,
        "{} labels in a series (at most {})",
        pairs.len(),
        limits.labels_per_series_max
    );
    let mut read = Vec::with_capacity(pairs.len() as usize);
    let mut previous = "";
    for pair in pairs {
        let (name, value) = (pair.get_name()?.to_str()?, pair.get_value()?.to_str()?);
        ensure!(
            !name.is_empty() && name.len() <= limits.label_name_bytes_max as usize,
            "label name of {} bytes (1 to {})",
            name.len(),
            limits.label_name_bytes_max
        );
        ensure!(
            !value.is_empty() && value.len() <= limits.label_value_bytes_max as usize,
            "value of label {name} has {} bytes (1 to {})",
            value.len(),
            limits.label_value_bytes_max
        );
        ensure!(previous < name, "label {name} is repeated or out of order");
        previous = name;
        read.push((name, value));
    }
    Ok(Labels::from_sorted(read.into_iter()))
}
