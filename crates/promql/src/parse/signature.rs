//! Which arguments functions take.

use super::ParseError;
use super::grammar::Placed;
use crate::ast::{Expr, Extension, Function, RangeSelector, Selector, ValueType};

/// Types of the arguments; those from `required` on may be left out.
struct Signature {
    types: &'static [ValueType],
    required: usize,
    /// The last type may come again and again.
    is_open: bool,
}

/// The function of this name.
///
/// # Errors
///
/// A message.
pub(super) fn function(name: &str) -> Result<Function, String> {
    Function::from_name(name).ok_or_else(|| {
        let near = Function::ALL.iter().map(|function| function.name()).find(|known| is_near(name, known));
        let hint = near.map_or(String::new(), |known| format!(": did you mean {known:?}?"));
        format!("unknown function with name {name:?}{hint}")
    })
}

/// Whether one edit makes the one of the other.
fn is_near(typed: &str, known: &str) -> bool {
    let (typed, known) = (typed.as_bytes(), known.as_bytes());
    let same = typed.iter().zip(known).take_while(|(a, b)| a == b).count();
    let (typed, known) = (&typed[same..], &known[same..]);
    let tail = |text: &'_ [u8], from: usize| text.get(from..).unwrap_or(b"?").to_vec();
    tail(typed, 1) == tail(known, 1)
        || tail(typed, 1) == known
        || typed == tail(known, 1)
        || (typed.len() > 1
            && known.len() > 1
            && typed[..2] == [known[1], known[0]]
            && typed[2..] == known[2..])
}

fn signature(function: Function) -> Signature {
    use Function::*;
    use ValueType::{Matrix as M, Scalar as S, String as T, Vector as V};
    let exact = |types: &'static [ValueType]| Signature { types, required: types.len(), is_open: false };
    match function {
        Time | Pi | Start | End | Step | Range => exact(&[]),
        MinOf | MaxOf => exact(&[S, S]),
        Vector => exact(&[S]),
        AbsentOverTime | AvgOverTime | Changes | CountOverTime | Delta | Deriv | FirstOverTime | Idelta
        | Increase | Irate | LastOverTime | MaxOverTime | MinOverTime | PresentOverTime | Rate | Resets
        | StddevOverTime | StdvarOverTime | SumOverTime | MadOverTime | TsOfFirstOverTime
        | TsOfLastOverTime | TsOfMaxOverTime | TsOfMinOverTime => exact(&[M]),
        DoubleExponentialSmoothing => exact(&[M, S, S]),
        PredictLinear => exact(&[M, S]),
        QuantileOverTime => exact(&[S, M]),
        Clamp => exact(&[V, S, S]),
        ClampMax | ClampMin => exact(&[V, S]),
        HistogramFraction => exact(&[S, S, V]),
        HistogramQuantile => exact(&[S, V]),
        LabelReplace => exact(&[V, T, T, T, T]),
        LabelJoin => Signature { types: &[V, T, T, T], required: 3, is_open: true },
        SortByLabel | SortByLabelDesc => Signature { types: &[V, T], required: 1, is_open: true },
        HistogramQuantiles => Signature { types: &[V, T, S], required: 3, is_open: true },
        Info => Signature { types: &[V, V], required: 1, is_open: false },
        Round => Signature { types: &[V, S], required: 1, is_open: false },
        DayOfMonth | DayOfWeek | DayOfYear | DaysInMonth | Hour | Minute | Month | Year => {
            Signature { types: &[V], required: 0, is_open: false }
        }
        _ => exact(&[V]),
    }
}

/// Types of the arguments; of how many the last may be left out, or -1 for one
/// that may come again and again, as Prometheus counts.
pub(crate) fn shape(function: Function) -> (&'static [ValueType], i64) {
    let Signature { types, required, is_open } = signature(function);
    (types, if is_open { -1 } else { (types.len() - required) as i64 })
}

/// Checks a call's arguments, each with its place.
pub(super) fn check(query: &str, at: usize, function: Function, args: &[Placed]) -> Result<(), ParseError> {
    let Signature { types, required, is_open } = signature(function);
    let (name, found) = (function.name(), args.len());
    let complain = |how: &str, wanted: usize| {
        let message = format!("expected {how}{wanted} argument(s) in call to {name:?}, got {found}");
        Err(ParseError::at(query, at, message))
    };
    if required == types.len() && !is_open && found != required {
        return complain("", required);
    }
    if found < required {
        return complain("at least ", required);
    }
    if found > types.len() && !is_open {
        return complain("at most ", types.len());
    }
    for (index, Placed { expr: arg, start, .. }) in args.iter().enumerate() {
        let wanted = types.get(index).or(types.last());
        if let Some(wanted) = wanted.filter(|wanted| **wanted != arg.value_type()) {
            expect(query, *start, arg, *wanted, &format!("call to function {name:?}"))?;
        }
        check_extension(query, *start, function, arg)?;
    }
    if function == Function::Info && args.len() > 1 && !matches!(args[1].expr, Expr::Selector(_)) {
        let message =
            "expected label selectors only: write the second argument of info() as {label=\"value\"}";
        return Err(ParseError::at(query, args[1].start, message));
    }
    if function == Function::HistogramQuantiles
        && matches!(&args[1].expr, Expr::String(name) if name.is_empty())
    {
        return Err(ParseError::at(query, args[1].start, "invalid label name \"\""));
    }
    Ok(())
}

/// `anchored` and `smoothed` need functions that know them.
fn check_extension(query: &str, at: usize, function: Function, arg: &Expr) -> Result<(), ParseError> {
    let Expr::Range(RangeSelector { selector: Selector { extension: Some(extension), .. }, .. }) = arg else {
        return Ok(());
    };
    use Function::{Changes, Delta, Increase, Rate, Resets};
    let (takes, names): (&[Function], _) = match extension {
        Extension::Anchored => {
            (&[Changes, Delta, Increase, Rate, Resets], "changes, delta, increase, rate, resets")
        }
        Extension::Smoothed => (&[Delta, Increase, Rate], "delta, increase, rate"),
    };
    if takes.contains(&function) {
        return Ok(());
    }
    let (modifier, name) = (extension.name(), function.name());
    let message = format!("{modifier} modifier can only be used with: {names} - not with {name}");
    Err(ParseError::at(query, at, message))
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
