//! Where a number or duration ends. What it is worth is computed when it is used.

use crate::promql::parse::lexer::is_alpha;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberScan {
    /// Looks like a number.
    Number,
    /// Looks like a duration.
    Duration,
    /// Neither; the end is where it became clear.
    Neither,
}

/// Scans from byte `start` of `text`; also tells where the token ends.
pub(super) fn scan_number(text: &str, start: usize) -> (NumberScan, usize) {
    let mut scan = Scan { text, pos: start };
    let found = if scan.number() {
        NumberScan::Number
    } else if scan.duration() {
        NumberScan::Duration
    } else {
        NumberScan::Neither
    };
    (found, scan.pos)
}

struct Scan<'a> {
    text: &'a str,
    pos: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.pos..)?.chars().next()
    }

    /// Takes one character if it passes.
    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        match self.peek() {
            Some(c) if wanted(c) => {
                self.pos += c.len_utf8();
                true
            }
            Some(_) | None => false,
        }
    }

    fn is(&self, wanted: impl Fn(char) -> bool) -> bool {
        self.peek().is_some_and(wanted)
    }

    /// Digits with at most one dot and one exponent, single underscores between them; `0x` makes the digits
    /// hexadecimal and forbids the dot.
    fn number(&mut self) -> bool {
        let start = self.pos;
        let mut is_hex = false;
        if self.accept(|c| c == '0') && self.accept(|c| matches!(c, 'x' | 'X')) {
            self.accept(|c| c == '_');
            is_hex = true;
        }
        let is_digit = |c: char| {
            if is_hex {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
        };
        let is_exponent = |c: char| matches!(c, 'e' | 'E');
        self.accept(|c| c == '.');
        self.accept(is_digit);
        let (mut had_dot, mut had_exponent) = (false, false);
        while self.is(|c| is_digit(c) || c == '.' || c == '_' || is_exponent(c)) {
            if had_dot && self.accept(|c| c == '.') {
                return false;
            }
            if had_exponent && self.accept(is_exponent) {
                return false;
            }
            if self.accept(|c| c == '.') {
                had_dot = true;
                if self.accept(|c| matches!(c, '_' | '.')) || is_hex {
                    return false;
                }
            } else if self.accept(is_exponent) {
                had_exponent = true;
                self.accept(|c| matches!(c, '+' | '-'));
                if self.accept(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                    return false;
                }
            } else if self.accept(|c| c == '_') {
                if self.accept(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(is_digit) {}
            }
        }
        self.pos != start && !self.is(|c| is_alpha(c) || c.is_ascii_digit())
    }

    /// A unit, then more digits and units. That they descend is checked when the value is computed.
    fn duration(&mut self) -> bool {
        if !self.accept(|c| matches!(c, 's' | 'm' | 'h' | 'd' | 'w' | 'y')) {
            return false;
        }
        self.accept(|c| c == 's');
        while self.accept(|c| c.is_ascii_digit()) {
            while self.accept(|c| c.is_ascii_digit()) {}
            if !self.accept(|c| matches!(c, 's' | 'm' | 'h' | 'd' | 'w')) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        // What runs on is part of the complaint.
        !self.accept(|c| is_alpha(c) || c.is_ascii_digit())
    }
}
