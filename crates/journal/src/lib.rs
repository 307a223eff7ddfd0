//! Append-only segment log: the agent's queue and the collector's spool.
