//! Selectors, and what may follow one: a range, `offset`, `@`.

use lm_model::{METRIC_NAME, MatchOp, Matcher, Timestamp};

use super::ParseError;
use super::grammar::{Parser, Placed};
use super::lexer::Token;
use super::number::DURATION_MILLIS_MAX;
use crate::ast::{At, Expr, RangeSelector, Selector, Subquery, ValueType};
use crate::text::anchored;

impl Parser<'_> {
    /// `{...}` behind a metric's name, or alone.
    pub(super) fn selector(&mut self, name: Option<String>) -> Result<Selector, ParseError> {
        let start = self.at();
        let mut matchers: Vec<Matcher> = Vec::new();
        let mut metric = name;
        if self.take("{") {
            while !self.take("}") {
                self.matcher(&mut metric, &mut matchers)?;
                if !self.take(",") && *self.peek() != Token::Symbol("}") {
                    return Err(self.unexpected("label matching, expected \",\" or \"}\""));
                }
            }
        }
        let is_narrow = metric.is_some() || matchers.iter().any(|matcher| !accepts_empty(matcher));
        if !is_narrow {
            return self.error(start, "vector selector must contain at least one non-empty matcher");
        }
        if let Some(metric) = metric {
            let again = matchers.iter().find(|matcher| &*matcher.name == METRIC_NAME);
            if let Some(again) = again {
                let message = format!("metric name must not be set twice: {metric:?} or {:?}", again.value);
                return self.error(start, message);
            }
            matchers.insert(0, Matcher::new(METRIC_NAME, MatchOp::Eq, metric));
        }
        Ok(Selector { matchers, offset_millis: 0, at: None })
    }

    /// `a="b"`, `"a b"="c"`, or the metric's name in quotes.
    fn matcher(&mut self, metric: &mut Option<String>, to: &mut Vec<Matcher>) -> Result<(), ParseError> {
        const WITHIN: &str = "label matching";
        let at = self.at();
        let (name, is_quoted) = match self.peek().clone() {
            Token::Word(name) => (name, false),
            Token::Text(name) => (self.utf8(at, name)?, true),
            Token::Number(_) if self.number_word().is_some() => {
                (self.number_word().unwrap_or_default(), false)
            }
            _ => return Err(self.unexpected("label matching, expected identifier or \"}\"")),
        };
        self.next();
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Eq,
            Token::Symbol("!=") => MatchOp::Ne,
            Token::Symbol("=~") => MatchOp::Re,
            Token::Symbol("!~") => MatchOp::Nre,
            Token::Symbol("," | "}") if is_quoted => {
                if let Some(before) = metric {
                    let message = format!("metric name must not be set twice: {before:?} or {name:?}");
                    return self.error(at, message);
                }
                *metric = Some(name);
                return Ok(());
            }
            _ => return Err(self.unexpected("label matching, expected label matching operator")),
        };
        if name.is_empty() {
            return self.error(at, "invalid label name \"\"");
        }
        self.next();
        let at = self.at();
        let Token::Text(value) = self.peek().clone() else {
            return Err(self.unexpected(&format!("{WITHIN}, expected string")));
        };
        let value = self.utf8(at, value)?;
        self.next();
        let value = match op {
            MatchOp::Eq | MatchOp::Ne => value,
            MatchOp::Re | MatchOp::Nre => {
                anchored(&value).map_err(|message| ParseError::at(self.query, at, message))?.source
            }
        };
        to.push(Matcher::new(name, op, value));
        Ok(())
    }

    fn utf8(&self, at: usize, text: Result<String, String>) -> Result<String, ParseError> {
        // Labels and values are UTF-8, so another string can only be a mistake.
        text.or_else(|literal| self.error(at, format!("string {literal} is not valid UTF-8")))
    }

    /// `[5m]` or `[5m:1m]`, its bracket taken, which was `at`.
    pub(super) fn range(&mut self, of: Placed, at: usize) -> Result<Placed, ParseError> {
        let Placed { expr, start, is_enclosed } = of;
        let range_millis = self.positive_millis("duration")?;
        let expr = if self.take(":") {
            let step_millis = if *self.peek() == Token::Symbol("]") {
                None
            } else {
                Some(self.positive_millis("duration")?)
            };
            self.demand("]", "subquery selector")?;
            if expr.value_type() != ValueType::Vector {
                let found = expr.value_type().name();
                let message = format!("subquery is only allowed on instant vector, got {found} instead");
                return self.error(start, message);
            }
            Expr::Subquery(Box::new(Subquery { expr, range_millis, step_millis, offset_millis: 0, at: None }))
        } else {
            self.demand("]", "subquery or range selector")?;
            match expr {
                Expr::Selector(Selector { at: Some(_), .. }) if !is_enclosed => {
                    return self.error(at, "no @ modifiers allowed before range");
                }
                Expr::Selector(Selector { offset_millis, .. }) if !is_enclosed && offset_millis != 0 => {
                    return self.error(at, "no offset modifiers allowed before range");
                }
                Expr::Selector(selector) if !is_enclosed => {
                    Expr::Range(RangeSelector { selector, range_millis })
                }
                _ => return self.error(at, "ranges only allowed for vector selectors"),
            }
        };
        Ok(Placed { expr, start, is_enclosed: false })
    }

    /// `offset -5m`, its word taken.
    pub(super) fn offset(&mut self, mut of: Placed) -> Result<Placed, ParseError> {
        let at = self.at();
        let millis = self.signed_seconds("offset").and_then(|seconds| self.millis(at, seconds))?;
        let wrong = "offset modifier must be preceded by an instant vector selector or range vector selector \
                     or a subquery";
        let (offset, _) = match modified(&mut of) {
            Some(parts) => parts,
            None => return self.error(of.start, wrong),
        };
        if std::mem::replace(offset, millis) != 0 {
            return self.error(of.start, "offset may not be set multiple times");
        }
        Ok(of)
    }

    /// `@ 1609746000`, `@ start()`, its symbol taken.
    pub(super) fn at_modifier(&mut self, mut of: Placed) -> Result<Placed, ParseError> {
        let at = self.at();
        let time = match self.word().as_deref() {
            Some(word @ ("start" | "end")) => {
                self.next();
                self.demand("(", "@")?;
                self.demand(")", "@")?;
                if word == "start" { At::Start } else { At::End }
            }
            _ => {
                let millis = (self.signed_seconds("@")? * 1000.0).round();
                if millis.is_nan() || millis.abs() >= i64::MAX as f64 {
                    return self.error(at, "timestamp out of bounds for @ modifier");
                }
                At::Time(Timestamp::from_millis(millis as i64))
            }
        };
        let wrong = "@ modifier must be preceded by an instant vector selector or range vector selector or \
                     a subquery";
        let (_, place) = match modified(&mut of) {
            Some(parts) => parts,
            None => return self.error(of.start, wrong),
        };
        if place.replace(time).is_some() {
            return self.error(of.start, "@ <timestamp> may not be set multiple times");
        }
        Ok(of)
    }

    fn signed_seconds(&mut self, within: &str) -> Result<f64, ParseError> {
        let is_negative = if self.take("-") {
            true
        } else {
            self.take("+");
            false
        };
        match *self.peek() {
            Token::Number(seconds) => {
                self.next();
                Ok(if is_negative { -seconds } else { seconds })
            }
            _ => Err(self.unexpected(&format!("{within}, expected number or duration"))),
        }
    }

    fn positive_millis(&mut self, within: &str) -> Result<i64, ParseError> {
        let at = self.at();
        let seconds = match *self.peek() {
            Token::Number(seconds) => seconds,
            _ => return Err(self.unexpected(&format!("{within}, expected number or duration"))),
        };
        self.next();
        match self.millis(at, seconds)? {
            0 => self.error(at, "duration must be greater than 0"),
            millis => Ok(millis),
        }
    }

    fn millis(&self, at: usize, seconds: f64) -> Result<i64, ParseError> {
        let millis = (seconds * 1000.0).round();
        if millis.is_nan() || millis.abs() > DURATION_MILLIS_MAX as f64 {
            return self.error(at, "duration out of range");
        }
        Ok(millis as i64)
    }
}

/// Where offset and time of a selector or subquery stand.
fn modified(of: &mut Placed) -> Option<(&mut i64, &mut Option<At>)> {
    if of.is_enclosed {
        return None;
    }
    match &mut of.expr {
        Expr::Selector(selector) | Expr::Range(RangeSelector { selector, .. }) => {
            Some((&mut selector.offset_millis, &mut selector.at))
        }
        Expr::Subquery(subquery) => {
            let Subquery { offset_millis, at, .. } = &mut **subquery;
            Some((offset_millis, at))
        }
        _ => None,
    }
}

fn accepts_empty(matcher: &Matcher) -> bool {
    let matches_empty = match matcher.op {
        MatchOp::Eq | MatchOp::Ne => matcher.value.is_empty(),
        // Checked when it was read.
        MatchOp::Re | MatchOp::Nre => anchored(&matcher.value).is_ok_and(|a| a.regex.is_match("")),
    };
    matches_empty == matches!(matcher.op, MatchOp::Eq | MatchOp::Re)
}
