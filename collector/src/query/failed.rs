//! Why a question has no answer, as its caller is told.

use lm_promql::ErrorKind;
use lm_schema::query_capnp::failure;

use super::pool::PoolError;

/// A failure that the caller shows its user.
#[derive(Debug)]
pub(super) struct Failed {
    pub kind: failure::Kind,
    pub message: String,
}

pub(super) fn bad_data(message: impl Into<String>) -> Failed {
    Failed { kind: failure::Kind::BadData, message: message.into() }
}

impl From<lm_promql::Error> for Failed {
    fn from(error: lm_promql::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::BadData => failure::Kind::BadData,
            ErrorKind::Execution => failure::Kind::Execution,
            ErrorKind::Canceled => failure::Kind::Canceled,
            ErrorKind::Timeout => failure::Kind::Timeout,
            ErrorKind::Limit => failure::Kind::Limit,
        };
        Failed { kind, message: error.to_string() }
    }
}

impl From<lm_promql::ParseError> for Failed {
    fn from(error: lm_promql::ParseError) -> Self {
        lm_promql::Error::from(error).into()
    }
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Overloaded => Failed {
                kind: failure::Kind::Overloaded,
                message: "too many queries are waiting; try again in a moment".to_owned(),
            },
            PoolError::Panicked => Failed {
                kind: failure::Kind::Internal,
                message: "the query failed inside the collector; its log says why".to_owned(),
            },
        }
    }
}

/// Of a method whose answer has no place for a failure.
pub(super) fn exception(failed: Failed) -> capnp::Error {
    match failed.kind {
        failure::Kind::Overloaded => capnp::Error::overloaded(format!("overloaded: {}", failed.message)),
        _ => capnp::Error::failed(format!("internal: {}", failed.message)),
    }
}
