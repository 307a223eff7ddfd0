//! The seam between what is durable and the disk: a dozen operations that
//! journals and blocks need, with the real disk ([`RealFs`]) and one that loses,
//! tears and refuses on request ([`fault::FaultFs`]). Start with [`Fs`].

pub mod fault;
mod real;
mod seam;

pub use real::{RealFile, RealFs, RealLock};
pub use seam::{File, Fs, read_full, write_all};
