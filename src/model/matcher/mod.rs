//! `=`, `!=`, `=~`, `!~` on one label.
//!
//! Owns: Go's dialect of regular expressions, and what can be known of a pattern without running it.
//! Never: knows which values there are; whoever keeps values asks for words and prefixes.
//! Tested by: tables here, and random values against the regular expression itself in `pattern.rs`.
mod dialect;
mod glob;
mod pattern;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::model::labels::{go_quote, is_legacy_label_name};
use crate::model::matcher::pattern::Pattern;

pub use dialect::translate_go_pattern;
pub use pattern::compile_anchored;

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

    /// For `=~` and `!~`: the exact words the pattern stands for, sorted, when they are few and finite.
    pub fn words(&self) -> Option<&[String]> {
        self.pattern.as_ref()?.words()
    }

    /// For `=~` and `!~`: every value the pattern accepts starts with one of these. They are sorted and none is the start of
    /// another; when nothing is known it is one, the empty string.
    pub fn prefixes(&self) -> &[String] {
        self.pattern
            .as_ref()
            .map_or(&[], |pattern| pattern.prefixes())
    }

    /// Is it `=~".*"` or `!~".*"`, whose pattern accepts every value, and its absence too?
    pub fn accepts_everything(&self) -> bool {
        self.pattern
            .as_ref()
            .is_some_and(|pattern| pattern.accepts_everything())
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
        assert_eq!(regex("node-.*").prefixes(), ["node-"]);
        assert!(Matcher::equal("a", "b").prefixes().is_empty());
        assert!(regex("(.*)").accepts_everything() && !regex(".+").accepts_everything());
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
        assert!(regex(r"a{01}").matches("a{01}"));
        assert!(regex(r"\<\p{^Lu}").matches("<a"));
    }

    #[test]
    fn classes_and_boundaries_are_those_of_ascii() {
        for (pattern, value, is_match) in [
            (r"\w", "a", true),
            (r"\w", "é", false),
            (r"\W", "é", true),
            (r"[\w-]", "é", false),
            (r"[^\W]", "é", false),
            (r"\d", "٣", false),
            (r"[\d]+", "12", true),
            (r"\s", "\u{a0}", false),
            (r"\s", "\u{b}", false),
            (r"é\b", "é", false),
            (r"\Bé", "é", true),
            (r"a\b.*", "aé", true),
        ] {
            assert_eq!(
                regex(pattern).matches(value),
                is_match,
                "{pattern} on {value}"
            );
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, fault) in [
            ("x**", "invalid nested repetition operator: `**`"),
            ("ax+*?b", "invalid nested repetition operator: `+*?`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("(?x) a", "invalid or unsupported Perl syntax: `(?x`"),
            ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?", "invalid or unsupported Perl syntax: `(?`"),
            (r"\u0041", r"invalid escape sequence: `\u`"),
            (r"(a)\1", r"invalid escape sequence: `\1`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("[c-a]", "invalid character class range: `c-a`"),
            ("[a--b]", "invalid character class range: `a--`"),
            ("x[a", "missing closing ]: `[a`"),
        ] {
            let error = Matcher::new(MatchType::Regex, "a", pattern).unwrap_err();
            assert_eq!(error.reason, fault, "{pattern}");
        }
        for fine in [
            "x*?", "(?i)a", "(?i-s:a)", "(?P<n>a)", "[a-c-e]", "[]-a]", r"\Q**", r"\01",
        ] {
            assert!(Matcher::new(MatchType::Regex, "a", fine).is_ok(), "{fine}");
        }
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
