//! Takes a mapping apart key by key; what was not asked for is unknown.

use std::num::NonZeroUsize;

use crate::config::prometheus::report::Report;
use crate::config::prometheus::values::{parse_bool, parse_bytes, parse_uint};
use crate::config::yaml::{Entry, Node, Value};
use crate::model::duration::parse_duration_ms;

/// A node and the key that leads to it.
#[derive(Debug, Clone)]
pub(in crate::config) struct Item<'a> {
    pub(in crate::config) node: &'a Node,
    pub(in crate::config) key: String,
}

/// Reads one mapping. Every question about a key makes the key known; [`MapReader::finish`] refuses the rest.
#[derive(Debug)]
pub(in crate::config) struct MapReader<'a> {
    pub(in crate::config) report: &'a Report,
    pub(in crate::config) key: String,
    line: u64,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> MapReader<'a> {
    /// Null is an empty mapping; anything else that is no mapping is complained about.
    pub(in crate::config) fn new(report: &'a Report, item: &Item<'a>) -> Self {
        let entries: &[Entry] = match &item.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Scalar { .. } | Value::Seq(_) => {
                let problem = format!("expected a mapping, found {}", item.node.kind());
                report.complain(item.node.line, &item.key, item.node.as_text(), &problem);
                &[]
            }
        };
        Self {
            report,
            key: item.key.clone(),
            line: item.node.line,
            entries,
            known: Vec::new(),
        }
    }

    /// Is the key there with something in it?
    pub(in crate::config) fn has(&mut self, key: &'static str) -> bool {
        self.take(key).is_some()
    }

    /// The value of `key`, unless it is absent or null.
    pub(in crate::config) fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.value.value != Value::Null).then(|| Item {
            node: &entry.value,
            key: self.path(key),
        })
    }

    /// A plain value as text.
    pub(in crate::config) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let item = self.take(key)?;
        let text = item.node.as_text();
        if text.is_none() {
            self.wrong_kind(&item, "a plain value");
        }
        text
    }

    pub(in crate::config) fn bool(&mut self, key: &'static str) -> Option<bool> {
        let item = self.take(key)?;
        let parsed = match &item.node.value {
            Value::Scalar { text, plain: true } => parse_bool(text),
            Value::Scalar { .. } | Value::Null | Value::Seq(_) | Value::Map(_) => None,
        };
        if parsed.is_none() {
            self.wrong_value(&item, "expected true or false");
        }
        parsed
    }

    pub(in crate::config) fn duration_ms(&mut self, key: &'static str) -> Option<i64> {
        let item = self.take(key)?;
        let Some(text) = item.node.as_text() else {
            self.wrong_kind(&item, "a duration such as 15s");
            return None;
        };
        match parse_duration_ms(text) {
            Ok(ms) => Some(ms),
            Err(error) => {
                let problem = format!("{error}; expected one such as 15s or 1m30s");
                self.wrong_value(&item, &problem);
                None
            }
        }
    }

    /// A whole number; zero means that there is no limit.
    pub(in crate::config) fn limit(&mut self, key: &'static str) -> Option<Option<NonZeroUsize>> {
        let item = self.take(key)?;
        let parsed = match &item.node.value {
            Value::Scalar { text, plain: true } => parse_uint(text),
            Value::Scalar { .. } | Value::Null | Value::Seq(_) | Value::Map(_) => None,
        };
        match parsed {
            Some(n) => Some(NonZeroUsize::new(n)),
            None => {
                self.wrong_value(&item, "expected a whole number, 0 for no limit");
                None
            }
        }
    }

    /// A whole number; a negative one counts as zero.
    pub(in crate::config) fn count_or_negative(&mut self, key: &'static str) -> Option<usize> {
        let item = self.take(key)?;
        let parsed: Option<i64> = match &item.node.value {
            Value::Scalar { text, plain: true } => text.parse().ok(),
            Value::Scalar { .. } | Value::Null | Value::Seq(_) | Value::Map(_) => None,
        };
        if parsed.is_none() {
            self.wrong_value(&item, "expected a whole number");
        }
        parsed.map(|n| usize::try_from(n).unwrap_or(0))
    }

    /// Any number.
    pub(in crate::config) fn float(&mut self, key: &'static str) -> Option<f64> {
        let item = self.take(key)?;
        let parsed = match &item.node.value {
            Value::Scalar { text, plain: true } => text.parse().ok(),
            Value::Scalar { .. } | Value::Null | Value::Seq(_) | Value::Map(_) => None,
        };
        if parsed.is_none() {
            self.wrong_value(&item, "expected a number");
        }
        parsed
    }

    /// A size such as `512MB`, in powers of 1024; zero means that there is no limit.
    pub(in crate::config) fn bytes(&mut self, key: &'static str) -> Option<u64> {
        let item = self.take(key)?;
        let parsed = item.node.as_text().and_then(parse_bytes);
        if parsed.is_none() {
            self.wrong_value(
                &item,
                "expected a size such as 512KB or 15MB, 0 for no limit",
            );
        }
        parsed
    }

    /// One of a few words.
    pub(in crate::config) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let item = self.take(key)?;
        let text = item.node.as_text();
        let found = choices.iter().find(|(word, _)| Some(*word) == text);
        if found.is_none() {
            let words: Vec<_> = choices
                .iter()
                .map(|(word, _)| format!("{word:?}"))
                .collect();
            self.wrong_value(&item, &format!("expected one of {}", words.join(", ")));
        }
        found.map(|(_, choice)| *choice)
    }

    /// The elements of a list, null ones too.
    pub(in crate::config) fn items(&mut self, key: &'static str) -> Option<Vec<Item<'a>>> {
        let item = self.take(key)?;
        let items = self.items_of(&item);
        Some(items)
    }

    /// A list of plain values.
    pub(in crate::config) fn texts(&mut self, key: &'static str) -> Option<Vec<&'a str>> {
        let items = self.items(key)?;
        Some(self.texts_of(&items))
    }

    /// The entries of a mapping with keys of the user's choice, in file order.
    pub(in crate::config) fn entries(
        &mut self,
        key: &'static str,
    ) -> Option<Vec<(&'a Entry, Item<'a>)>> {
        let item = self.take(key)?;
        match &item.node.value {
            Value::Map(entries) => Some(
                entries
                    .iter()
                    .map(|entry| {
                        let key = format!("{}.{}", item.key, entry.key);
                        (
                            entry,
                            Item {
                                node: &entry.value,
                                key,
                            },
                        )
                    })
                    .collect(),
            ),
            Value::Null | Value::Scalar { .. } | Value::Seq(_) => {
                self.wrong_kind(&item, "a mapping");
                None
            }
        }
    }

    /// A mapping with known keys.
    pub(in crate::config) fn map(&mut self, key: &'static str) -> Option<MapReader<'a>> {
        let item = self.take(key)?;
        Some(MapReader::new(self.report, &item))
    }

    pub(in crate::config) fn items_of(&self, item: &Item<'a>) -> Vec<Item<'a>> {
        match &item.node.value {
            Value::Null => Vec::new(),
            Value::Seq(nodes) => nodes
                .iter()
                .enumerate()
                .map(|(position, node)| Item {
                    node,
                    key: format!("{}[{position}]", item.key),
                })
                .collect(),
            Value::Scalar { .. } | Value::Map(_) => {
                self.wrong_kind(item, "a list");
                Vec::new()
            }
        }
    }

    pub(in crate::config) fn texts_of(&self, items: &[Item<'a>]) -> Vec<&'a str> {
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match &item.node.value {
                Value::Scalar { text, .. } => texts.push(text.as_str()),
                Value::Null => texts.push(""),
                Value::Seq(_) | Value::Map(_) => self.wrong_kind(item, "a plain value"),
            }
        }
        texts
    }

    /// Recognises keys we do not act on; the ones with something in them are warned about.
    pub(in crate::config) fn ignore(&mut self, keys: &[&'static str]) {
        for key in keys {
            if let Some(item) = self.take(key)
                && !item.node.is_empty()
            {
                let line = self.line_of(key);
                self.report
                    .warn(line, &item.key, None, "not supported, ignored");
            }
        }
    }

    /// Complains about the value of `key`.
    pub(in crate::config) fn complain(&self, key: &str, value: Option<&str>, problem: &str) {
        self.report
            .complain(self.line_of(key), &self.path(key), value, problem);
    }

    /// Warns about the value of `key`.
    pub(in crate::config) fn warn(&self, key: &str, value: Option<&str>, problem: &str) {
        self.report
            .warn(self.line_of(key), &self.path(key), value, problem);
    }

    /// Complains about the mapping as a whole.
    pub(in crate::config) fn complain_here(&self, problem: &str) {
        self.report.complain(self.line, &self.key, None, problem);
    }

    /// Refuses every key nobody asked for.
    pub(in crate::config) fn finish(mut self) {
        self.known.sort_unstable();
        self.known.dedup();
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let problem = match closest(&entry.key, &self.known) {
                Some(near) => format!("unknown key, did you mean {near}?"),
                None => format!("unknown key, expected one of {}", self.known.join(", ")),
            };
            let key = self.path(&entry.key);
            self.report.complain(entry.line, &key, None, &problem);
        }
    }

    pub(in crate::config) fn wrong_value(&self, item: &Item<'_>, problem: &str) {
        self.report
            .complain(item.node.line, &item.key, item.node.as_text(), problem);
    }

    fn wrong_kind(&self, item: &Item<'_>, expected: &str) {
        let problem = format!("expected {expected}, found {}", item.node.kind());
        self.report
            .complain(item.node.line, &item.key, item.node.as_text(), &problem);
    }

    fn line_of(&self, key: &str) -> u64 {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map_or(self.line, |entry| entry.line)
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }
}

/// The known key that is at most two edits away.
fn closest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|near| (edits(key, near), *near))
        .filter(|(edits, _)| *edits <= 2)
        .min()
        .map(|(_, near)| near)
}

/// Levenshtein distance over bytes.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (n_left, a) in left.bytes().enumerate() {
        let mut diagonal = n_left;
        let mut here = n_left + 1;
        for (above, b) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *above;
            here = replaced.min(diagonal + 1).min(here + 1);
            *above = here;
        }
        if let Some(first) = row.first_mut() {
            *first = n_left + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (left, right, n) in [
            ("", "abc", 3),
            ("scrape_intervall", "scrape_interval", 1),
            ("job", "jbo", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(edits(left, right), n, "{left} {right}");
        }
    }
}
