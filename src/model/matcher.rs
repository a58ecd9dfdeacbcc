//! `=`, `!=`, `=~`, `!~` on one label.

use std::fmt;
use std::sync::Arc;

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};
use thiserror::Error;

use crate::model::labels::{go_quote, is_legacy_label_name};

/// A compiled pattern may take this much memory; Prometheus has no such limit but runs on RE2, which does.
const REGEX_BYTES_MAX: usize = 10 << 20;

/// An alternation with more words than this stays a pattern.
const SET_WORDS_MAX: usize = 10_000;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchType {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchType {
    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// The pattern is not a regular expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    /// As given.
    pub pattern: String,
    /// What the compiler said, on one line.
    pub reason: String,
}

/// One comparison of one label. An absent label compares as the empty string. Cloning is cheap.
#[derive(Clone)]
pub struct Matcher {
    /// How.
    pub match_type: MatchType,
    /// Which label.
    pub name: Arc<str>,
    /// With what; the pattern as written for the regular ones.
    pub value: Arc<str>,
    pattern: Option<Arc<Pattern>>,
}

/// What is known of an anchored pattern beyond the automaton.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// The pattern is exactly these words.
    words: Option<Vec<String>>,
    /// Every match starts with this; empty when nothing is known.
    prefix: String,
}

impl Matcher {
    /// Compiles patterns, anchored on both ends, with `.` matching newlines, in Go's dialect.
    pub fn new(match_type: MatchType, name: &str, value: &str) -> Result<Self, MatcherError> {
        let pattern = match match_type {
            MatchType::Equal | MatchType::NotEqual => None,
            MatchType::Regex | MatchType::NotRegex => Some(Arc::new(Pattern::new(value)?)),
        };
        Ok(Self {
            match_type,
            name: Arc::from(name),
            value: Arc::from(value),
            pattern,
        })
    }

    /// `name="value"`, which cannot fail.
    pub fn equal(name: &str, value: &str) -> Self {
        Self {
            match_type: MatchType::Equal,
            name: Arc::from(name),
            value: Arc::from(value),
            pattern: None,
        }
    }

    /// Does a label value (empty when the label is absent) match?
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.pattern {
            None => *self.value == *value,
            Some(pattern) => pattern.is_match(value),
        };
        hit != self.is_negative()
    }

    /// `!=` or `!~`.
    pub fn is_negative(&self) -> bool {
        matches!(self.match_type, MatchType::NotEqual | MatchType::NotRegex)
    }

    /// Does it match series that lack the label?
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// For `=~` and `!~`: the exact words the pattern stands for, when it is an alternation of literals.
    pub fn words(&self) -> Option<&[String]> {
        self.pattern.as_ref()?.words.as_deref()
    }

    /// For `=~` and `!~`: what every matching value starts with; empty when nothing is known.
    pub fn prefix(&self) -> &str {
        self.pattern
            .as_ref()
            .map_or("", |pattern| pattern.prefix.as_str())
    }
}

/// Compiles a pattern in Go's dialect, anchored on both ends, with `.` matching newlines: for matchers and relabelling.
pub fn compile_anchored(go_pattern: &str) -> Result<Regex, MatcherError> {
    let translated = anchored(go_pattern);
    regex::RegexBuilder::new(&translated)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| refused(go_pattern, &error.to_string()))
}

fn anchored(go_pattern: &str) -> String {
    format!("^(?s:{})$", translate_go_pattern(go_pattern))
}

fn refused(go_pattern: &str, reason: &str) -> MatcherError {
    MatcherError {
        pattern: go_pattern.to_owned(),
        reason: reason
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}

impl Pattern {
    fn new(go_pattern: &str) -> Result<Self, MatcherError> {
        let regex = compile_anchored(go_pattern)?;
        let hir = regex_syntax::parse(&anchored(go_pattern))
            .map_err(|error| refused(go_pattern, &error.to_string()))?;
        let inner = without_anchors(&hir);
        let words = inner
            .as_ref()
            .and_then(words_of)
            .filter(|words| words.len() <= SET_WORDS_MAX)
            .map(|mut words| {
                words.sort_unstable();
                words.dedup();
                words
            });
        let prefix = inner.as_ref().map(prefix_of).unwrap_or_default();
        Ok(Self {
            regex,
            words,
            prefix,
        })
    }

    fn is_match(&self, value: &str) -> bool {
        match &self.words {
            Some(words) => words
                .binary_search_by(|word| word.as_str().cmp(value))
                .is_ok(),
            None => value.starts_with(self.prefix.as_str()) && self.regex.is_match(value),
        }
    }
}

/// The middle of `^(…)$`.
fn without_anchors(hir: &Hir) -> Option<Hir> {
    match hir.kind() {
        HirKind::Concat(parts) => match parts.as_slice() {
            [_start, middle @ .., _end] => Some(Hir::concat(middle.to_vec())),
            _ => None,
        },
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_)
        | HirKind::Alternation(_) => None,
    }
}

fn strip_captures(mut hir: &Hir) -> &Hir {
    while let HirKind::Capture(capture) = hir.kind() {
        hir = &capture.sub;
    }
    hir
}

/// All the strings a pattern stands for, if they are few and finite.
fn words_of(hir: &Hir) -> Option<Vec<String>> {
    match strip_captures(hir).kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Class(Class::Unicode(class)) => {
            let n: u64 = class
                .iter()
                .map(|range| u64::from(u32::from(range.end()) - u32::from(range.start())) + 1)
                .sum();
            (n <= 16).then(|| {
                class
                    .iter()
                    .flat_map(|range| (range.start()..=range.end()).map(String::from))
                    .collect()
            })
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(words_of(part)?);
                if SET_WORDS_MAX < all.len() {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                let ends = words_of(part)?;
                if SET_WORDS_MAX < all.len().saturating_mul(ends.len()) {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|start| ends.iter().map(move |end| format!("{start}{end}")))
                    .collect();
            }
            Some(all)
        }
        HirKind::Class(Class::Bytes(_))
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_) => None,
    }
}

fn prefix_of(hir: &Hir) -> String {
    match strip_captures(hir).kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).unwrap_or_default(),
        HirKind::Concat(parts) => {
            let mut prefix = String::new();
            for part in parts {
                match words_of(part).as_deref() {
                    Some([word]) => prefix.push_str(word),
                    _ => break,
                }
            }
            prefix
        }
        HirKind::Empty
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Alternation(_)
        | HirKind::Capture(_) => String::new(),
    }
}

/// Rewrites what Go's RE2 takes and the `regex` crate does not: `\Q…\E`, octal escapes, `\C`-free, `{` as a literal.
///
/// The other direction (`a++`, `a{,2}`, class set operations) is left to the crate, which reads them its own way.
pub fn translate_go_pattern(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\\' => {
                rest = translate_escape(tail, in_class, &mut out);
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                let negated = tail.strip_prefix('^');
                if negated.is_some() {
                    out.push('^');
                }
                let mut after = negated.unwrap_or(tail);
                // A `]` right after the bracket is a member, in Go and here alike.
                if let Some(more) = after.strip_prefix(']') {
                    out.push_str("\\]");
                    after = more;
                }
                rest = after;
                continue;
            }
            // Go has no nested classes and no set operations: these are members.
            '[' if !tail.starts_with(':') => out.push_str("\\["),
            '[' => {
                let (name, after) = tail.split_once(":]").unwrap_or((tail, ""));
                out.push('[');
                out.push_str(name);
                out.push_str(":]");
                rest = after;
                continue;
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && tail.starts_with('-') => out.push_str("\\-"),
            '{' if !in_class && is_repetition(tail) => {
                rest = copy_braces(rest, &mut out);
                continue;
            }
            '{' | '}' if !in_class => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        rest = tail;
    }
    out
}

/// Translates what follows a backslash and returns what comes after it.
fn translate_escape<'a>(tail: &'a str, in_class: bool, out: &mut String) -> &'a str {
    if let Some(quoted) = tail.strip_prefix('Q').filter(|_| !in_class) {
        let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        out.push_str(&regex::escape(literal));
        return after;
    }
    let n_octal = tail
        .bytes()
        .take(3)
        .take_while(|b| matches!(b, b'0'..=b'7'))
        .count();
    if n_octal > 1 || tail.starts_with('0') {
        let (digits, after) = tail.split_at_checked(n_octal).unwrap_or((tail, ""));
        let value = u32::from_str_radix(digits, 8).unwrap_or_default();
        out.push_str(&format!("\\x{{{value:x}}}"));
        return after;
    }
    out.push('\\');
    let Some(escaped) = tail.chars().next() else {
        return tail;
    };
    out.push(escaped);
    let after = tail.get(escaped.len_utf8()..).unwrap_or_default();
    if matches!(escaped, 'x' | 'p' | 'P') && after.starts_with('{') {
        return copy_braces(after, out);
    }
    after
}

/// `n}`, `n,}` or `n,m}`: what makes Go read a `{` as a repetition.
fn is_repetition(tail: &str) -> bool {
    let Some((inside, _)) = tail.split_once('}') else {
        return false;
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    !low.is_empty() && low.bytes().chain(high.bytes()).all(|b| b.is_ascii_digit())
}

/// Copies from an opening brace to its end and returns what follows.
fn copy_braces<'a>(rest: &'a str, out: &mut String) -> &'a str {
    match rest.split_once('}') {
        Some((inside, after)) => {
            out.push_str(inside);
            out.push('}');
            after
        }
        None => {
            out.push_str(rest);
            ""
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.match_type == other.match_type && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.match_type.hash(state);
        self.name.hash(state);
        self.value.hash(state);
    }
}

/// As PromQL writes it: `name=~"pattern"`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&go_quote(&self.name))?;
        }
        write!(f, "{}{}", self.match_type.as_str(), go_quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new(MatchType::Regex, "job", pattern).unwrap()
    }

    #[test]
    fn patterns_are_anchored_and_dots_match_newlines() {
        let matcher = regex("a.c");
        assert!(matcher.matches("a\nc"));
        assert!(!matcher.matches("xabc"));
        assert!(!regex("a|b").matches("ab"));
        assert!(regex("a$|b").matches("a"));
    }

    #[test]
    fn alternations_of_words_become_sets() {
        assert_eq!(
            regex("b|a|b").words(),
            Some(&["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!(
            regex("node-(1|2)").words(),
            Some(&["node-1".to_owned(), "node-2".to_owned()][..])
        );
        assert_eq!(regex("a.*").words(), None);
        assert_eq!(regex("node-.*").prefix(), "node-");
        assert!(regex("node-(1|2)").matches("node-2"));
        assert!(regex("").matches_empty());
        assert!(!regex(".+").matches_empty());
    }

    #[test]
    fn go_dialect_is_understood() {
        assert!(regex(r"\Qa.b\E+").matches("a.bb"));
        assert!(!regex(r"\Qa.b\E").matches("axb"));
        assert!(regex(r"a{").matches("a{"));
        assert!(regex(r"{job}").matches("{job}"));
        assert!(regex(r"a{2}").matches("aa"));
        assert!(regex(r"a{2,3}b}").matches("aaab}"));
        assert!(regex(r"\x{61}\p{Lu}").matches("aB"));
        assert!(regex(r"\141").matches("a"));
        assert!(regex(r"[[:alpha:]&&]+").matches("a&"));
        assert!(regex(r"[]a]+").matches("]a"));
        assert!(Matcher::new(MatchType::Regex, "a", "(").is_err());
    }

    #[test]
    fn negative_matchers_see_absent_labels_as_empty() {
        assert!(
            Matcher::new(MatchType::NotEqual, "a", "x")
                .unwrap()
                .matches_empty()
        );
        assert!(
            !Matcher::new(MatchType::NotRegex, "a", ".*")
                .unwrap()
                .matches_empty()
        );
        assert_eq!(Matcher::equal("a", "x\"y").to_string(), r#"a="x\"y""#);
    }
}
