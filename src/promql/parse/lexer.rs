//! Text to tokens. What a character means depends on where it stands: outside, between braces, between brackets.

use crate::promql::parse::ast::{BinaryOp, Span};
use crate::promql::parse::error::ParseError;
use crate::promql::parse::number_scan::{NumberScan, scan_number};
use crate::promql::parse::token::{Keyword, Token, TokenKind, duration_word};

/// Walks the text once and remembers which brackets are open.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    /// Where the token being read begins; errors point here.
    start: usize,
    paren_depth: usize,
    mode: Mode,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
}

/// Which characters mean what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Outside braces.
    Statement,
    /// Between braces, where no word is a keyword.
    Braces,
    /// Between `[` and the first number, where only the words of durations are known.
    Duration,
}

type Lexed = Result<Token, ParseError>;

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            pos: 0,
            start: 0,
            paren_depth: 0,
            mode: Mode::Statement,
            bracket_open: false,
            got_colon: false,
            got_duration: false,
        }
    }

    /// The next token; after the end of the text always [`TokenKind::Eof`].
    pub(super) fn next_token(&mut self) -> Lexed {
        loop {
            self.start = self.pos;
            let found = match self.mode {
                Mode::Duration => self.duration_token()?,
                Mode::Braces | Mode::Statement if self.rest().starts_with('#') => {
                    self.skip_comment();
                    None
                }
                Mode::Braces => self.brace_token()?,
                Mode::Statement => self.statement_token()?,
            };
            if let Some(kind) = found {
                return Ok(Token {
                    kind,
                    span: Span {
                        start: self.start,
                        end: self.pos,
                    },
                });
            }
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// Takes `wanted` if it is next.
    fn accept(&mut self, wanted: char) -> bool {
        let hit = self.peek() == Some(wanted);
        if hit {
            self.next();
        }
        hit
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&keep) {
            self.next();
        }
    }

    fn word(&self) -> &'a str {
        self.text.get(self.start..self.pos).unwrap_or_default()
    }

    fn skip_comment(&mut self) {
        self.skip_while(|c| c != '\n' && c != '\r');
    }

    fn fail<T>(&self, message: String) -> Result<T, ParseError> {
        let span = Span {
            start: self.start,
            end: self.text.len(),
        };
        Err(ParseError::at(self.text, span, message))
    }

    /// As `fail`, but pointing behind what was just read.
    fn fail_after<T>(&mut self, message: String) -> Result<T, ParseError> {
        self.start = self.pos;
        self.fail(message)
    }

    /// One token outside braces; `None` for white space.
    fn statement_token(&mut self) -> Result<Option<TokenKind>, ParseError> {
        let Some(c) = self.next() else {
            if self.paren_depth != 0 {
                return self.fail("unclosed left parenthesis".to_owned());
            }
            if self.bracket_open {
                return self.fail("unclosed left bracket".to_owned());
            }
            return Ok(Some(TokenKind::Eof));
        };
        if let Some(kind) = self.simple_operator(c) {
            return Ok(Some(kind));
        }
        Ok(Some(match c {
            ',' => TokenKind::Comma,
            '@' => TokenKind::At,
            '=' => match self.peek() {
                Some('=') => {
                    self.next();
                    TokenKind::Op(BinaryOp::Eq)
                }
                Some('~') => return self.fail("unexpected character after '=': '~'".to_owned()),
                Some(_) | None => TokenKind::Assign,
            },
            '!' => {
                let after = self.next();
                if after != Some('=') {
                    return self.fail(format!(
                        "unexpected character after '!': {}",
                        quote_char(after)
                    ));
                }
                TokenKind::Op(BinaryOp::Ne)
            }
            '"' | '\'' => self.quoted(c)?,
            '`' => self.raw()?,
            '(' => {
                self.paren_depth += 1;
                TokenKind::LeftParen
            }
            ')' => self.right_paren()?,
            '{' => {
                self.mode = Mode::Braces;
                TokenKind::LeftBrace
            }
            '[' => {
                if self.bracket_open {
                    return self.fail("unexpected left bracket '['".to_owned());
                }
                self.bracket_open = true;
                self.mode = Mode::Duration;
                self.got_colon = false;
                TokenKind::LeftBracket
            }
            ']' => {
                if !self.bracket_open {
                    return self.fail("unexpected right bracket ']'".to_owned());
                }
                self.bracket_open = false;
                TokenKind::RightBracket
            }
            c if is_space(c) => {
                self.skip_while(is_space);
                return Ok(None);
            }
            c if self.starts_number(c) => self.number_or_duration()?,
            c if is_alpha(c) || c == ':' => self.word_or_colon(c)?,
            c => return self.fail(format!("unexpected character: {}", quote_char(Some(c)))),
        }))
    }

    /// Operators that need at most one character of what follows.
    fn simple_operator(&mut self, c: char) -> Option<TokenKind> {
        Some(TokenKind::Op(match c {
            '*' => BinaryOp::Mul,
            '/' => BinaryOp::Div,
            '%' => BinaryOp::Mod,
            '+' => BinaryOp::Add,
            '-' => BinaryOp::Sub,
            '^' => BinaryOp::Pow,
            '<' if self.accept('=') => BinaryOp::Le,
            '<' if self.accept('/') => BinaryOp::TrimUpper,
            '<' => BinaryOp::Lt,
            '>' if self.accept('=') => BinaryOp::Ge,
            '>' if self.accept('/') => BinaryOp::TrimLower,
            '>' => BinaryOp::Gt,
            _ => return None,
        }))
    }

    fn starts_number(&self, c: char) -> bool {
        c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|next| next.is_ascii_digit()))
    }

    fn right_paren(&mut self) -> Result<TokenKind, ParseError> {
        match self.paren_depth.checked_sub(1) {
            Some(depth) => self.paren_depth = depth,
            None => return self.fail_after("unexpected right parenthesis ')'".to_owned()),
        }
        Ok(TokenKind::RightParen)
    }

    fn word_or_colon(&mut self, first: char) -> Result<TokenKind, ParseError> {
        if !self.bracket_open {
            return Ok(self.keyword_or_identifier());
        }
        if first == ':' {
            if self.got_colon {
                return self.fail("unexpected colon ':'".to_owned());
            }
            self.got_colon = true;
            return Ok(TokenKind::Colon);
        }
        match self.duration_keyword(first) {
            Some(kind) => Ok(kind),
            None => self.fail(format!(
                "unexpected character: {}, expected ':'",
                quote_char(Some(first))
            )),
        }
    }

    /// `step`, `range`, `min_of` or `max_of`, in any case.
    fn duration_keyword(&mut self, first: char) -> Option<TokenKind> {
        if !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return None;
        }
        self.skip_while(is_alpha);
        duration_word(&self.word().to_ascii_lowercase()).map(TokenKind::Preprocessor)
    }

    fn keyword_or_identifier(&mut self) -> TokenKind {
        self.skip_while(|c| is_alpha(c) || c.is_ascii_digit() || c == ':');
        let word = self.word();
        match TokenKind::of_word(word) {
            // `fill` stays a name unless it is called, so that metrics of that name keep working.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.rest().trim_start_matches(is_space).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        }
    }

    /// One token in [`Mode::Duration`]; `None` for white space.
    fn duration_token(&mut self) -> Result<Option<TokenKind>, ParseError> {
        let Some(c) = self.next() else {
            return self.fail("unexpected end of input in duration expression".to_owned());
        };
        Ok(Some(match c {
            ']' => {
                self.bracket_open = false;
                self.mode = Mode::Statement;
                self.got_colon = false;
                TokenKind::RightBracket
            }
            ':' if !self.got_duration => {
                return self.fail_after(
                    "unexpected colon before duration in duration expression".to_owned(),
                );
            }
            ':' if self.got_colon => {
                return self
                    .fail_after("unexpected repeated colon in duration expression".to_owned());
            }
            ':' => {
                self.got_colon = true;
                TokenKind::Colon
            }
            '(' => {
                self.paren_depth += 1;
                TokenKind::LeftParen
            }
            ')' => self.right_paren()?,
            ',' => TokenKind::Comma,
            '+' => TokenKind::Op(BinaryOp::Add),
            '-' => TokenKind::Op(BinaryOp::Sub),
            '*' => TokenKind::Op(BinaryOp::Mul),
            '/' => TokenKind::Op(BinaryOp::Div),
            '%' => TokenKind::Op(BinaryOp::Mod),
            '^' => TokenKind::Op(BinaryOp::Pow),
            c if is_space(c) => {
                self.skip_while(is_space);
                return Ok(None);
            }
            c if self.starts_number(c) => {
                self.got_duration = true;
                self.mode = Mode::Statement;
                self.number_or_duration()?
            }
            c => match self.duration_keyword(c) {
                Some(kind) => kind,
                None => {
                    return self.fail(format!(
                        "unexpected character in duration expression: {}",
                        quote_char(Some(c))
                    ));
                }
            },
        }))
    }

    /// One token in [`Mode::Braces`]; `None` for white space.
    fn brace_token(&mut self) -> Result<Option<TokenKind>, ParseError> {
        let Some(c) = self.next() else {
            return self.fail("unexpected end of input inside braces".to_owned());
        };
        Ok(Some(match c {
            ',' => TokenKind::Comma,
            '"' | '\'' => self.quoted(c)?,
            '`' => self.raw()?,
            '=' if self.accept('~') => TokenKind::RegexMatch,
            '=' => TokenKind::Assign,
            '!' => match self.next() {
                Some('~') => TokenKind::RegexNotMatch,
                Some('=') => TokenKind::Op(BinaryOp::Ne),
                after => {
                    return self.fail(format!(
                        "unexpected character after '!' inside braces: {}",
                        quote_char(after)
                    ));
                }
            },
            '{' => return self.fail("unexpected left brace '{'".to_owned()),
            '}' => {
                self.mode = Mode::Statement;
                TokenKind::RightBrace
            }
            c if is_space(c) => {
                self.skip_while(is_space);
                return Ok(None);
            }
            c if is_alpha(c) => {
                self.skip_while(|c| is_alpha(c) || c.is_ascii_digit());
                TokenKind::Identifier
            }
            c => {
                return self.fail(format!(
                    "unexpected character inside braces: {}",
                    quote_char(Some(c))
                ));
            }
        }))
    }

    fn number_or_duration(&mut self) -> Result<TokenKind, ParseError> {
        let (found, end) = scan_number(self.text, self.start);
        self.pos = end;
        match found {
            NumberScan::Number => Ok(TokenKind::Number),
            NumberScan::Duration => Ok(TokenKind::Duration),
            NumberScan::Neither => self.fail(format!(
                "bad number or duration syntax: {}",
                crate::model::labels::go_quote(self.word())
            )),
        }
    }

    /// The rest of a string whose opening quote is read.
    fn quoted(&mut self, quote: char) -> Result<TokenKind, ParseError> {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some(char::REPLACEMENT_CHARACTER) => {
                    return self.fail("invalid UTF-8 rune".to_owned());
                }
                None | Some('\n') => return self.fail("unterminated quoted string".to_owned()),
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some(_) => (),
            }
        }
    }

    /// The rest of a backtick string.
    fn raw(&mut self) -> Result<TokenKind, ParseError> {
        loop {
            match self.next() {
                Some(char::REPLACEMENT_CHARACTER) => {
                    return self.fail("invalid UTF-8 rune".to_owned());
                }
                None => return self.fail("unterminated raw string".to_owned()),
                Some('`') => return Ok(TokenKind::String),
                Some(_) => (),
            }
        }
    }

    /// Checks what follows a backslash; the value is computed when the string is used.
    fn escape(&mut self, quote: char) -> Result<(), ParseError> {
        let Some(c) = self.next() else {
            return self.fail("escape sequence not terminated".to_owned());
        };
        let (mut n_digits, radix, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, u32::from(char::MAX)),
            'U' => (8, 16, u32::from(char::MAX)),
            c => {
                return self.fail(format!(
                    "unknown escape sequence {}",
                    describe_code_point(c)
                ));
            }
        };
        let mut value = 0u32;
        let mut digit = if radix == 8 { Some(c) } else { self.next() };
        while n_digits > 0 {
            let Some(c) = digit else {
                return self.fail("escape sequence not terminated".to_owned());
            };
            let Some(d) = c.to_digit(radix) else {
                return self.fail(format!(
                    "illegal character {} in escape sequence",
                    describe_code_point(c)
                ));
            };
            value = value.wrapping_mul(radix).wrapping_add(d);
            n_digits -= 1;
            if n_digits > 0 {
                digit = self.next();
            }
        }
        if max < value || (0xd800..0xe000).contains(&value) {
            return self.fail("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

pub(super) fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

/// `U+0041 'A'`, as messages name a character; only the number when it cannot be shown.
fn describe_code_point(c: char) -> String {
    let number = format!("U+{:04X}", u32::from(c));
    if c.is_control() {
        number
    } else {
        format!("{number} '{c}'")
    }
}

/// A character in single quotes; the end of the input shows as the replacement character.
fn quote_char(c: Option<char>) -> String {
    let Some(c) = c else {
        return format!("'{}'", char::REPLACEMENT_CHARACTER);
    };
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let quoted = crate::model::labels::go_quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", quoted.trim_matches('"'))
        }
    }
}
