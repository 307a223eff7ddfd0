//! Durations that depend on the query's step and range.

use crate::ast::{BinaryOp, Duration, Expr, RangeSelector, Selector, Subquery};
use crate::engine::Error;

/// What `step()` and `range()` are, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueryTimes {
    pub step: i64,
    pub range: i64,
}

/// Largest duration in milliseconds, as the parser has it.
const MILLIS_MAX: f64 = (i64::MAX / 1_000_000) as f64;

pub(crate) fn is_constant(duration: &Duration) -> bool {
    match duration {
        Duration::Seconds(_) => true,
        Duration::Step | Duration::Range => false,
        Duration::Negate(inner) => is_constant(inner),
        Duration::Binary(_, left, right) | Duration::Min(left, right) | Duration::Max(left, right) => {
            is_constant(left) && is_constant(right)
        }
    }
}

pub(crate) fn seconds(duration: &Duration, times: QueryTimes) -> f64 {
    let of = |duration: &Duration| seconds(duration, times);
    match duration {
        Duration::Seconds(seconds) => *seconds,
        Duration::Step => times.step as f64 / 1000.0,
        Duration::Range => times.range as f64 / 1000.0,
        Duration::Negate(inner) => -of(inner),
        Duration::Min(left, right) => of(left).min(of(right)),
        Duration::Max(left, right) => of(left).max(of(right)),
        Duration::Binary(op, left, right) => {
            let (left, right) = (of(left), of(right));
            match op {
                BinaryOp::Add => left + right,
                BinaryOp::Sub => left - right,
                BinaryOp::Mul => left * right,
                BinaryOp::Div => left / right,
                BinaryOp::Mod => left % right,
                BinaryOp::Pow => left.powf(right),
                _ => f64::NAN,
            }
        }
    }
}

/// Whether some duration of a query has to be resolved first.
pub(crate) fn depends_on_times(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Selector(selector) => selector.offset.is_some(),
        Expr::Range(range) => range.range.is_some() || range.selector.offset.is_some(),
        Expr::Subquery(subquery) => {
            let Subquery { expr, range, step, offset, .. } = &**subquery;
            range.is_some() || step.is_some() || offset.is_some() || depends_on_times(expr)
        }
        Expr::Negate(inner) => depends_on_times(inner),
        Expr::Binary(binary) => depends_on_times(&binary.left) || depends_on_times(&binary.right),
        Expr::Aggregate(aggregate) => {
            depends_on_times(&aggregate.expr) || aggregate.param.as_ref().is_some_and(depends_on_times)
        }
        Expr::Call(call) => call.args.iter().any(depends_on_times),
    }
}

/// Replaces durations by what they are in a query with these times.
pub(crate) fn resolve(expr: &mut Expr, times: QueryTimes) -> Result<(), Error> {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Selector(selector) => resolve_selector(selector, times)?,
        Expr::Range(RangeSelector { selector, range_millis, range }) => {
            resolve_selector(selector, times)?;
            if let Some(range) = range.take() {
                *range_millis = positive(&range, times)?;
            }
        }
        Expr::Subquery(subquery) => {
            let Subquery { expr, range_millis, step_millis, offset_millis, range, step, offset, .. } =
                &mut **subquery;
            resolve(expr, times)?;
            if let Some(range) = range.take() {
                *range_millis = positive(&range, times)?;
            }
            if let Some(step) = step.take() {
                *step_millis = Some(positive(&step, times)?);
            }
            if let Some(offset) = offset.take() {
                *offset_millis = millis(&offset, times)?;
            }
        }
        Expr::Negate(inner) => resolve(inner, times)?,
        Expr::Binary(binary) => {
            resolve(&mut binary.left, times)?;
            resolve(&mut binary.right, times)?;
        }
        Expr::Aggregate(aggregate) => {
            resolve(&mut aggregate.expr, times)?;
            if let Some(param) = &mut aggregate.param {
                resolve(param, times)?;
            }
        }
        Expr::Call(call) => call.args.iter_mut().try_for_each(|arg| resolve(arg, times))?,
    }
    Ok(())
}

fn resolve_selector(selector: &mut Selector, times: QueryTimes) -> Result<(), Error> {
    if let Some(offset) = selector.offset.take() {
        selector.offset_millis = millis(&offset, times)?;
    }
    Ok(())
}

fn millis(duration: &Duration, times: QueryTimes) -> Result<i64, Error> {
    let millis = (seconds(duration, times) * 1000.0).round();
    if millis.is_nan() || millis.abs() > MILLIS_MAX {
        return Err(Error::Execution("duration out of range".into()));
    }
    Ok(millis as i64)
}

fn positive(duration: &Duration, times: QueryTimes) -> Result<i64, Error> {
    match millis(duration, times)? {
        millis if millis <= 0 => Err(Error::Execution("duration must be greater than 0".into())),
        millis => Ok(millis),
    }
}
