//! A rule that can be applied.

use md5::{Digest, Md5};
use regex::Regex;

use crate::model::{LabelsBuilder, compile_anchored};
use crate::relabel::settings::{RelabelAction, RelabelError, RelabelSettings};
use crate::relabel::template::Template;

/// One checked and compiled rule.
#[derive(Debug, Clone)]
pub struct RelabelRule {
    settings: RelabelSettings,
    regex: Regex,
    target: Template,
    replacement: Template,
    /// The value to write whatever the sources hold, when neither pattern nor expansion can change it.
    constant: Option<String>,
}

impl PartialEq for RelabelRule {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for RelabelRule {}

/// Applies `rules` in order; `false` when one of them drops the labels.
pub fn apply(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl RelabelRule {
    /// Checks what the action needs and compiles the pattern.
    pub fn new(settings: RelabelSettings) -> Result<Self, RelabelError> {
        let regex = compile_anchored(settings.regex())?;
        settings.check()?;
        let (target, replacement) = (settings.target_label(), settings.replacement());
        let is_constant =
            settings.regex.is_none() && !target.contains('$') && !replacement.contains('$');
        Ok(Self {
            target: Template::new(target, &regex),
            replacement: Template::new(replacement, &regex),
            constant: is_constant.then(|| replacement.to_owned()),
            settings,
            regex,
        })
    }

    /// The rule as it was written.
    pub fn settings(&self) -> &RelabelSettings {
        &self.settings
    }

    /// Applies this rule; `false` when it drops the labels.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let target = self.settings.target_label();
        match self.settings.action() {
            RelabelAction::Replace => self.replace(labels),
            RelabelAction::Keep => return self.regex.is_match(&self.joined(labels)),
            RelabelAction::Drop => return !self.regex.is_match(&self.joined(labels)),
            RelabelAction::KeepEqual => return labels.get(target) == self.joined(labels),
            RelabelAction::DropEqual => return labels.get(target) != self.joined(labels),
            RelabelAction::HashMod => {
                let hash = self.hash(&self.joined(labels));
                labels.set(target, &hash.to_string());
            }
            RelabelAction::LabelMap => self.map_names(labels),
            RelabelAction::LabelDrop => self.remove_names(labels, true),
            RelabelAction::LabelKeep => self.remove_names(labels, false),
            RelabelAction::Lowercase => {
                let value = self.joined(labels);
                labels.set(target, &map_case(&value, char::to_lowercase));
            }
            RelabelAction::Uppercase => {
                let value = self.joined(labels);
                labels.set(target, &map_case(&value, char::to_uppercase));
            }
        }
        true
    }

    /// The values of the source labels with separators between them.
    fn joined(&self, labels: &LabelsBuilder) -> String {
        let mut out = String::new();
        let sources = self.settings.source_labels.iter().flatten();
        for (position, name) in sources.enumerate() {
            if position > 0 {
                out.push_str(self.settings.separator());
            }
            out.push_str(labels.get(name));
        }
        out
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let value = self.joined(labels);
        if let Some(constant) = &self.constant
            && value.is_empty()
        {
            labels.set(self.settings.target_label(), constant);
            return;
        }
        let Some(captures) = self.regex.captures(&value) else {
            return;
        };
        let target = self.target.expand(&captures);
        if target.is_empty() {
            return;
        }
        let replacement = self.replacement.expand(&captures);
        if replacement.is_empty() {
            labels.remove(&target);
        } else {
            labels.set(&target, &replacement);
        }
    }

    /// The last eight bytes of MD5, modulo: what Prometheus has always computed.
    fn hash(&self, value: &str) -> u64 {
        let digest: [u8; 16] = Md5::digest(value.as_bytes()).into();
        let [.., a, b, c, d, e, f, g, h] = digest;
        let modulus = self.settings.modulus.unwrap_or(1).max(1);
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % modulus
    }

    fn map_names(&self, labels: &mut LabelsBuilder) {
        let mut copies = Vec::new();
        for (name, value) in labels.pairs() {
            let captures = self.regex.captures(name);
            if let Some(captures) = captures.filter(|_| !value.is_empty()) {
                copies.push((self.replacement.expand(&captures), value.clone()));
            }
        }
        for (name, value) in copies.iter().filter(|(name, _)| !name.is_empty()) {
            labels.set(name, value);
        }
    }

    fn remove_names(&self, labels: &mut LabelsBuilder, matching: bool) {
        let names: Vec<String> = labels
            .pairs()
            .iter()
            .filter(|(name, _)| self.regex.is_match(name) == matching)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            labels.remove(&name);
        }
    }
}

/// Character by character, as Go does: what would become several characters becomes its first when that is ASCII (the
/// dotted capital I) and stays as it is otherwise (sharp s, ligatures).
fn map_case<I: Iterator<Item = char>>(text: &str, map: impl Fn(char) -> I) -> String {
    text.chars()
        .map(|c| {
            let mut mapped = map(c);
            match (mapped.next(), mapped.next()) {
                (Some(only), None) => only,
                (Some(first), Some(_)) if first.is_ascii_lowercase() => first,
                _ => c,
            }
        })
        .collect()
}
