//! Exemplars: one observation behind a sample, with labels that say where to look for more.

use crate::model::{Labels, TimestampMs};

/// An observation that went into a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Where to look, such as a trace; at most [`EXEMPLAR_CHARS_MAX`] characters.
    pub labels: Labels,
    /// What was observed.
    pub v: f64,
    /// When.
    pub t: TimestampMs,
    /// The target said when; otherwise `t` is the time of the scrape, and the same observation at another time is the
    /// same exemplar seen again.
    pub has_own_time: bool,
}

/// Names and values of an exemplar's labels together hold at most so many characters.
pub const EXEMPLAR_CHARS_MAX: usize = 128;

impl Exemplar {
    /// Characters of all names and values of its labels.
    pub fn n_chars(&self) -> usize {
        let pairs = self.labels.iter();
        pairs
            .map(|(name, value)| name.chars().count() + value.chars().count())
            .sum()
    }

    /// Is it the same observation?
    pub fn is_same(&self, other: &Self) -> bool {
        let has_time = self.has_own_time || other.has_own_time;
        self.v.to_bits() == other.v.to_bits()
            && (self.t == other.t || !has_time)
            && self.labels == other.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_time_of_its_own_an_exemplar_is_the_same_at_every_scrape() {
        let at = |t, has_own_time| Exemplar {
            labels: Labels::new(&[("trace_id", "ä€")]).unwrap(),
            v: 1.0,
            t,
            has_own_time,
        };
        assert_eq!(at(1, false).n_chars(), 10);
        assert!(at(1, false).is_same(&at(2, false)));
        assert!(!at(1, true).is_same(&at(2, false)));
        assert!(at(2, true).is_same(&at(2, false)));
        let other = Exemplar {
            v: 2.0,
            ..at(1, false)
        };
        assert!(!at(1, false).is_same(&other));
    }
}
