//! The process next to the workload: read, batch, queue, send.
