//! What a regular expression accepts, by the cheapest means that is exact: a set of words, literals with gaps, or an
//! automaton behind a look at both ends of the value.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::model::matcher::MatcherError;
use crate::model::matcher::dialect::{fault, translate_go_pattern};
use crate::model::matcher::glob::{Gap, Glob};

/// A compiled pattern may take this much memory; Prometheus has no such limit but runs on RE2, which does.
const REGEX_BYTES_MAX: usize = 10 << 20;

/// An alternation with more words than this stays a pattern.
const SET_WORDS_MAX: usize = 10_000;

/// As many words may come from classes of characters, among them the cases of letters: looking each up has to be cheaper than
/// looking through the values.
const CLASS_WORDS_MAX: usize = 256;

/// A class with more characters than this is not taken apart.
const CLASS_CHARS_MAX: u64 = 16;

/// More alternatives than this are left to the automaton, which follows all of them at once.
const GLOBS_MAX: usize = 16;

/// What is known of an anchored pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    accepts: Accepts,
    prefixes: Vec<String>,
}

#[derive(Debug)]
enum Accepts {
    /// Exactly these, sorted.
    Words(Vec<String>),
    /// What one of these matches.
    Globs(Vec<Glob>),
    /// What the automaton says.
    Automaton {
        regex: Regex,
        /// Every match starts with this.
        prefix: String,
        /// Every match ends with this.
        suffix: String,
    },
}

/// Compiles a pattern in Go's dialect, anchored on both ends, with `.` matching newlines: for matchers and relabelling.
pub fn compile_anchored(go_pattern: &str) -> Result<Regex, MatcherError> {
    if let Some(fault) = fault(go_pattern) {
        return Err(refused(go_pattern, &fault));
    }
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
    pub(super) fn new(go_pattern: &str) -> Result<Self, MatcherError> {
        // Compiled also where it is not needed: what is too large for the automaton is refused in any case.
        let regex = compile_anchored(go_pattern)?;
        let hir = regex_syntax::parse(&anchored(go_pattern))
            .map_err(|error| refused(go_pattern, &error.to_string()))?;
        let inner = without_anchors(&hir);
        let accepts = inner.as_ref().and_then(taken_apart);
        let accepts = accepts.unwrap_or_else(|| Accepts::Automaton {
            regex,
            prefix: inner.as_ref().map(prefix_of).unwrap_or_default(),
            suffix: inner.as_ref().map(suffix_of).unwrap_or_default(),
        });
        let prefixes = accepts.prefixes();
        Ok(Self { accepts, prefixes })
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        match &self.accepts {
            Accepts::Words(words) => words
                .binary_search_by(|word| word.as_str().cmp(value))
                .is_ok(),
            Accepts::Globs(globs) => globs.iter().any(|glob| glob.is_match(value)),
            Accepts::Automaton {
                regex,
                prefix,
                suffix,
            } => {
                value.starts_with(prefix.as_str())
                    && value.ends_with(suffix.as_str())
                    && regex.is_match(value)
            }
        }
    }

    pub(super) fn words(&self) -> Option<&[String]> {
        match &self.accepts {
            Accepts::Words(words) => Some(words),
            Accepts::Globs(_) | Accepts::Automaton { .. } => None,
        }
    }

    pub(super) fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    pub(super) fn accepts_everything(&self) -> bool {
        matches!(&self.accepts, Accepts::Globs(globs) if globs.contains(&Glob::gap(0)))
    }
}

impl Accepts {
    fn prefixes(&self) -> Vec<String> {
        let mut prefixes: Vec<String> = match self {
            Self::Words(words) => words.clone(),
            Self::Globs(globs) => globs.iter().map(|glob| glob.head.clone()).collect(),
            Self::Automaton { prefix, .. } => vec![prefix.clone()],
        };
        prefixes.sort_unstable();
        let mut kept: Vec<String> = Vec::new();
        for prefix in prefixes {
            // Sorted, so that what starts with another comes right behind it.
            if kept.last().is_none_or(|last| !prefix.starts_with(last)) {
                kept.push(prefix);
            }
        }
        kept
    }
}

/// Words or globs, where they say all that the pattern says.
fn taken_apart(hir: &Hir) -> Option<Accepts> {
    if let Some(mut words) = words_of(hir) {
        words.sort_unstable();
        words.dedup();
        return Some(Accepts::Words(words));
    }
    globs_of(hir).map(Accepts::Globs)
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
        HirKind::Class(class) => words_of_class(class),
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
                let is_class = matches!(strip_captures(part).kind(), HirKind::Class(_));
                let words_max = if is_class {
                    CLASS_WORDS_MAX
                } else {
                    SET_WORDS_MAX
                };
                if words_max < all.len().saturating_mul(ends.len()) {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|start| ends.iter().map(move |end| format!("{start}{end}")))
                    .collect();
            }
            Some(all)
        }
        // `x?` is `x` or nothing.
        HirKind::Repetition(Repetition {
            min: 0,
            max: Some(1),
            sub,
            ..
        }) => {
            let mut words = words_of(sub)?;
            words.push(String::new());
            Some(words)
        }
        HirKind::Look(_) | HirKind::Repetition(_) | HirKind::Capture(_) => None,
    }
}

fn words_of_class(class: &Class) -> Option<Vec<String>> {
    let Class::Unicode(class) = class else {
        return None;
    };
    let n: u64 = class
        .iter()
        .map(|range| u64::from(u32::from(range.end()) - u32::from(range.start())) + 1)
        .sum();
    (n <= CLASS_CHARS_MAX).then(|| {
        class
            .iter()
            .flat_map(|range| (range.start()..=range.end()).map(String::from))
            .collect()
    })
}

/// The alternatives of a pattern, if each is literals with gaps.
fn globs_of(hir: &Hir) -> Option<Vec<Glob>> {
    let hir = strip_captures(hir);
    if let Some(words) = words_of(hir) {
        return (words.len() <= GLOBS_MAX)
            .then(|| words.iter().map(|word| Glob::literal(word)).collect());
    }
    if let Some(n) = gap_of(hir) {
        return Some(vec![Glob::gap(n)]);
    }
    match hir.kind() {
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(globs_of(part)?);
            }
            (all.len() <= GLOBS_MAX).then_some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![Glob::default()];
            for part in parts {
                let ends = globs_of(part)?;
                if GLOBS_MAX < all.len().saturating_mul(ends.len()) {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|start| ends.iter().map(move |end| start.then(end)))
                    .collect();
            }
            Some(all)
        }
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_) => None,
    }
}

/// `.*`, `.+` and `.{n,}`: at least so many of any characters.
fn gap_of(hir: &Hir) -> Option<Gap> {
    let HirKind::Repetition(repetition) = hir.kind() else {
        return None;
    };
    if repetition.max.is_some() || !is_any_char(strip_captures(&repetition.sub)) {
        return None;
    }
    Some(repetition.min)
}

fn is_any_char(hir: &Hir) -> bool {
    let HirKind::Class(Class::Unicode(class)) = hir.kind() else {
        return false;
    };
    matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX)
}

fn prefix_of(hir: &Hir) -> String {
    match strip_captures(hir).kind() {
        HirKind::Concat(parts) => fixed(parts.iter()).concat(),
        HirKind::Literal(_)
        | HirKind::Empty
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Alternation(_)
        | HirKind::Capture(_) => String::new(),
    }
}

fn suffix_of(hir: &Hir) -> String {
    match strip_captures(hir).kind() {
        HirKind::Concat(parts) => {
            let mut words = fixed(parts.iter().rev());
            words.reverse();
            words.concat()
        }
        HirKind::Literal(_)
        | HirKind::Empty
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Alternation(_)
        | HirKind::Capture(_) => String::new(),
    }
}

/// The words of the leading parts that stand for one word each.
fn fixed<'a>(parts: impl Iterator<Item = &'a Hir>) -> Vec<String> {
    parts
        .map_while(|part| match words_of(part)?.as_slice() {
            [word] => Some(word.clone()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[track_caller]
    fn check_prefixes(text: &str, prefixes: &[&str]) {
        assert_eq!(pattern(text).prefixes(), prefixes, "{text}");
    }

    #[test]
    fn literals_with_gaps_need_no_automaton() {
        for text in [
            ".*",
            ".+",
            "a.*",
            ".*a",
            ".*a.+b.*",
            "(foo|bar).*",
            "foo.*|.*bar",
            "a.{3,}",
            "(a|b)?x.*",
            "(?:api|web)-.+-(prod|dev)",
            "[ab]-.*",
        ] {
            let found = pattern(text);
            assert!(
                matches!(found.accepts, Accepts::Globs(_)),
                "{text}: {found:?}"
            );
        }
        for text in ["a[0-9]+", "(?-s:a.*)", "a.?", r"\w+", "(?i)k.*[0-9]"] {
            let found = pattern(text);
            assert!(
                matches!(found.accepts, Accepts::Automaton { .. }),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn prefixes_are_those_of_all_alternatives() {
        check_prefixes("foo-.*", &["foo-"]);
        check_prefixes("(foo|bar).*", &["bar", "foo"]);
        check_prefixes("foo.*|f.*|bar", &["bar", "f"]);
        check_prefixes("foo.*|.*", &[""]);
        check_prefixes("node-[0-9]+", &["node-"]);
        check_prefixes("[0-9]+-x", &[""]);
        check_prefixes("b|a|b", &["a", "b"]);
    }

    #[test]
    fn both_ends_are_looked_at_before_the_automaton_runs() {
        let Accepts::Automaton { prefix, suffix, .. } = pattern("a(b)[0-9]+c(d|d)").accepts else {
            panic!("not an automaton");
        };
        assert_eq!((prefix.as_str(), suffix.as_str()), ("ab", "cd"));
    }

    #[test]
    fn cases_of_letters_are_words_while_they_are_few() {
        assert_eq!(
            pattern("(?i)ab").words(),
            Some(&["AB", "Ab", "aB", "ab"].map(str::to_owned)[..])
        );
        assert!(pattern("(?i)production-1").words().is_none());
        assert!(pattern("(?i)production-1").is_match("pRoduction-1"));
        assert_eq!(
            pattern("ab?c").words(),
            Some(&["abc", "ac"].map(str::to_owned)[..])
        );
        let numbers: Vec<String> = (0..500).map(|i| format!("n{i}")).collect();
        assert_eq!(pattern(&numbers.join("|")).words().unwrap().len(), 500);
    }

    #[test]
    fn everything_is_recognised() {
        for (text, is_everything) in [
            (".*", true),
            ("(.*)", true),
            ("a|.*", true),
            ("(?:.*)(?:.*)", true),
            (".+", false),
            ("", false),
            ("(?-s:.*)", false),
        ] {
            assert_eq!(pattern(text).accepts_everything(), is_everything, "{text}");
        }
    }

    fn patterns() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("ab".to_owned()),
            Just("é".to_owned()),
            Just(String::new()),
            Just(".".to_owned()),
            Just(".*".to_owned()),
            Just(".+".to_owned()),
            Just(".{2,}".to_owned()),
            Just("[ab]".to_owned()),
            Just("[^a]".to_owned()),
            Just("(?i:ak)".to_owned()),
            Just("a?".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 1..4)
                    .prop_map(|parts| format!("({})", parts.join("|"))),
                inner.clone().prop_map(|part| format!("(?:{part})?")),
                inner.prop_map(|part| format!("(?:{part})*")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_taken_apart_accepts_what_the_expression_accepts(
            text in patterns(),
            values in prop::collection::vec("[abék\\n]{0,7}", 24),
        ) {
            let (regex, pattern) = (compile_anchored(&text).unwrap(), pattern(&text));
            prop_assert_eq!(pattern.accepts_everything() && !regex.is_match("\u{1}"), false);
            for value in values.iter().map(String::as_str).chain(["", "a", "ab", "K"]) {
                let is_match = regex.is_match(value);
                prop_assert_eq!(pattern.is_match(value), is_match, "{:?} on {:?}: {:?}", text, value, pattern);
                let has_prefix = pattern.prefixes().iter().any(|prefix| value.starts_with(prefix.as_str()));
                prop_assert!(has_prefix || !is_match, "{:?} on {:?}: {:?}", text, value, pattern);
            }
        }
    }
}
