//! Which arguments functions take.

use super::ParseError;
use crate::ast::{Expr, Function, ValueType};

/// Types of the arguments; those from `required` on may be left out.
struct Signature {
    types: &'static [ValueType],
    required: usize,
    /// The last type may come again and again.
    is_open: bool,
}

const EXPERIMENTAL: [&str; 17] = [
    "double_exponential_smoothing",
    "end",
    "histogram_quantiles",
    "info",
    "mad_over_time",
    "max_of",
    "min_of",
    "range",
    "sort_by_label",
    "sort_by_label_desc",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// The function of this name.
///
/// # Errors
///
/// A message.
pub(super) fn function(name: &str) -> Result<Function, String> {
    Function::from_name(name).ok_or_else(|| {
        if EXPERIMENTAL.contains(&name) {
            format!("function {name:?} is experimental and not enabled")
        } else {
            format!("unknown function with name {name:?}")
        }
    })
}

fn signature(function: Function) -> Signature {
    use Function::*;
    use ValueType::{Matrix as M, Scalar as S, String as T, Vector as V};
    let exact = |types: &'static [ValueType]| Signature { types, required: types.len(), is_open: false };
    match function {
        Time | Pi => exact(&[]),
        Vector => exact(&[S]),
        AbsentOverTime | AvgOverTime | Changes | CountOverTime | Delta | Deriv | FirstOverTime | Idelta
        | Increase | Irate | LastOverTime | MaxOverTime | MinOverTime | PresentOverTime | Rate | Resets
        | StddevOverTime | StdvarOverTime | SumOverTime => exact(&[M]),
        PredictLinear => exact(&[M, S]),
        QuantileOverTime => exact(&[S, M]),
        Clamp => exact(&[V, S, S]),
        ClampMax | ClampMin => exact(&[V, S]),
        HistogramFraction => exact(&[S, S, V]),
        HistogramQuantile => exact(&[S, V]),
        LabelReplace => exact(&[V, T, T, T, T]),
        LabelJoin => Signature { types: &[V, T, T, T], required: 3, is_open: true },
        Round => Signature { types: &[V, S], required: 1, is_open: false },
        DayOfMonth | DayOfWeek | DayOfYear | DaysInMonth | Hour | Minute | Month | Year => {
            Signature { types: &[V], required: 0, is_open: false }
        }
        _ => exact(&[V]),
    }
}

/// Checks a call's arguments, each with its place.
pub(super) fn check(
    query: &str,
    at: usize,
    function: Function,
    args: &[(Expr, usize)],
) -> Result<(), ParseError> {
    let Signature { types, required, is_open } = signature(function);
    let (name, found) = (function.name(), args.len());
    let complain = |how: &str, wanted: usize| {
        let message = format!("expected {how}{wanted} argument(s) in call to {name:?}, got {found}");
        Err(ParseError::at(query, at, message))
    };
    if required == types.len() && found != required {
        return complain("", required);
    }
    if found < required {
        return complain("at least ", required);
    }
    if found > types.len() && !is_open {
        return complain("at most ", types.len());
    }
    for (index, (arg, at)) in args.iter().enumerate() {
        let wanted = types.get(index).or(types.last());
        if let Some(wanted) = wanted.filter(|wanted| **wanted != arg.value_type()) {
            expect(query, *at, arg, *wanted, &format!("call to function {name:?}"))?;
        }
    }
    Ok(())
}

/// Demands a type of an expression.
pub(super) fn expect(
    query: &str,
    at: usize,
    found: &Expr,
    wanted: ValueType,
    within: &str,
) -> Result<(), ParseError> {
    if found.value_type() == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {within}, got {}", wanted.name(), found.value_type().name());
    Err(ParseError::at(query, at, message))
}
