//! The process clients talk to: HTTP in, RPC out.
