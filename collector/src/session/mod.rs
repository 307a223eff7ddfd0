//! What each kind of peer is granted: the collector's side of the mesh.

mod agent;
mod control;
pub mod figures;
mod gateway;
mod host;
mod operator;
mod rates;
mod writer;

pub use control::Controls;
pub use host::CollectorHost;
pub use rates::Limiters;
