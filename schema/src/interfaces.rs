//! What the schema says of its interfaces: names, signatures and comments,
//! for people who look at a running mesh.

pub use crate::generated::interfaces::INTERFACES;

/// One interface of the schema.
#[derive(Debug)]
pub struct Interface {
    pub name: &'static str,
    pub id: u64,
    /// The comment below its first line.
    pub doc: &'static str,
    /// By ordinal, without holes.
    pub methods: &'static [Method],
}

/// One method of an interface.
#[derive(Debug)]
pub struct Method {
    pub name: &'static str,
    /// As in the schema: `(ticket :Data) -> (attached :Attached)`.
    pub signature: &'static str,
    pub doc: &'static str,
}

/// The interface with this number, as it stands in calls.
pub fn by_id(id: u64) -> Option<&'static Interface> {
    INTERFACES.iter().find(|interface| interface.id == id)
}

/// The interface with this name, whatever its case.
pub fn by_name(name: &str) -> Option<&'static Interface> {
    INTERFACES.iter().find(|interface| interface.name.eq_ignore_ascii_case(name))
}
