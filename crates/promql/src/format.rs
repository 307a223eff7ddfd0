//! Queries in their canonical form: one line, no parentheses that change
//! nothing, durations in units.

use std::fmt::{self, Display, Formatter, Write as _};

use lm_model::{METRIC_NAME, MatchOp, Matcher};

use crate::ast::*;
use crate::parse::{Features, ParseError, parse_with};
use crate::text;

/// `query` in its canonical form. One that cannot be written so is answered as
/// it was.
///
/// # Errors
///
/// When the text is no query.
pub fn format(query: &str, features: Features) -> Result<String, ParseError> {
    let meant = parse_with(query, features)?;
    let text = meant.to_string();
    // NaN is no equal of itself, and a selector may name its metric twice.
    Ok(if parse_with(&text, features).is_ok_and(|again| again == meant) {
        text
    } else {
        query.trim().to_owned()
    })
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(value) => f.write_str(&text::number(*value)),
            Expr::String(value) => quoted(f, value),
            Expr::Selector(selector) => {
                series(f, selector)?;
                selector_modifiers(f, selector)
            }
            Expr::Range(RangeSelector { selector, range_millis, range }) => {
                series(f, selector)?;
                write!(f, "[{}]", Length(*range_millis, range))?;
                selector_modifiers(f, selector)
            }
            Expr::Subquery(subquery) => {
                let Subquery {
                    expr, range_millis, step_millis, offset_millis, at, range, step, offset, ..
                } = &**subquery;
                enclosed(f, expr, matches!(expr, Expr::Binary(_) | Expr::Negate(_)))?;
                write!(f, "[{}:", Length(*range_millis, range))?;
                if let Some(millis) = step_millis {
                    write!(f, "{}", Length(*millis, step))?;
                }
                f.write_char(']')?;
                modifiers(f, *at, *offset_millis, offset)
            }
            Expr::Negate(inner) => {
                f.write_char('-')?;
                enclosed(f, inner, precedence(inner) < POWER)
            }
            Expr::Binary(operation) => binary(f, operation),
            Expr::Aggregate(of) => aggregate(f, of),
            Expr::Call(Call { function, args, .. }) => {
                write!(f, "{}(", function.name())?;
                list(f, args)?;
                f.write_char(')')
            }
        }
    }
}

const POWER: u8 = 6;
const ATOM: u8 = 7;

/// How tight an expression holds together.
fn precedence(expr: &Expr) -> u8 {
    match expr {
        Expr::Binary(binary) => binary.op.precedence(),
        // A sign binds as a product does.
        Expr::Negate(_) => POWER - 1,
        Expr::Number(value) if value.is_sign_negative() => POWER - 1,
        _ => ATOM,
    }
}

fn enclosed(f: &mut Formatter<'_>, expr: &Expr, needs: bool) -> fmt::Result {
    if needs { write!(f, "({expr})") } else { write!(f, "{expr}") }
}

fn binary(f: &mut Formatter<'_>, operation: &Binary) -> fmt::Result {
    let Binary { op, left, right, returns_bool, matching, .. } = operation;
    let own = op.precedence();
    let is_power = *op == BinaryOp::Pow;
    enclosed(f, left, precedence(left) < own || (is_power && precedence(left) == own))?;
    write!(f, " {}", op.symbol())?;
    if *returns_bool {
        f.write_str(" bool")?;
    }
    if matching.is_on || !matching.labels.is_empty() || matching.cardinality != Cardinality::OneToOne {
        f.write_str(if matching.is_on { " on " } else { " ignoring " })?;
        labels(f, &matching.labels)?;
    }
    match matching.cardinality {
        Cardinality::OneToOne => {}
        Cardinality::ManyToOne => f.write_str(" group_left ")?,
        Cardinality::OneToMany => f.write_str(" group_right ")?,
    }
    if matching.cardinality != Cardinality::OneToOne {
        labels(f, &matching.include)?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right || (left.is_nan() && right.is_nan()) => {
            write!(f, " fill({})", text::number(left))?;
        }
        (left, right) => {
            for (name, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    write!(f, " {name}({})", text::number(value))?;
                }
            }
        }
    }
    f.write_char(' ')?;
    // A sign may stand before any operand on the right.
    let is_signed = matches!(right, Expr::Negate(_) | Expr::Number(_));
    let binds_less = precedence(right) < own || (!is_power && precedence(right) == own);
    enclosed(f, right, binds_less && !is_signed)
}

fn aggregate(f: &mut Formatter<'_>, of: &Aggregate) -> fmt::Result {
    f.write_str(of.op.name())?;
    match &of.grouping {
        Grouping::By(names) if names.is_empty() => {}
        Grouping::By(names) => {
            f.write_str(" by ")?;
            labels(f, names)?;
            f.write_char(' ')?;
        }
        Grouping::Without(names) => {
            f.write_str(" without ")?;
            labels(f, names)?;
            f.write_char(' ')?;
        }
    }
    f.write_char('(')?;
    if let Some(param) = &of.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", of.expr)
}

fn list(f: &mut Formatter<'_>, items: &[impl Display]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// A label's name, in quotes where it needs them.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain(self.0, false) { f.write_str(self.0) } else { quoted(f, self.0) }
    }
}

fn labels(f: &mut Formatter<'_>, names: &[String]) -> fmt::Result {
    let names: Vec<_> = names.iter().map(|name| Name(name)).collect();
    f.write_char('(')?;
    list(f, &names)?;
    f.write_char(')')
}

/// Whether a name needs no quotes; metrics may have colons.
fn is_plain(name: &str, is_metric: bool) -> bool {
    let starts_well =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || (is_metric && c == ':'));
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (is_metric && c == ':'))
}

fn series(f: &mut Formatter<'_>, selector: &Selector) -> fmt::Result {
    let is_name = |matcher: &Matcher| &*matcher.name == METRIC_NAME && matcher.op == MatchOp::Eq;
    let (name, rest) = match selector.matchers.split_first() {
        Some((first, rest)) if is_name(first) && !first.value.is_empty() => (Some(&*first.value), rest),
        _ => (None, &selector.matchers[..]),
    };
    let mut parts = Vec::new();
    match name {
        Some(name) if is_plain(name, true) => f.write_str(name)?,
        Some(name) => parts.push(format!("{}", Quoted(name))),
        None => {}
    }
    for matcher in rest {
        parts.push(format!("{}{}{}", Name(&matcher.name), matcher.op, Quoted(&matcher.value)));
    }
    if parts.is_empty() { Ok(()) } else { write!(f, "{{{}}}", parts.join(",")) }
}

fn selector_modifiers(f: &mut Formatter<'_>, selector: &Selector) -> fmt::Result {
    modifiers(f, selector.at, selector.offset_millis, &selector.offset)?;
    match selector.extension {
        None => Ok(()),
        Some(extension) => write!(f, " {}", extension.name()),
    }
}

fn modifiers(
    f: &mut Formatter<'_>,
    at: Option<At>,
    offset_millis: i64,
    offset: &Option<Box<Duration>>,
) -> fmt::Result {
    match at {
        None => {}
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        Some(At::Time(time)) => {
            let (sign, millis) = if time.as_millis() < 0 {
                ("-", time.as_millis().unsigned_abs())
            } else {
                ("", time.as_millis() as u64)
            };
            write!(f, " @ {sign}{}.{:03}", millis / 1000, millis % 1000)?;
        }
    }
    if let Some(offset) = offset {
        write!(f, " offset ({offset})")?;
    } else if offset_millis != 0 {
        let sign = if offset_millis < 0 { "-" } else { "" };
        write!(f, " offset {sign}{}", Millis(offset_millis.saturating_abs()))?;
    }
    Ok(())
}

/// A range or step: milliseconds, or what they depend on.
struct Length<'a>(i64, &'a Option<Box<Duration>>);

impl Display for Length<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(duration) => duration.fmt(f),
            None => Millis(self.0).fmt(f),
        }
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Duration::Seconds(seconds) => f.write_str(&text::number(*seconds)),
            Duration::Step => f.write_str("step()"),
            Duration::Range => f.write_str("range()"),
            Duration::Negate(inner) => write!(f, "-({inner})"),
            Duration::Binary(op, left, right) => write!(f, "({left} {} {right})", op.symbol()),
            Duration::Min(left, right) => write!(f, "min_of({left}, {right})"),
            Duration::Max(left, right) => write!(f, "max_of({left}, {right})"),
        }
    }
}

struct Millis(i64);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, i64); 5] =
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let mut left = self.0;
        for (unit, size) in UNITS {
            // Days only when they are whole, as Prometheus writes them.
            if left >= size && (unit != "d" || left % size == 0) {
                write!(f, "{}{unit}", left / size)?;
                left %= size;
            }
        }
        Ok(())
    }
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0)
    }
}

/// A string literal with Go's escapes.
fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_have_one_form() {
        let format = |query: &str| format(query, Features::all());
        let check = |query: &str, expected: &str| assert_eq!(format(query).unwrap(), expected, "{query}");
        check("  a+  b", "a + b");
        check("sum( rate( x[300s] ) )by(job)", "sum by (job) (rate(x[5m]))");
        check("sum without () (a)", "sum without () (a)");
        check("topk by(b,a) (5,x)", "topk by (a, b) (5, x)");
        check(r#"x{a="1", b='it\'s\n', "c d"=~`\d`}"#, r#"x{a="1",b="it's\n","c d"=~"\\d"}"#);
        check(r#"{"a.b", c!="d"}"#, r#"{"a.b",c!="d"}"#);
        check("((a + b)) * (c)", "(a + b) * c");
        check("a - (b - c) - d", "a - (b - c) - d");
        check("(a ^ b) ^ c ^ d", "(a ^ b) ^ c ^ d");
        check("(-1) ^ 2", "(-1) ^ 2");
        check("-(a + b) * -c ^ d", "-(a + b) * -c ^ d");
        check("a == bool on(x) group_left b", "a == bool on (x) group_left () b");
        check("a and ignoring(x) b or c", "a and ignoring (x) b or c");
        check("(a + b)[1h:] offset -1h30m @ 5", "(a + b)[1h:] @ 5.000 offset -1h30m");
        check("a @ end() offset 36h", "a @ end() offset 36h");
        check("NaN", "NaN");
        check("rate(a[2*(5m+30s)] anchored)", "rate(a[11m] anchored)");
        check("a @ 5 offset (step()*2) smoothed", "a @ 5.000 offset ((step() * 2)) smoothed");
        check("a + on(x) fill(0) b", "a + on (x) fill(0) b");
        check("a - fill_right(-1) fill_left(2) b", "a - fill_left(2) fill_right(-1) b");
        check("a >/ 1 </ 2", "a >/ 1 </ 2");
        check("info(a, {b=~'.*'})", "info(a, {b=~\".*\"})");
        check("1e3 + 0x1f", "1000 + 31");
        assert!(format("sum(").is_err());
    }
}
