//! PromQL: language, plan, evaluation.
//!
//! Responsible for turning query text into our own tree ([`parse`]) and the
//! tree into an answer ([`Engine`]), with the semantics of Prometheus 3: left-open
//! windows, staleness, extrapolated rates, names dropped at the end. It knows no
//! store (see [`Storage`]), no clock and no thread; whoever calls it decides when
//! an evaluation has lasted long enough. Native histograms are rare and
//! take paths of their own (`mixed.rs`, `mixed_aggregate.rs`, on the mathematics
//! of `native`); experimental parts of the language are off until [`Features`]
//! names them.

mod aggregate;
mod annotations;
mod answer;
mod ast;
mod binary;
mod budget;
mod call;
mod dates;
mod durations;
mod engine;
mod eval;
mod extended;
mod fold;
mod format;
mod grouping;
mod histogram;
mod info;
mod label_functions;
mod layout;
mod limit;
mod maker;
mod mixed;
mod mixed_aggregate;
mod native;
mod parse;
mod partial;
mod range_functions;
mod rolling;
mod rows;
mod series;
mod storage;
mod sums;
mod text;
mod tree_json;
mod windows;
mod workers;

pub use answer::{Answer, Element, Point, SeriesData, Stats, Value};
pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Duration, Expr, Extension, Function,
    Grouping, Matching, RangeSelector, Selector, Span, Subquery, ValueType,
};
pub use engine::{Engine, Error, ErrorKind, Interrupt, Limits};
pub use format::format;
pub use parse::{Features, ParseError, Place, QUERY_BYTES_MAX, parse, parse_with};
pub use storage::{Hints, SelectRequest, Selected, Storage, StorageError};
pub use tree_json::tree_json;
pub use workers::{Alone, Workers};
