//! Durations in brackets and behind `offset`: numbers, and with
//! `duration_expressions` arithmetic on them.

use super::ParseError;
use super::grammar::Parser;
use super::lexer::{NESTING_MAX, Token};
use crate::ast::{BinaryOp, Duration};
use crate::durations::{self, QueryTimes};

/// Binds tighter than multiplication: what a sign stands before.
const POWER: u8 = 6;

impl Parser<'_> {
    /// What stands in brackets: an expression as a whole.
    pub(super) fn range_duration(&mut self) -> Result<Duration, ParseError> {
        let duration = self.duration(0)?;
        Ok(folded(duration))
    }

    /// What follows `offset`: one operand with its signs; operators behind it
    /// belong to the query.
    pub(super) fn offset_duration(&mut self) -> Result<Duration, ParseError> {
        let duration = self.duration_operand("offset")?;
        Ok(folded(duration))
    }

    fn duration(&mut self, tightest: u8) -> Result<Duration, ParseError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.error(self.at(), format!("nested deeper than {NESTING_MAX}"));
        }
        let mut left = self.duration_operand("duration")?;
        while let Some(op) = self.duration_operator().filter(|op| op.precedence() >= tightest) {
            self.demand_durations()?;
            self.next();
            let is_power = op == BinaryOp::Pow;
            let right = self.duration(op.precedence() + u8::from(!is_power))?;
            left = Duration::Binary(op, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn duration_operator(&self) -> Option<BinaryOp> {
        use BinaryOp::{Add, Div, Mod, Mul, Pow, Sub};
        let Token::Symbol(symbol) = self.peek() else { return None };
        BinaryOp::from_symbol(symbol).filter(|op| matches!(op, Add | Sub | Mul | Div | Mod | Pow))
    }

    fn demand_durations(&self) -> Result<(), ParseError> {
        let is_on = self.features.duration_expressions;
        self.demand_feature(is_on, self.at(), "duration expressions are", "query.duration_expressions")
    }

    fn duration_operand(&mut self, within: &str) -> Result<Duration, ParseError> {
        let is_offset = within == "offset";
        let (mut is_negative, mut is_signed) = (false, false);
        while let Token::Symbol(sign @ ("+" | "-")) = self.peek() {
            if is_signed || !is_offset {
                self.demand_durations()?;
            }
            is_negative ^= *sign == "-";
            is_signed = true;
            self.next();
        }
        // A sign of an offset binds tighter than powers do, which are the query's.
        let operand =
            if is_signed && !is_offset { self.duration(POWER)? } else { self.duration_atom(within)? };
        Ok(if is_negative { Duration::Negate(Box::new(operand)) } else { operand })
    }

    fn duration_atom(&mut self, within: &str) -> Result<Duration, ParseError> {
        if let Token::Number(seconds) = *self.peek() {
            self.next();
            return Ok(Duration::Seconds(seconds));
        }
        let word = self.word().filter(|_| *self.after_next() == Token::Symbol("("));
        let is_enclosed = *self.peek() == Token::Symbol("(");
        if !is_enclosed && !matches!(word.as_deref(), Some("step" | "range" | "min_of" | "max_of")) {
            return Err(self.unexpected(&format!("{within}, expected number or duration")));
        }
        self.demand_durations()?;
        if !is_enclosed {
            self.next();
        }
        self.demand("(", within)?;
        let duration = match word.as_deref() {
            Some("step") => Duration::Step,
            Some("range") => Duration::Range,
            Some(name) => {
                let left = Box::new(self.duration(0)?);
                self.demand(",", within)?;
                let right = Box::new(self.duration(0)?);
                if name == "min_of" { Duration::Min(left, right) } else { Duration::Max(left, right) }
            }
            None => self.duration(0)?,
        };
        self.demand(")", within)?;
        Ok(duration)
    }
}

/// Computed at once where it depends on nothing.
fn folded(duration: Duration) -> Duration {
    if durations::is_constant(&duration) {
        Duration::Seconds(durations::seconds(&duration, QueryTimes::default()))
    } else {
        duration
    }
}
