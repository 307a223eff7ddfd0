//! The real `lmctl` against a collector of the tests' own.

mod commands;
mod support;
mod terminal;
