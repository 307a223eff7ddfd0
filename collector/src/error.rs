//! Why the collector cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::AccessError;
use crate::spool::SpoolError;
use crate::state::StateError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use {}: {error}", path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("cannot start thread {name}: {error}")]
    Thread { name: &'static str, error: io::Error },
    #[error("cannot listen on {addr} (TCP): {error}")]
    Listen { addr: SocketAddr, error: io::Error },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Tls(#[from] lm_mesh::TlsError),
    #[error(transparent)]
    Mesh(#[from] lm_mesh::ServerError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("metrics: {0}")]
    Metrics(#[from] lm_tsdb::db::DbError),
    #[error(transparent)]
    State(#[from] StateError),
}
