//! A bounded HTTP accept loop.
