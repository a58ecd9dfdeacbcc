//! Functions that change labels.

use regex::Regex;

use crate::model::matcher::translate_go_pattern;
use crate::model::{Labels, LabelsError};

/// `label_replace`, its pattern compiled.
#[derive(Debug)]
pub(crate) struct Replace {
    pattern: Regex,
    replacement: String,
    source: String,
    target: String,
}

impl Replace {
    /// Checks the pattern and the target label; the errors are Prometheus' texts.
    pub(crate) fn new(
        target: &str,
        replacement: &str,
        source: &str,
        pattern: &str,
    ) -> Result<Self, String> {
        let anchored = format!("^(?s:{})$", translate_go_pattern(pattern));
        let compiled = Regex::new(&anchored).map_err(|_reason_spans_lines| {
            format!("invalid regular expression in label_replace(): {pattern}")
        })?;
        if !is_label_name(target) {
            return Err(format!(
                "invalid destination label name in label_replace(): {target}"
            ));
        }
        Ok(Self {
            pattern: compiled,
            replacement: brace_references(replacement),
            source: source.to_owned(),
            target: target.to_owned(),
        })
    }

    /// The labels after replacement, `None` where the pattern does not match.
    pub(crate) fn apply(&self, labels: &Labels) -> Result<Option<Labels>, LabelsError> {
        let Some(captures) = self.pattern.captures(labels.value(&self.source)) else {
            return Ok(None);
        };
        let mut value = String::new();
        captures.expand(&self.replacement, &mut value);
        labels
            .to_builder()
            .set(&self.target, &value)
            .build()
            .map(Some)
    }

    /// The label that is written.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }
}

/// `$1x` names the group `1x` in Go and here, but Go's `$` before anything else stands for itself only when
/// doubled; a lone one vanishes. Everything is put in braces so that both read the same.
fn brace_references(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(tail) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = tail;
            continue;
        }
        if let Some((name, tail)) = after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            && is_group_name(name)
        {
            out.push_str("${");
            out.push_str(name);
            out.push('}');
            rest = tail;
            continue;
        }
        let len = after
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(after.len());
        let (name, tail) = after.split_at_checked(len).unwrap_or((after, ""));
        if name.is_empty() {
            out.push_str("$$");
        } else {
            out.push_str("${");
            out.push_str(name);
            out.push('}');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

fn is_group_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// May a label have this name? Bytes of a query's string that are not UTF-8 have become replacement characters, which
/// nobody can write in a query, so a name with one of them was never valid.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER)
}

/// `label_join`: the values of `sources`, put together, become `target`.
pub(crate) fn join(
    labels: &Labels,
    target: &str,
    separator: &str,
    sources: &[&str],
) -> Result<Labels, LabelsError> {
    let values: Vec<&str> = sources.iter().map(|name| labels.value(name)).collect();
    labels
        .to_builder()
        .set(target, &values.join(separator))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::new(&[("src", "source-value-10"), ("dst", "old")]).unwrap()
    }

    fn replaced(replacement: &str, source: &str, pattern: &str) -> Option<String> {
        let replace = Replace::new("dst", replacement, source, pattern).unwrap();
        let after = replace.apply(&labels()).unwrap()?;
        Some(after.value("dst").to_owned())
    }

    #[test]
    fn a_replacement_needs_a_match_of_the_whole_value() {
        let pattern = "source-value-(.*)";
        assert_eq!(replaced("to-$1", "src", pattern).as_deref(), Some("to-10"));
        assert_eq!(
            replaced("to-${1}0", "src", pattern).as_deref(),
            Some("to-100")
        );
        assert_eq!(replaced("to-$1x", "src", pattern).as_deref(), Some("to-"));
        assert_eq!(replaced("to-$1", "src", "value-(.*)"), None);
        assert_eq!(replaced("v$1", "gone", "(.*)").as_deref(), Some("v"));
        assert_eq!(replaced("", "src", ".*").as_deref(), Some(""));
        assert_eq!(replaced("$$ $", "src", ".*").as_deref(), Some("$ $"));
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        assert_eq!(
            Replace::new("a", "", "b", "(").unwrap_err(),
            "invalid regular expression in label_replace(): ("
        );
        assert_eq!(
            Replace::new("", "", "b", "").unwrap_err(),
            "invalid destination label name in label_replace(): "
        );
    }

    #[test]
    fn names_that_were_not_text_are_refused() {
        assert!(is_label_name("a.b") && is_label_name("é"));
        assert!(!is_label_name("") && !is_label_name("a\u{fffd}z"));
    }

    #[test]
    fn joined_values_keep_the_order_asked_for() {
        let joined = join(&labels(), "dst", "-", &["src", "gone", "dst"]).unwrap();
        assert_eq!(joined.value("dst"), "source-value-10--old");
        assert_eq!(
            join(&labels(), "dst", "", &["gone"]).unwrap().get("dst"),
            None
        );
    }
}
