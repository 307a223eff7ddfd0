//! Selectors, and what may follow one: a range, `offset`, `@`.

use lm_model::{METRIC_NAME, MatchOp, Matcher, Timestamp};

use super::ParseError;
use super::grammar::{Parser, Placed};
use super::lexer::Token;
use super::number::DURATION_MILLIS_MAX;
use crate::ast::{At, Duration, Expr, Extension, RangeSelector, Selector, Subquery, ValueType};
use crate::text::anchored;

impl Parser<'_> {
    /// `{...}` behind a metric's name, or alone.
    pub(super) fn selector(&mut self, name: Option<String>) -> Result<Selector, ParseError> {
        // The name has been taken.
        let begins = self.position.saturating_sub(usize::from(name.is_some()));
        let (start, begins) = (self.at(), self.tokens[begins].start);
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
        Ok(self.new_selector(matchers, begins))
    }

    fn new_selector(&self, matchers: Vec<Matcher>, begins: usize) -> Selector {
        let span = self.span(begins);
        Selector { matchers, offset_millis: 0, offset: None, at: None, extension: None, span }
    }

    /// `{...}` that may match everything.
    pub(super) fn any_selector(&mut self) -> Result<Selector, ParseError> {
        let start = self.at();
        self.demand("{", "label matching")?;
        let (mut metric, mut matchers) = (None, Vec::new());
        while !self.take("}") {
            self.matcher(&mut metric, &mut matchers)?;
            if !self.take(",") && *self.peek() != Token::Symbol("}") {
                return Err(self.unexpected("label matching, expected \",\" or \"}\""));
            }
        }
        if let Some(metric) = metric {
            matchers.insert(0, Matcher::new(METRIC_NAME, MatchOp::Eq, metric));
        }
        Ok(self.new_selector(matchers, start))
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
        let Placed { expr, start, is_enclosed, .. } = of;
        let (range_millis, range) = self.positive_duration()?;
        let expr = if self.take(":") {
            let (step_millis, step) = if *self.peek() == Token::Symbol("]") {
                (None, None)
            } else {
                let (millis, step) = self.positive_duration()?;
                (Some(millis), step)
            };
            self.demand("]", "subquery selector")?;
            if expr.value_type() != ValueType::Vector {
                let found = expr.value_type().name();
                let message = format!("subquery is only allowed on instant vector, got {found} instead");
                return self.error(start, message);
            }
            Expr::Subquery(Box::new(Subquery {
                expr,
                range_millis,
                step_millis,
                offset_millis: 0,
                at: None,
                range,
                step,
                offset: None,
                span: self.span(start),
            }))
        } else {
            self.demand("]", "subquery or range selector")?;
            match expr {
                Expr::Selector(Selector { at: Some(_), .. }) if !is_enclosed => {
                    return self.error(at, "no @ modifiers allowed before range");
                }
                Expr::Selector(Selector { offset_millis, ref offset, .. })
                    if !is_enclosed && (offset_millis != 0 || offset.is_some()) =>
                {
                    return self.error(at, "no offset modifiers allowed before range");
                }
                Expr::Selector(Selector { extension: Some(extension), .. }) if !is_enclosed => {
                    let name = extension.name();
                    return self.error(at, format!("write the {name} modifier behind the range"));
                }
                Expr::Selector(mut selector) if !is_enclosed => {
                    selector.span = self.span(start);
                    Expr::Range(RangeSelector { selector, range_millis, range })
                }
                _ => return self.error(at, "ranges only allowed for vector selectors"),
            }
        };
        Ok(self.placed(expr, start))
    }

    /// `anchored` or `smoothed`, where it comes next.
    pub(super) fn extension(&self) -> Option<Extension> {
        [Extension::Anchored, Extension::Smoothed]
            .into_iter()
            .find(|extension| self.word().is_some_and(|word| word == extension.name()))
    }

    pub(super) fn extended(&mut self, mut of: Placed, extension: Extension) -> Result<Placed, ParseError> {
        let (at, name) = (self.at(), extension.name());
        let is_on = self.features.extended_range_selectors;
        self.demand_feature(is_on, at, &format!("the {name} modifier is"), "query.extended_range_selectors")?;
        self.next();
        let place = match &mut of.expr {
            Expr::Range(range) if !of.is_enclosed => &mut range.selector.extension,
            Expr::Selector(selector) if !of.is_enclosed && extension == Extension::Smoothed => {
                &mut selector.extension
            }
            Expr::Selector(_) => {
                return self.error(at, "the anchored modifier needs a range: write metric[5m] anchored");
            }
            _ => return self.error(at, format!("the {name} modifier can only follow a selector")),
        };
        if place.replace(extension).is_some() {
            return self.error(at, "anchored and smoothed may not be set multiple times");
        }
        Ok(of)
    }

    /// `offset -5m`, its word taken.
    pub(super) fn offset(&mut self, mut of: Placed) -> Result<Placed, ParseError> {
        let at = self.at();
        let duration = self.offset_duration()?;
        let (millis, duration) = self.resolved(at, duration)?;
        let wrong = "offset modifier must be preceded by an instant vector selector or range vector selector \
                     or a subquery";
        let Some(Modified { offset_millis, offset, .. }) = modified(&mut of) else {
            return self.error(of.start, wrong);
        };
        let is_again = std::mem::replace(offset_millis, millis) != 0 || offset.is_some();
        *offset = duration;
        if is_again {
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
                let millis = (self.signed_number("@")? * 1000.0).round();
                if millis.is_nan() || millis.abs() >= i64::MAX as f64 {
                    return self.error(at, "timestamp out of bounds for @ modifier");
                }
                At::Time(Timestamp::from_millis(millis as i64))
            }
        };
        let wrong = "@ modifier must be preceded by an instant vector selector or range vector selector or \
                     a subquery";
        let Some(Modified { at: place, .. }) = modified(&mut of) else {
            return self.error(of.start, wrong);
        };
        if place.replace(time).is_some() {
            return self.error(of.start, "@ <timestamp> may not be set multiple times");
        }
        Ok(of)
    }

    pub(super) fn signed_number(&mut self, within: &str) -> Result<f64, ParseError> {
        let is_negative = self.take("-");
        if !is_negative {
            self.take("+");
        }
        match *self.peek() {
            Token::Number(number) => {
                self.next();
                Ok(if is_negative { -number } else { number })
            }
            _ => Err(self.unexpected(&format!("{within}, expected number or duration"))),
        }
    }

    /// Milliseconds of a range or step, and what it is where that depends on the
    /// query's times.
    fn positive_duration(&mut self) -> Result<(i64, Option<Box<Duration>>), ParseError> {
        let at = self.at();
        let duration = self.range_duration()?;
        match self.resolved(at, duration)? {
            (millis, None) if millis <= 0 => self.error(at, "duration must be greater than 0"),
            resolved => Ok(resolved),
        }
    }

    fn resolved(&self, at: usize, duration: Duration) -> Result<(i64, Option<Box<Duration>>), ParseError> {
        match duration {
            Duration::Seconds(seconds) => Ok((self.millis(at, seconds)?, None)),
            duration => Ok((0, Some(Box::new(duration)))),
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

/// What modifiers of a selector or subquery set.
struct Modified<'a> {
    offset_millis: &'a mut i64,
    offset: &'a mut Option<Box<Duration>>,
    at: &'a mut Option<At>,
}

fn modified(of: &mut Placed) -> Option<Modified<'_>> {
    if of.is_enclosed {
        return None;
    }
    match &mut of.expr {
        Expr::Selector(selector) | Expr::Range(RangeSelector { selector, .. }) => {
            let Selector { offset_millis, offset, at, .. } = selector;
            Some(Modified { offset_millis, offset, at })
        }
        Expr::Subquery(subquery) => {
            let Subquery { offset_millis, offset, at, .. } = &mut **subquery;
            Some(Modified { offset_millis, offset, at })
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
