//! From the parser's tree to ours.

use std::time::{Duration, SystemTime};

use lm_model::{METRIC_NAME, MatchOp, Matcher, Timestamp};
use promql_parser::label;
use promql_parser::parser::{self, token};

use super::ParseError;
use super::guard::Guarded;
use crate::ast::*;
use crate::text::anchored;

/// Longest duration: what Prometheus' nanoseconds hold, about 292 years.
const DURATION_MILLIS_MAX: i64 = i64::MAX / 1_000_000;

/// Converts a tree. Arms with much on their stack are functions of their own:
/// this one recurses as deep as the tree goes.
pub(super) fn expr(parsed: parser::Expr, guarded: &Guarded) -> Result<Expr, ParseError> {
    match parsed {
        parser::Expr::NumberLiteral(number) => Ok(Expr::Number(number.val)),
        parser::Expr::StringLiteral(string) => guarded.restore(&string.val).map(Expr::String),
        parser::Expr::Paren(paren) => expr(*paren.expr, guarded),
        parser::Expr::Unary(parsed) => negate(parsed, guarded),
        parser::Expr::VectorSelector(parsed) => selector(parsed, guarded).map(Expr::Selector),
        parser::Expr::MatrixSelector(parsed) => range_selector(parsed, guarded),
        parser::Expr::Subquery(parsed) => subquery(parsed, guarded),
        parser::Expr::Binary(parsed) => binary(parsed, guarded),
        parser::Expr::Aggregate(parsed) => aggregate(parsed, guarded),
        parser::Expr::Call(parsed) => call(parsed, guarded),
        parser::Expr::Extension(_) => Err(ParseError::new("unknown expression")),
    }
}

fn negate(parsed: parser::UnaryExpr, guarded: &Guarded) -> Result<Expr, ParseError> {
    Ok(Expr::Negate(Box::new(expr(*parsed.expr, guarded)?)))
}

fn range_selector(parsed: parser::MatrixSelector, guarded: &Guarded) -> Result<Expr, ParseError> {
    let range_millis = positive_duration(parsed.range)?;
    Ok(Expr::Range(RangeSelector { selector: selector(parsed.vs, guarded)?, range_millis }))
}

fn subquery(parsed: parser::SubqueryExpr, guarded: &Guarded) -> Result<Expr, ParseError> {
    Ok(Expr::Subquery(Box::new(Subquery {
        expr: expr(*parsed.expr, guarded)?,
        range_millis: positive_duration(parsed.range)?,
        step_millis: parsed.step.map(positive_duration).transpose()?,
        offset_millis: offset(parsed.offset)?,
        at: at(parsed.at)?,
    })))
}

fn selector(parsed: parser::VectorSelector, guarded: &Guarded) -> Result<Selector, ParseError> {
    if !parsed.matchers.or_matchers.is_empty() {
        return Err(ParseError::new("unexpected <op:or> in label matching, expected \",\" or \"}\""));
    }
    let mut matchers = Vec::with_capacity(parsed.matchers.matchers.len() + 1);
    if let Some(name) = &parsed.name {
        matchers.push(Matcher::new(METRIC_NAME, MatchOp::Eq, guarded.restore(name)?));
    }
    let mut is_any_needed = parsed.name.is_some();
    for one in parsed.matchers.matchers {
        let value = guarded.restore(&one.value)?;
        let op = match one.op {
            label::MatchOp::Equal => MatchOp::Eq,
            label::MatchOp::NotEqual => MatchOp::Ne,
            label::MatchOp::Re(_) => MatchOp::Re,
            label::MatchOp::NotRe(_) => MatchOp::Nre,
        };
        let (value, matches_empty) = match op {
            MatchOp::Eq | MatchOp::Ne => {
                let is_empty = value.is_empty();
                (value, is_empty)
            }
            MatchOp::Re | MatchOp::Nre => {
                let anchored = anchored(&value).map_err(ParseError::new)?;
                (anchored.source, anchored.regex.is_match(""))
            }
        };
        let accepts_empty = matches_empty == matches!(op, MatchOp::Eq | MatchOp::Re);
        is_any_needed |= !accepts_empty;
        matchers.push(Matcher::new(guarded.restore(&one.name)?, op, value));
    }
    if !is_any_needed {
        return Err(ParseError::new("vector selector must contain at least one non-empty matcher"));
    }
    Ok(Selector { matchers, offset_millis: offset(parsed.offset)?, at: at(parsed.at)? })
}

fn duration(parsed: Duration) -> Result<i64, ParseError> {
    i64::try_from(parsed.as_millis())
        .ok()
        .filter(|millis| *millis <= DURATION_MILLIS_MAX)
        .ok_or_else(|| ParseError::new("duration out of range"))
}

fn positive_duration(parsed: Duration) -> Result<i64, ParseError> {
    match duration(parsed)? {
        0 => Err(ParseError::new("duration must be greater than 0")),
        millis => Ok(millis),
    }
}

fn offset(parsed: Option<parser::Offset>) -> Result<i64, ParseError> {
    match parsed {
        None => Ok(0),
        Some(parser::Offset::Pos(back)) => duration(back),
        Some(parser::Offset::Neg(ahead)) => Ok(-duration(ahead)?),
    }
}

fn at(parsed: Option<parser::AtModifier>) -> Result<Option<At>, ParseError> {
    let time = match parsed {
        None => return Ok(None),
        Some(parser::AtModifier::Start) => return Ok(Some(At::Start)),
        Some(parser::AtModifier::End) => return Ok(Some(At::End)),
        Some(parser::AtModifier::At(time)) => time,
    };
    let (since, sign) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (since, 1),
        Err(before) => (before.duration(), -1),
    };
    let millis = i64::try_from(since.as_millis())
        .map_err(|_| ParseError::new("timestamp out of bounds for @ modifier"))?;
    Ok(Some(At::Time(Timestamp::from_millis(sign * millis))))
}

fn labels(parsed: &label::Labels, guarded: &Guarded) -> Result<Vec<String>, ParseError> {
    let names = parsed.labels.iter().map(|name| guarded.restore_label_name(name));
    let mut labels = names.collect::<Result<Vec<_>, _>>()?;
    labels.sort();
    labels.dedup();
    Ok(labels)
}

fn binary(parsed: parser::BinaryExpr, guarded: &Guarded) -> Result<Expr, ParseError> {
    let op = binary_op(parsed.op)?;
    let modifier = parsed.modifier.unwrap_or_default();
    let returns_bool = modifier.return_bool;
    let matching = matching(modifier, guarded)?;
    let left = expr(*parsed.lhs, guarded)?;
    let right = expr(*parsed.rhs, guarded)?;
    Ok(Expr::Binary(Box::new(Binary { op, left, right, returns_bool, matching })))
}

fn binary_op(parsed: token::TokenType) -> Result<BinaryOp, ParseError> {
    Ok(match parsed.id() {
        token::T_ADD => BinaryOp::Add,
        token::T_SUB => BinaryOp::Sub,
        token::T_MUL => BinaryOp::Mul,
        token::T_DIV => BinaryOp::Div,
        token::T_MOD => BinaryOp::Mod,
        token::T_POW => BinaryOp::Pow,
        token::T_ATAN2 => BinaryOp::Atan2,
        token::T_EQLC => BinaryOp::Eq,
        token::T_NEQ => BinaryOp::Ne,
        token::T_GTR => BinaryOp::Gt,
        token::T_LSS => BinaryOp::Lt,
        token::T_GTE => BinaryOp::Ge,
        token::T_LTE => BinaryOp::Le,
        token::T_LAND => BinaryOp::And,
        token::T_LOR => BinaryOp::Or,
        token::T_LUNLESS => BinaryOp::Unless,
        _ => return Err(ParseError::new(format!("unknown operator {parsed}"))),
    })
}

fn matching(modifier: parser::BinModifier, guarded: &Guarded) -> Result<Matching, ParseError> {
    if modifier.fill_values != Default::default() {
        return Err(ParseError::new("fill modifiers are experimental and not enabled"));
    }
    let (is_on, on_labels) = match &modifier.matching {
        None => (false, Vec::new()),
        Some(parser::LabelModifier::Include(names)) => (true, labels(names, guarded)?),
        Some(parser::LabelModifier::Exclude(names)) => (false, labels(names, guarded)?),
    };
    let (cardinality, include) = match &modifier.card {
        parser::VectorMatchCardinality::ManyToOne(names) => (Cardinality::ManyToOne, labels(names, guarded)?),
        parser::VectorMatchCardinality::OneToMany(names) => (Cardinality::OneToMany, labels(names, guarded)?),
        _ => (Cardinality::OneToOne, Vec::new()),
    };
    Ok(Matching { is_on, labels: on_labels, cardinality, include })
}

fn aggregate(parsed: parser::AggregateExpr, guarded: &Guarded) -> Result<Expr, ParseError> {
    let op = match parsed.op.id() {
        token::T_SUM => AggregateOp::Sum,
        token::T_AVG => AggregateOp::Avg,
        token::T_COUNT => AggregateOp::Count,
        token::T_MIN => AggregateOp::Min,
        token::T_MAX => AggregateOp::Max,
        token::T_GROUP => AggregateOp::Group,
        token::T_STDDEV => AggregateOp::Stddev,
        token::T_STDVAR => AggregateOp::Stdvar,
        token::T_TOPK => AggregateOp::TopK,
        token::T_BOTTOMK => AggregateOp::BottomK,
        token::T_COUNT_VALUES => AggregateOp::CountValues,
        token::T_QUANTILE => AggregateOp::Quantile,
        _ => {
            return Err(ParseError::new(format!("{}() is experimental and not enabled", parsed.op)));
        }
    };
    let grouping = match &parsed.modifier {
        None => Grouping::By(Vec::new()),
        Some(parser::LabelModifier::Include(names)) => Grouping::By(labels(names, guarded)?),
        Some(parser::LabelModifier::Exclude(names)) => Grouping::Without(labels(names, guarded)?),
    };
    let param = match parsed.param.map(|param| *param) {
        None => None,
        Some(parser::Expr::StringLiteral(name)) => Some(Expr::String(guarded.restore_label_name(&name.val)?)),
        Some(param) => Some(expr(param, guarded)?),
    };
    Ok(Expr::Aggregate(Box::new(Aggregate { op, expr: expr(*parsed.expr, guarded)?, param, grouping })))
}

fn call(parsed: parser::Call, guarded: &Guarded) -> Result<Expr, ParseError> {
    let name = parsed.func.name;
    let Some(function) = Function::from_name(name) else {
        let problem = if parsed.func.experimental { "experimental and not enabled" } else { "not supported" };
        return Err(ParseError::new(format!("function {name:?} is {problem}")));
    };
    let args = parsed.args.args.into_iter().map(|arg| expr(*arg, guarded)).collect::<Result<Vec<_>, _>>()?;
    // The parser waves some calls through (`exp(NaN)`), so look once more.
    for (index, arg) in args.iter().enumerate() {
        let wanted = parsed.func.arg_types.get(index).or(parsed.func.arg_types.last());
        if wanted.is_some_and(|wanted| *wanted != value_type(arg.value_type())) {
            return Err(ParseError::new(format!(
                "unexpected type {} in call to function {name:?}",
                arg.value_type().name()
            )));
        }
    }
    Ok(Expr::Call(Call { function, args }))
}

fn value_type(ours: ValueType) -> parser::value::ValueType {
    match ours {
        ValueType::Scalar => parser::value::ValueType::Scalar,
        ValueType::Vector => parser::value::ValueType::Vector,
        ValueType::Matrix => parser::value::ValueType::Matrix,
        ValueType::String => parser::value::ValueType::String,
    }
}
