//! From text to tokens, each with its place.
//!
//! Words are not told apart here: `sum` is a word, and the grammar knows where
//! it is an aggregation and where a metric's name.

use super::ParseError;
use super::number;
use crate::text::unquote;

/// Deepest nesting of parentheses, brackets, braces and powers.
pub(super) const NESTING_MAX: usize = 100;

/// Most operators: the tree gets as deep as a chain of them is long.
const OPERATORS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A number, or a duration in seconds.
    Number(f64),
    /// A name, keyword or word operator, as written.
    Word(String),
    /// Its value, or as written when that is not UTF-8.
    Text(Result<String, String>),
    /// `+`, `==`, `(`, and so on.
    Symbol(&'static str),
    End,
}

/// A token, its first byte and the one behind its last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spanned {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

/// Longest first where one begins another.
const SYMBOLS: [&str; 27] = [
    "</", ">/", "==", "!=", "=~", "!~", ">=", "<=", "=", ">", "<", "+", "-", "*", "/", "%", "^", "@", "(",
    ")", "{", "}", "[", "]", ",", ":", "!",
];

/// All tokens of a query; the last is [`Token::End`], and stands where the text
/// makes no sense any more if there is an error.
pub(super) fn tokens(query: &str) -> (Vec<Spanned>, Option<ParseError>) {
    let mut scanner = Scanner { query, position: 0, open: Vec::new(), operators: 0 };
    let mut tokens = Vec::new();
    loop {
        let before = scanner.position;
        let token = match scanner.next() {
            Ok(token) => token,
            Err(error) => {
                tokens.push(Spanned { token: Token::End, start: before, end: before });
                return (tokens, Some(error));
            }
        };
        assert!(token.token == Token::End || scanner.position > before, "every token takes some text");
        let is_end = token.token == Token::End;
        tokens.push(token);
        if is_end {
            return (tokens, None);
        }
    }
}

struct Scanner<'q> {
    query: &'q str,
    position: usize,
    /// Brackets that are open, and where.
    open: Vec<(&'static str, usize)>,
    operators: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Result<Spanned, ParseError> {
        self.skip_space();
        let start = self.position;
        let token = match self.peek() {
            None => self.end()?,
            Some('"' | '\'' | '`') => self.text()?,
            Some(c) if c.is_ascii_digit() && self.is_within("{") => {
                let message = format!("unexpected character inside braces: {c:?}");
                return Err(ParseError::at(self.query, start, message));
            }
            Some(c) if c.is_ascii_digit() || (c == '.' && self.digit_follows()) => self.number()?,
            Some(c) if c.is_ascii_alphabetic() || c == '_' || (c == ':' && self.takes_colons()) => {
                self.word()?
            }
            Some(c) => self.symbol(c)?,
        };
        Ok(Spanned { token, start, end: self.position })
    }

    fn peek(&self) -> Option<char> {
        self.query[self.position..].chars().next()
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) {
        while let Some(c) = self.peek().filter(|c| accept(*c)) {
            self.position += c.len_utf8();
        }
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(|c| c.is_ascii_whitespace());
            if self.peek() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n' && c != '\r');
        }
    }

    fn digit_follows(&self) -> bool {
        self.query[self.position + 1..].starts_with(|c: char| c.is_ascii_digit())
    }

    fn is_within(&self, bracket: &str) -> bool {
        self.open.last().is_some_and(|(open, _)| *open == bracket)
    }

    /// Whether colons belong to names here: labels have none, and in a range
    /// they stand before the step.
    fn takes_colons(&self) -> bool {
        !self.is_within("[") && !self.is_within("{")
    }

    fn end(&self) -> Result<Token, ParseError> {
        let Some((open, _)) = self.open.last() else { return Ok(Token::End) };
        let message = match *open {
            "(" => "unclosed left parenthesis",
            "[" => "unclosed left bracket",
            _ => "unexpected end of input inside braces",
        };
        Err(ParseError::at(self.query, self.position, message))
    }

    fn text(&mut self) -> Result<Token, ParseError> {
        let start = self.position;
        let quote = self.query.as_bytes()[start];
        self.position += 1;
        while let Some(c) = self.peek() {
            self.position += c.len_utf8();
            if c == char::from(quote) {
                let literal = &self.query[start..self.position];
                let value = unquote(literal).map_err(|why| ParseError::at(self.query, start, why))?;
                return Ok(Token::Text(value.ok_or_else(|| literal.to_owned())));
            }
            if c == '\\' && quote != b'`' {
                self.position += self.peek().map_or(0, char::len_utf8);
            }
        }
        Err(ParseError::at(self.query, start, "unterminated quoted string"))
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let start = self.position;
        let mut before = ' ';
        while let Some(c) = self.peek() {
            let is_hexadecimal =
                self.query[start..].starts_with("0x") || self.query[start..].starts_with("0X");
            let is_exponent_sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E') && !is_hexadecimal;
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_exponent_sign) {
                break;
            }
            before = c;
            self.position += 1;
        }
        let text = &self.query[start..self.position];
        number::parse(text).map(Token::Number).map_err(|why| ParseError::at(self.query, start, why))
    }

    fn word(&mut self) -> Result<Token, ParseError> {
        let start = self.position;
        let takes_colons = self.takes_colons();
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && takes_colons));
        let word = &self.query[start..self.position];
        let is_operator =
            ["and", "or", "unless", "atan2", "offset"].iter().any(|op| word.eq_ignore_ascii_case(op));
        self.count(is_operator, start)?;
        match &word.to_ascii_lowercase()[..] {
            "inf" => Ok(Token::Number(f64::INFINITY)),
            "nan" => Ok(Token::Number(f64::NAN)),
            _ => Ok(Token::Word(word.to_owned())),
        }
    }

    fn symbol(&mut self, c: char) -> Result<Token, ParseError> {
        let (start, rest) = (self.position, &self.query[self.position..]);
        let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) else {
            return Err(ParseError::at(self.query, start, format!("unexpected character: {c:?}")));
        };
        match symbol {
            "(" | "[" | "{" => {
                self.open.push((symbol, start));
                if self.open.len() > NESTING_MAX {
                    let message = format!("nested deeper than {NESTING_MAX}");
                    return Err(ParseError::at(self.query, start, message));
                }
            }
            ")" | "]" | "}" => {
                let (name, opening) = match symbol {
                    ")" => ("right parenthesis ')'", "("),
                    "]" => ("right bracket ']'", "["),
                    _ => ("right brace '}'", "{"),
                };
                if !self.is_within(opening) {
                    // Behind it, as Prometheus points.
                    return Err(ParseError::at(self.query, start + 1, format!("unexpected {name}")));
                }
                self.open.pop();
            }
            "!" => return Err(ParseError::at(self.query, start, "unexpected character after '!'")),
            "," | ":" => {}
            _ => self.count(true, start)?,
        }
        self.position += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn count(&mut self, is_operator: bool, at: usize) -> Result<(), ParseError> {
        self.operators += usize::from(is_operator);
        if self.operators > OPERATORS_MAX {
            return Err(ParseError::at(self.query, at, format!("more than {OPERATORS_MAX} operators")));
        }
        Ok(())
    }
}

impl Token {
    /// As errors name it.
    pub fn describe(&self, text: &str) -> String {
        match self {
            Token::End => "end of input".to_owned(),
            Token::Number(_) => format!("number {text:?}"),
            Token::Text(_) => format!("string {text:?}"),
            Token::Word(word) if is_operator_word(word) => format!("<op:{}>", word.to_ascii_lowercase()),
            Token::Word(word) if is_keyword(word) => format!("<{}>", word.to_ascii_lowercase()),
            Token::Word(_) => format!("identifier {text:?}"),
            Token::Symbol("(" | ")" | "{" | "}" | "[" | "]" | "," | ":" | "@") => format!("{text:?}"),
            Token::Symbol(symbol) => format!("<op:{symbol}>"),
        }
    }
}

fn is_operator_word(word: &str) -> bool {
    ["and", "or", "unless", "atan2"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn is_keyword(word: &str) -> bool {
    ["by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}
