//! YAML as a tree that knows where every value stands and how it was written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Deepest nesting that is read; configuration files stay far below it.
const DEPTH_MAX: usize = 64;

/// A value and the line it stands on (1-based).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Line of the first character.
    pub(crate) line: u64,
    /// What is there.
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text as it was written; `plain` without quotes.
    Scalar {
        /// The text, unescaped.
        text: String,
        /// Neither quoted nor a block: such text may be a number or a boolean.
        plain: bool,
    },
    /// `- a`
    Seq(Vec<Node>),
    /// `a: b`, in the order of the file.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Line of the key.
    pub(crate) line: u64,
    /// The key as text.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Node,
}

/// The text is not YAML, or has a key twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// Line of the trouble; 0 when the reader could not tell.
    pub(crate) line: u64,
    /// What is wrong, on one line.
    pub(crate) problem: String,
}

/// Reads one document; an empty one is `Null`.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    let options = serde_saphyr::options! { with_snippet: false, non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough };
    let raw: Option<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let problem = error.to_string();
        YamlError {
            line: error.location().map_or(0, |location| location.line()),
            problem: problem.lines().next().unwrap_or_default().to_owned(),
        }
    })?;
    match raw {
        Some(raw) => raw.into_node(text, 0),
        None => Ok(Node {
            line: 1,
            value: Value::Null,
        }),
    }
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// Null, or a list or mapping with nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar { .. } => false,
            Value::Seq(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// What kind of thing stands here, for complaints.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a plain value",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// What the deserializer hands over, before plain scalars get their written form back.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Raw(Spanned<RawValue>);

#[derive(Debug)]
enum RawValue {
    Null,
    /// A plain scalar that reads as a number or boolean; the text is taken from the source.
    Typed(String),
    Text(String),
    Seq(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn into_node(self, source: &str, depth: usize) -> Result<Node, YamlError> {
        let Self(Spanned {
            value,
            referenced,
            defined,
        }) = self;
        let line = referenced.line();
        if DEPTH_MAX < depth {
            return Err(YamlError {
                line,
                problem: format!("nested deeper than {DEPTH_MAX} levels"),
            });
        }
        let written = written_at(source, defined);
        let value = match value {
            RawValue::Null => Value::Null,
            RawValue::Typed(shown) => Value::Scalar {
                text: written.map_or(shown, str::to_owned),
                plain: true,
            },
            RawValue::Text(text) => Value::Scalar {
                plain: written.is_some_and(|written| written == text),
                text,
            },
            RawValue::Seq(items) => Value::Seq(
                items
                    .into_iter()
                    .map(|item| item.into_node(source, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            RawValue::Map(entries) => {
                let mut read = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    read.push(Entry {
                        line: key.referenced.line(),
                        key: key.value,
                        value: value.into_node(source, depth + 1)?,
                    });
                }
                Value::Map(read)
            }
        };
        Ok(Node { line, value })
    }
}

/// The characters a scalar was written with.
fn written_at(source: &str, location: serde_saphyr::Location) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let len = usize::try_from(span.byte_len()?).ok()?;
    Some(source.get(start..start.checked_add(len)?)?.trim())
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element()? {
            read.push(item);
        }
        Ok(RawValue::Seq(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawValue, A::Error> {
        let mut read = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            read.push(entry);
        }
        Ok(RawValue::Map(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_scalars(text: &str, expect: &[(&str, &str, bool, u64)]) {
        let Value::Map(entries) = parse(text).unwrap().value else {
            panic!("no mapping")
        };
        let read: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.value.value {
                Value::Scalar { text, plain } => {
                    (entry.key.as_str(), text.as_str(), *plain, entry.value.line)
                }
                other @ (Value::Null | Value::Seq(_) | Value::Map(_)) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(read, expect);
    }

    #[test]
    fn scalars_keep_their_written_form_and_line() {
        check_scalars(
            "a: 0123\nb: 1.0\nc: yes\nd: \"1\"\ne: 15s # note\nf: 2024-01-01\ng: 'x'\nh: 0x1F\ni: .inf\nj: |\n  two\n  lines\n1: 1_000\nk: 99999999999999999999999\n",
            &[
                ("a", "0123", true, 1),
                ("b", "1.0", true, 2),
                ("c", "yes", true, 3),
                ("d", "1", false, 4),
                ("e", "15s", true, 5),
                ("f", "2024-01-01", true, 6),
                ("g", "x", false, 7),
                ("h", "0x1F", true, 8),
                ("i", ".inf", true, 9),
                ("j", "two\nlines\n", false, 11),
                ("1", "1_000", true, 13),
                ("k", "99999999999999999999999", true, 14),
            ],
        );
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text = "x: &base\n  a: 007\ny:\n  <<: *base\n  b: 2\nz: *base\n";
        let Value::Map(entries) = parse(text).unwrap().value else {
            panic!("no mapping")
        };
        let Value::Map(merged) = &entries[1].value.value else {
            panic!("no mapping")
        };
        let mut keys: Vec<_> = merged
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.as_text().unwrap()))
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, [("a", "007"), ("b", "2")]);
        assert_eq!(entries[2].value.kind(), "a mapping");
    }

    #[test]
    fn nothing_is_null_in_every_spelling() {
        for text in ["", "# only a comment\n", "---\n", "~\n", "null\n"] {
            assert_eq!(parse(text).unwrap().value, Value::Null, "{text:?}");
        }
        let Value::Map(entries) = parse("a:\nb: ~\nc: \"\"\n").unwrap().value else {
            panic!("no mapping")
        };
        let empty: Vec<_> = entries.iter().map(|entry| entry.value.is_empty()).collect();
        assert_eq!(empty, [true, true, false]);
    }

    #[test]
    fn what_is_not_yaml_names_its_line() {
        for (text, line) in [
            ("a: 1\na: 2\n", 2),
            ("a: [1\n", 2),
            ("a:\n\tb: 1\n", 2),
            ("a: 'x\n", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.line.abs_diff(line) <= 1, "{text:?}: {error:?}");
            assert!(!error.problem.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = n - 1;
            let list = vec![format!("*a{before}"); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
