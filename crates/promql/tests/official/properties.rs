//! What must hold of every instant query: it answers the same at another time
//! when all its selectors are pinned to its own, and at its own time within a
//! range query.

use lm_model::Timestamp;
use lm_promql::{At, Call, Duration, Expr, Function, RangeSelector};

/// The query with `@ time` on every selector that has none. `None` where its
/// value depends on the time by something else.
pub fn pinned(expr: &Expr, time: Timestamp) -> Option<Expr> {
    use Function::*;
    let is_unsafe = |call: &Call| {
        matches!(
            call.function,
            DayOfMonth
                | DayOfWeek
                | DayOfYear
                | DaysInMonth
                | Hour
                | Minute
                | Month
                | Year
                | Time
                | Timestamp
                | PredictLinear
                | Start
                | End
                | Step
                | Range
        )
    };
    (!any_call(expr, &is_unsafe) && !depends_on_query(expr)).then(|| {
        let mut pinned = expr.clone();
        pin(&mut pinned, time);
        pinned
    })
}

/// Whether the query is the same within any range query.
pub fn is_free_of_range(expr: &Expr) -> bool {
    use Function::{End, Range, Sort, SortByLabel, SortByLabelDesc, SortDesc, Start, Step};
    let differs = |call: &Call| {
        matches!(call.function, Start | End | Step | Range | Sort | SortDesc | SortByLabel | SortByLabelDesc)
    };
    !any_call(expr, &differs) && !depends_on_query(expr)
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Selector(_) | Expr::Range(_) => Vec::new(),
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Negate(inner) => vec![inner],
        Expr::Binary(binary) => vec![&binary.left, &binary.right],
        Expr::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.expr]).collect(),
        Expr::Call(call) => call.args.iter().collect(),
    }
}

fn any_call(expr: &Expr, test: &impl Fn(&Call) -> bool) -> bool {
    matches!(expr, Expr::Call(call) if test(call))
        || children(expr).into_iter().any(|child| any_call(child, test))
}

/// `@ start()` and durations of the query's times.
fn depends_on_query(expr: &Expr) -> bool {
    let is_of_query = |at: Option<At>, durations: &[&Option<Box<Duration>>]| {
        matches!(at, Some(At::Start | At::End)) || durations.iter().any(|duration| duration.is_some())
    };
    let depends = match expr {
        Expr::Selector(selector) => is_of_query(selector.at, &[&selector.offset]),
        Expr::Range(RangeSelector { selector, range, .. }) => {
            is_of_query(selector.at, &[&selector.offset, range])
        }
        Expr::Subquery(of) => is_of_query(of.at, &[&of.offset, &of.range, &of.step]),
        _ => false,
    };
    depends || children(expr).into_iter().any(depends_on_query)
}

fn pin(expr: &mut Expr, time: Timestamp) {
    let set = |at: &mut Option<At>| *at = at.or(Some(At::Time(time)));
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Selector(selector) | Expr::Range(RangeSelector { selector, .. }) => set(&mut selector.at),
        // What is inside is evaluated at the subquery's own times.
        Expr::Subquery(subquery) => set(&mut subquery.at),
        Expr::Negate(inner) => pin(inner, time),
        Expr::Binary(binary) => {
            pin(&mut binary.left, time);
            pin(&mut binary.right, time);
        }
        Expr::Aggregate(aggregate) => {
            pin(&mut aggregate.expr, time);
            aggregate.param.iter_mut().for_each(|param| pin(param, time));
        }
        // The labels of info() are no selector.
        Expr::Call(call) if call.function == Function::Info => pin(&mut call.args[0], time),
        Expr::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, time)),
    }
}
