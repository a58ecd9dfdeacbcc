//! `$1` and `${name}`, as Go's `regexp.Expand` reads them.

use regex::{Captures, Regex};

/// Group numbers of this size are names, as in Go.
const GROUP_NUMBER_MAX: usize = 100_000_000;

/// A replacement, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// Groups that `regex` does not have expand to nothing; a `$` that starts no group stands for itself.
    pub(super) fn new(text: &str, regex: &Regex) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = group_name(rest) else {
                literal.push('$');
                continue;
            };
            rest = after;
            if let Some(group) = group_number(name, regex) {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Group(group));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Self { parts }
    }

    pub(super) fn expand(&self, captures: &Captures<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(group) => {
                    out.push_str(captures.get(*group).map_or("", |found| found.as_str()));
                }
            }
        }
        out
    }
}

/// The longest run of letters, digits and underscores, in braces or not, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{');
    let body = inner.unwrap_or(text);
    let end = body
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(body.len());
    let (name, after) = body.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    match inner {
        Some(_) => after.strip_prefix('}').map(|after| (name, after)),
        None => Some((name, after)),
    }
}

fn group_number(name: &str, regex: &Regex) -> Option<usize> {
    let is_number =
        name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let number = is_number
        .then(|| name.parse().ok())
        .flatten()
        .filter(|number| *number < GROUP_NUMBER_MAX);
    match number {
        Some(number) => (number < regex.captures_len()).then_some(number),
        None => regex.capture_names().position(|group| group == Some(name)),
    }
}
