//! The grammar: expressions by precedence, and what follows them.
//!
//! Recursive descent over the tokens. Types are checked on the way, so that an
//! error knows its place. Chains of operators are loops; only nesting and
//! powers recurse, and both are bounded.

use super::lexer::{NESTING_MAX, Spanned, Token};
use super::signature;
use super::{Features, ParseError, Place};
use crate::ast::*;

/// Binds tighter than multiplication: what a sign stands before.
const POWER: u8 = 6;

pub(super) struct Parser<'q> {
    pub query: &'q str,
    pub features: Features,
    pub tokens: Vec<Spanned>,
    pub position: usize,
    pub depth: usize,
    /// Where lines begin, the first left out.
    line_starts: Vec<usize>,
    /// What is wrong where the tokens end.
    cut: Option<ParseError>,
}

/// An expression, where it stands, and whether parentheses stand around it.
pub(super) struct Placed {
    pub expr: Expr,
    pub start: usize,
    /// Of what is in the parentheses.
    pub inner: Span,
    pub is_enclosed: bool,
}

impl<'q> Parser<'q> {
    pub fn new(query: &'q str, features: Features) -> Self {
        let (tokens, cut) = super::lexer::tokens(query);
        let line_starts = query.match_indices('\n').map(|(at, _)| at + 1).collect();
        Parser { query, features, tokens, position: 0, depth: 0, line_starts, cut }
    }

    /// The whole query.
    pub fn query(mut self) -> Result<Expr, ParseError> {
        if self.peek() == &Token::End && self.cut.is_none() {
            let message = "no expression found in input";
            if self.query.is_empty() {
                return Err(ParseError::nowhere(message));
            }
            return self.error(0, message);
        }
        let parsed = self.expr(0)?;
        match self.peek() {
            Token::End if self.cut.is_none() => Ok(parsed.expr),
            _ => Err(self.unexpected("")),
        }
    }

    pub fn peek(&self) -> &Token {
        &self.tokens[self.position].token
    }

    /// The token after the next.
    pub fn after_next(&self) -> &Token {
        &self.tokens[(self.position + 1).min(self.tokens.len() - 1)].token
    }

    /// From `start` to the end of the token before the next.
    pub fn span(&self, start: usize) -> Span {
        let end = self.position.checked_sub(1).map_or(start, |before| self.tokens[before].end);
        Span { start, end: end.max(start), place: self.place(start) }
    }

    /// Like [`Place::of`], without looking at the whole query for each node.
    fn place(&self, position: usize) -> Place {
        let lines = self.line_starts.partition_point(|start| *start <= position);
        let line_start = lines.checked_sub(1).map_or(0, |line| self.line_starts[line]);
        Place { line: 1 + lines, column: 1 + position - line_start }
    }

    pub fn placed(&self, expr: Expr, start: usize) -> Placed {
        Placed { expr, start, inner: self.span(start), is_enclosed: false }
    }

    /// Says that a feature is off, and how to have it.
    pub fn demand_feature(
        &self,
        is_on: bool,
        at: usize,
        what: &str,
        setting: &str,
    ) -> Result<(), ParseError> {
        if is_on {
            return Ok(());
        }
        let message = format!("{what} experimental and not enabled: set {setting} = true to use it");
        self.error(at, message)
    }

    /// Where the next token begins.
    pub fn at(&self) -> usize {
        self.tokens[self.position].start
    }

    pub fn next(&mut self) -> Token {
        let token = self.tokens[self.position].token.clone();
        // The end stays.
        self.position = (self.position + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes the symbol if it comes next.
    pub fn take(&mut self, symbol: &'static str) -> bool {
        let is_next = *self.peek() == Token::Symbol(symbol);
        if is_next {
            self.next();
        }
        is_next
    }

    /// The word that comes next, in lower case.
    pub fn word(&self) -> Option<String> {
        match self.peek() {
            Token::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    pub fn demand(&mut self, symbol: &'static str, within: &str) -> Result<(), ParseError> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(within)) }
    }

    pub fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.query, at, message))
    }

    /// The next token has no place here.
    pub fn unexpected(&self, within: &str) -> ParseError {
        let Spanned { token, start, end } = &self.tokens[self.position];
        if let (Token::End, Some(cut)) = (token, &self.cut) {
            return cut.clone();
        }
        let what = token.describe(&self.query[*start..*end]);
        let within = if within.is_empty() { String::new() } else { format!(" in {within}") };
        ParseError::at(self.query, *start, format!("unexpected {what}{within}"))
    }

    /// Operators that bind at least as tight as `tightest`.
    pub fn expr(&mut self, tightest: u8) -> Result<Placed, ParseError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.error(self.at(), format!("nested deeper than {NESTING_MAX}"));
        }
        let mut left = self.signed()?;
        while let Some((op, precedence)) = self.operator().filter(|(_, precedence)| *precedence >= tightest) {
            let at = self.at();
            self.next();
            left = self.binary(left, op, precedence, at)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<(BinaryOp, u8)> {
        let op = match self.peek() {
            Token::Symbol(symbol) => BinaryOp::from_symbol(symbol)?,
            _ => BinaryOp::from_symbol(&self.word()?)?,
        };
        Some((op, op.precedence()))
    }

    fn signed(&mut self) -> Result<Placed, ParseError> {
        let start = self.at();
        let (mut is_negative, mut is_signed) = (false, false);
        while let Token::Symbol(sign @ ("+" | "-")) = self.peek() {
            is_negative ^= *sign == "-";
            is_signed = true;
            self.next();
        }
        if !is_signed {
            return self.postfix();
        }
        let Placed { expr, .. } = self.expr(POWER)?;
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
            let found = expr.value_type().name();
            let allowed = "unary expression only allowed on expressions of type scalar or instant vector";
            return self.error(start, format!("{allowed}, got {found:?}"));
        }
        let expr = match expr {
            Expr::Number(value) if is_negative => Expr::Number(-value),
            expr if is_negative => Expr::Negate(Box::new(expr)),
            expr => expr,
        };
        Ok(self.placed(expr, start))
    }

    /// An operator with everything on its right.
    fn binary(
        &mut self,
        left: Placed,
        op: BinaryOp,
        precedence: u8,
        at: usize,
    ) -> Result<Placed, ParseError> {
        let returns_bool = self.word().as_deref() == Some("bool");
        if returns_bool {
            self.next();
        }
        let has_matching = matches!(self.word().as_deref(), Some("on" | "ignoring"));
        let mut matching = if has_matching { self.matching()? } else { Matching::default() };
        let has_fill = self.fill(&mut matching)?;
        // Powers bind to the right, all others to the left.
        let right = self.expr(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
        self.check_modifiers(op, returns_bool, &matching, left.start, at)?;
        let types = [left.expr.value_type(), right.expr.value_type()];
        for (side, found) in [(&left, types[0]), (&right, types[1])] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.error(side.start, message);
            }
        }
        if types == [ValueType::Scalar; 2] && op.is_comparison() && !returns_bool {
            return self.error(at, "comparisons between scalars must use BOOL modifier");
        }
        if types.contains(&ValueType::Scalar) {
            if op.is_set() {
                let message =
                    format!("set operator {:?} not allowed in binary scalar expression", op.symbol());
                return self.error(left.start, message);
            }
            if has_matching && (matching.is_on || !matching.labels.is_empty()) {
                return self.error(left.start, "vector matching only allowed between instant vectors");
            }
            if has_fill {
                return self
                    .error(left.start, "filling in missing series only allowed between instant vectors");
            }
        }
        if has_fill && op.is_set() {
            let message = format!("filling in missing series not allowed for {:?} operation", op.symbol());
            return self.error(left.start, message);
        }
        let start = left.start;
        let span = self.span(start);
        let binary = Binary { op, left: left.expr, right: right.expr, returns_bool, matching, span };
        Ok(self.placed(Expr::Binary(Box::new(binary)), start))
    }

    /// `fill(0)`, or `fill_left(0) fill_right(1)`; whether there is any.
    fn fill(&mut self, matching: &mut Matching) -> Result<bool, ParseError> {
        let mut has_fill = false;
        loop {
            let at = self.at();
            let word = self.word().filter(|_| *self.after_next() == Token::Symbol("("));
            let (left, right) = match word.as_deref() {
                Some("fill") => (true, true),
                Some("fill_left") => (true, false),
                Some("fill_right") => (false, true),
                _ => return Ok(has_fill),
            };
            self.demand_feature(
                self.features.fill_modifiers,
                at,
                "fill modifiers are",
                "query.fill_modifiers",
            )?;
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                return self.error(at, "a side is filled twice: keep one of the fill modifiers");
            }
            self.next();
            self.next();
            let value = self.signed_number("fill modifier")?;
            self.demand(")", "fill modifier")?;
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
            has_fill = true;
        }
    }

    /// Complains as Prometheus does, and there: of the whole, or at the operator.
    fn check_modifiers(
        &self,
        op: BinaryOp,
        returns_bool: bool,
        matching: &Matching,
        start: usize,
        at: usize,
    ) -> Result<(), ParseError> {
        if returns_bool && !op.is_comparison() {
            return self.error(at, "bool modifier can only be used on comparison operators");
        }
        if op.is_set() && matching.cardinality != Cardinality::OneToOne {
            return self.error(start, format!("no grouping allowed for {:?} operation", op.symbol()));
        }
        let both = matching.include.iter().find(|name| matching.is_on && matching.labels.contains(name));
        if let Some(both) = both {
            return self.error(at, format!("label {both:?} must not occur in ON and GROUP clause at once"));
        }
        Ok(())
    }

    /// `on (a, b) group_left (c)`
    fn matching(&mut self) -> Result<Matching, ParseError> {
        let is_on = self.word().as_deref() == Some("on");
        self.next();
        let labels = self.labels("grouping opts")?;
        let cardinality = match self.word().as_deref() {
            Some("group_left") => Cardinality::ManyToOne,
            Some("group_right") => Cardinality::OneToMany,
            _ => return Ok(Matching { is_on, labels, ..Matching::default() }),
        };
        self.next();
        // A parenthesis here holds labels, also where an operand would fit.
        let has_labels = *self.peek() == Token::Symbol("(");
        let include = if has_labels { self.labels("grouping opts")? } else { Vec::new() };
        Ok(Matching { is_on, labels, cardinality, include, ..Matching::default() })
    }

    /// `(a, b)`, sorted, each once.
    pub fn labels(&mut self, within: &str) -> Result<Vec<String>, ParseError> {
        self.demand("(", within)?;
        let mut labels = Vec::new();
        while !self.take(")") {
            let at = self.at();
            match self.peek().clone() {
                Token::Word(name) if !name.contains(':') => labels.push(name),
                Token::Text(Ok(name)) if !name.is_empty() => labels.push(name),
                Token::Text(name) => {
                    let name = name.unwrap_or_else(|literal| literal);
                    return self.error(at, format!("invalid label name {name}"));
                }
                Token::Number(_) if self.number_word().is_some() => {
                    labels.push(self.number_word().expect("it was there a line above"));
                }
                _ => return Err(self.unexpected(within)),
            }
            self.next();
            if !self.take(",") && *self.peek() != Token::Symbol(")") {
                return Err(self.unexpected(within));
            }
        }
        labels.sort();
        labels.dedup();
        Ok(labels)
    }

    /// `inf` and `nan` are numbers, and names where only names can stand.
    pub fn number_word(&self) -> Option<String> {
        let Spanned { token: Token::Number(_), start, end } = &self.tokens[self.position] else {
            return None;
        };
        let text = &self.query[*start..*end];
        text.starts_with(|c: char| c.is_ascii_alphabetic()).then(|| text.to_owned())
    }

    fn postfix(&mut self) -> Result<Placed, ParseError> {
        let mut placed = self.primary()?;
        loop {
            let at = self.at();
            if self.take("[") {
                placed = self.range(placed, at)?;
            } else if self.take("@") {
                placed = self.at_modifier(placed)?;
            } else if self.word().as_deref() == Some("offset") {
                self.next();
                placed = self.offset(placed)?;
            } else if let Some(extension) = self.extension() {
                placed = self.extended(placed, extension)?;
            } else {
                return Ok(placed);
            }
        }
    }

    fn primary(&mut self) -> Result<Placed, ParseError> {
        let start = self.at();
        let expr = match self.peek().clone() {
            Token::Number(value) => {
                self.next();
                Expr::Number(value)
            }
            Token::Text(Ok(text)) => {
                self.next();
                Expr::String(text)
            }
            Token::Text(Err(literal)) => {
                return self.error(start, format!("string {literal} is not valid UTF-8"));
            }
            Token::Symbol("(") => {
                self.next();
                let inner = self.expr(0)?;
                self.demand(")", "paren expression")?;
                return Ok(Placed { expr: inner.expr, start, inner: inner.inner, is_enclosed: true });
            }
            Token::Symbol("{") => Expr::Selector(self.selector(None)?),
            Token::Word(word) => {
                let calls = *self.after_next() == Token::Symbol("(");
                if let Some(aggregate) = self.aggregate(&word)? {
                    aggregate
                } else if calls {
                    self.call(&word)?
                } else if matches!(
                    &word.to_ascii_lowercase()[..],
                    "bool" | "on" | "ignoring" | "group_left" | "group_right" | "atan2"
                ) {
                    return Err(self.unexpected(""));
                } else {
                    self.next();
                    Expr::Selector(self.selector(Some(word))?)
                }
            }
            _ => return Err(self.unexpected("")),
        };
        Ok(self.placed(expr, start))
    }

    fn call(&mut self, name: &str) -> Result<Expr, ParseError> {
        let at = self.at();
        let function =
            signature::function(name).map_err(|message| ParseError::at(self.query, at, message))?;
        let what = format!("function {name:?} is");
        let is_on = self.features.experimental_functions || !function.is_experimental();
        self.demand_feature(is_on, at, &what, "query.experimental_functions")?;
        self.next();
        let args = self.args("function call", function == Function::Info)?;
        signature::check(self.query, at, function, &args)?;
        let arg_spans = args.iter().map(|arg| arg.inner).collect();
        let args = args.into_iter().map(|arg| arg.expr).collect();
        Ok(Expr::Call(Call { function, args, span: self.span(at), arg_spans }))
    }

    /// `(a, b)`. A selector alone in the place of the second may match anything
    /// if `takes_labels`: it only names labels there.
    fn args(&mut self, within: &str, takes_labels: bool) -> Result<Vec<Placed>, ParseError> {
        self.demand("(", within)?;
        let mut args = Vec::new();
        if self.take(")") {
            return Ok(args);
        }
        loop {
            let start = self.at();
            args.push(if takes_labels && args.len() == 1 && *self.peek() == Token::Symbol("{") {
                let selector = self.any_selector()?;
                self.placed(Expr::Selector(selector), start)
            } else {
                self.expr(0)?
            });
            if self.take(")") {
                return Ok(args);
            }
            let comma = self.at();
            self.demand(",", within)?;
            if *self.peek() == Token::Symbol(")") {
                return self.error(comma, "trailing commas not allowed in function call args");
            }
        }
    }

    /// `sum by (a) (b)` or `sum (b) by (a)`, if the word begins one.
    fn aggregate(&mut self, word: &str) -> Result<Option<Expr>, ParseError> {
        let at = self.at();
        let begins = match self.after_next() {
            Token::Symbol("(") => true,
            Token::Word(word) => word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without"),
            _ => false,
        };
        let name = word.to_ascii_lowercase();
        let Some(op) = AggregateOp::from_name(&name).filter(|_| begins) else { return Ok(None) };
        let is_on = self.features.experimental_functions || !op.is_experimental();
        self.demand_feature(is_on, at, &format!("{name}() is"), "query.experimental_functions")?;
        self.next();
        let before = self.grouping()?;
        if let (AggregateOp::CountValues, Token::Text(Err(literal))) = (op, self.after_next()) {
            return self.error(self.at(), format!("invalid label name {literal}"));
        }
        let mut args = self.args("aggregation", false)?;
        let grouping = match before {
            Some(grouping) => grouping,
            None => self.grouping()?.unwrap_or(Grouping::By(Vec::new())),
        };
        let wanted = if op.takes_parameter() { 2 } else { 1 };
        if args.is_empty() {
            return self.error(at, "no arguments for aggregate expression provided");
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return self.error(at, message);
        }
        let of = args.pop().expect("there are one or two");
        signature::expect(self.query, of.start, &of.expr, ValueType::Vector, "aggregation expression")?;
        let param = args.pop();
        if let Some(Placed { expr: param, start, .. }) = &param {
            let wanted = if op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
            signature::expect(self.query, *start, param, wanted, "aggregation parameter")?;
            if matches!(param, Expr::String(name) if name.is_empty()) {
                return self.error(*start, "invalid label name \"\"");
            }
        }
        let span = self.span(at);
        Ok(Some(Expr::Aggregate(Box::new(Aggregate {
            op,
            expr_span: of.inner,
            expr: of.expr,
            param_span: param.as_ref().map_or(span, |param| param.inner),
            param: param.map(|param| param.expr),
            grouping,
            span,
        }))))
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let word = self.word();
        let is_by = word.as_deref() == Some("by");
        if !is_by && word.as_deref() != Some("without") {
            return Ok(None);
        }
        self.next();
        let labels = self.labels("grouping opts")?;
        Ok(Some(if is_by { Grouping::By(labels) } else { Grouping::Without(labels) }))
    }
}
