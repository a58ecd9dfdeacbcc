//! What a rule says, and when it says nonsense.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::model::MatcherError;
use crate::model::labels::go_quote;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RelabelAction {
    /// Writes the expanded replacement to the expanded target label where the pattern matches.
    #[default]
    Replace,
    /// Drops everything that does not match.
    Keep,
    /// Drops everything that matches.
    Drop,
    /// Drops everything whose joined sources differ from the target label.
    KeepEqual,
    /// Drops everything whose joined sources equal the target label.
    DropEqual,
    /// Writes a hash of the joined sources, modulo the modulus.
    HashMod,
    /// Copies labels whose name matches to the expanded replacement.
    LabelMap,
    /// Removes labels whose name matches.
    LabelDrop,
    /// Removes labels whose name does not match.
    LabelKeep,
    /// Writes the joined sources in lower case.
    Lowercase,
    /// Writes the joined sources in upper case.
    Uppercase,
}

impl RelabelAction {
    const ALL: [Self; 11] = [
        Self::Replace,
        Self::Keep,
        Self::Drop,
        Self::KeepEqual,
        Self::DropEqual,
        Self::HashMod,
        Self::LabelMap,
        Self::LabelDrop,
        Self::LabelKeep,
        Self::Lowercase,
        Self::Uppercase,
    ];

    /// As in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::KeepEqual => "keepequal",
            Self::DropEqual => "dropequal",
            Self::HashMod => "hashmod",
            Self::LabelMap => "labelmap",
            Self::LabelDrop => "labeldrop",
            Self::LabelKeep => "labelkeep",
            Self::Lowercase => "lowercase",
            Self::Uppercase => "uppercase",
        }
    }

    fn has_target(self) -> bool {
        matches!(self, Self::Replace | Self::HashMod) || self.has_plain_target()
    }

    /// Writes or compares whole values: no pattern, no replacement.
    fn has_plain_target(self) -> bool {
        matches!(
            self,
            Self::KeepEqual | Self::DropEqual | Self::Lowercase | Self::Uppercase
        )
    }
}

impl fmt::Display for RelabelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RelabelAction {
    type Err = RelabelError;

    /// In any case.
    fn from_str(text: &str) -> Result<Self, RelabelError> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| RelabelError::UnknownAction(text.to_owned()))
    }
}

/// Why a rule is none. The texts are Prometheus'.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RelabelError {
    /// The action's name.
    #[error("unknown relabel action {}", go_quote(.0))]
    UnknownAction(String),
    /// `hashmod` by nothing.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    NoModulus,
    /// An action that writes or compares a label, without one.
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTarget(RelabelAction),
    /// A replacement where none is used.
    #[error("'replacement' can not be set for {0} action")]
    Replacement(RelabelAction),
    /// `labelmap` to nothing.
    #[error("{} is invalid 'replacement' for {} action", go_quote(.1), .0)]
    InvalidReplacement(RelabelAction, String),
    /// More than `keepequal` and `dropequal` look at.
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlySourceAndTarget(RelabelAction),
    /// More than `labeldrop` and `labelkeep` look at.
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(RelabelAction),
    /// The pattern does not compile.
    #[error(transparent)]
    Regex(#[from] MatcherError),
}

/// A rule as it is written; what is `None` was not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelabelSettings {
    /// Labels whose values are joined; a missing label is an empty value.
    pub source_labels: Option<Vec<String>>,
    /// Between the joined values; `;` unless written.
    pub separator: Option<String>,
    /// Anchored on both ends, in Go's dialect; `(.*)` unless written.
    pub regex: Option<String>,
    /// For `hashmod`.
    pub modulus: Option<u64>,
    /// The label that is written or compared; expanded for `replace`.
    pub target_label: Option<String>,
    /// Expanded for `replace` and `labelmap`; `$1` unless written.
    pub replacement: Option<String>,
    /// `replace` unless written.
    pub action: Option<RelabelAction>,
}

impl RelabelSettings {
    /// Between joined values.
    pub const SEPARATOR: &'static str = ";";
    /// Matches everything and captures it.
    pub const REGEX: &'static str = "(.*)";
    /// The first group.
    pub const REPLACEMENT: &'static str = "$1";

    pub(super) fn action(&self) -> RelabelAction {
        self.action.unwrap_or_default()
    }

    pub(super) fn separator(&self) -> &str {
        self.separator.as_deref().unwrap_or(Self::SEPARATOR)
    }

    pub(super) fn regex(&self) -> &str {
        self.regex.as_deref().unwrap_or(Self::REGEX)
    }

    pub(super) fn target_label(&self) -> &str {
        self.target_label.as_deref().unwrap_or_default()
    }

    pub(super) fn replacement(&self) -> &str {
        self.replacement.as_deref().unwrap_or(Self::REPLACEMENT)
    }

    /// Everything that can be wrong besides the pattern, in the order Prometheus looks.
    pub(super) fn check(&self) -> Result<(), RelabelError> {
        let action = self.action();
        let has_modulus = self.modulus.is_some_and(|modulus| modulus != 0);
        if action == RelabelAction::HashMod && !has_modulus {
            return Err(RelabelError::NoModulus);
        }
        let target = self.target_label();
        if action.has_target() && target.is_empty() {
            return Err(RelabelError::NoTarget(action));
        }
        let has_replacement = self.replacement() != Self::REPLACEMENT;
        if action.has_plain_target() && has_replacement {
            return Err(RelabelError::Replacement(action));
        }
        if action == RelabelAction::LabelMap && self.replacement().is_empty() {
            return Err(RelabelError::InvalidReplacement(action, String::new()));
        }
        let has_others = has_modulus || has_replacement || self.separator() != Self::SEPARATOR;
        let is_comparison = matches!(action, RelabelAction::KeepEqual | RelabelAction::DropEqual);
        if is_comparison && (has_others || self.regex.is_some()) {
            return Err(RelabelError::OnlySourceAndTarget(action));
        }
        let is_selection = matches!(action, RelabelAction::LabelDrop | RelabelAction::LabelKeep);
        if is_selection && (has_others || self.source_labels.is_some() || !target.is_empty()) {
            return Err(RelabelError::OnlyRegex(action));
        }
        Ok(())
    }
}
