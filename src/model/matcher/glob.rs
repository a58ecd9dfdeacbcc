//! Patterns of literals with gaps between them, which need no automaton.

/// A literal, then literals that each come after a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Glob {
    /// What a value starts with.
    pub(super) head: String,
    /// Gaps and what follows each; the last ends the value.
    pub(super) tail: Vec<(Gap, String)>,
}

/// Any characters, at least so many.
pub(super) type Gap = u32;

impl Glob {
    /// Only what stands in the pattern, without gaps.
    pub(super) fn literal(text: &str) -> Self {
        Self {
            head: text.to_owned(),
            tail: Vec::new(),
        }
    }

    /// Any characters, at least `n`.
    pub(super) fn gap(n: Gap) -> Self {
        Self {
            head: String::new(),
            tail: vec![(n, String::new())],
        }
    }

    /// This and then `next`.
    pub(super) fn then(&self, next: &Self) -> Self {
        let mut joined = self.clone();
        let end = match joined.tail.last_mut() {
            Some((_, literal)) => literal,
            None => &mut joined.head,
        };
        end.push_str(&next.head);
        for (gap, literal) in &next.tail {
            match joined.tail.last_mut() {
                // Two gaps that touch are one.
                Some((before, end)) if end.is_empty() => {
                    *before = before.saturating_add(*gap);
                    end.push_str(literal);
                }
                _ => joined.tail.push((*gap, literal.clone())),
            }
        }
        joined
    }

    /// Gaps only ask for a minimum, so the earliest place of each literal leaves most to the ones behind it.
    pub(super) fn is_match(&self, value: &str) -> bool {
        let Some(mut rest) = value.strip_prefix(self.head.as_str()) else {
            return false;
        };
        let Some(((last_gap, last), middle)) = self.tail.split_last() else {
            return rest.is_empty();
        };
        for (gap, literal) in middle {
            let Some(after) = skip(rest, *gap) else {
                return false;
            };
            let Some(at) = after.find(literal.as_str()) else {
                return false;
            };
            rest = after.get(at + literal.len()..).unwrap_or_default();
        }
        rest.strip_suffix(last.as_str())
            .is_some_and(|between| skip(between, *last_gap).is_some())
    }
}

/// What is behind the first `n` characters, if there are so many.
fn skip(text: &str, n: Gap) -> Option<&str> {
    if n == 0 {
        return Some(text);
    }
    let (last, c) = text.char_indices().nth(usize::try_from(n).ok()? - 1)?;
    text.get(last + c.len_utf8()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_in_order_and_none_twice() {
        let glob = Glob::literal("ab")
            .then(&Glob::gap(0))
            .then(&Glob::literal("b"))
            .then(&Glob::gap(1))
            .then(&Glob::literal("c"));
        for (value, is_match) in [
            ("abbxc", true),
            ("abxbxxc", true),
            ("abxc", false),
            ("abbc", false),
            ("abbécc", true),
            ("xabbxc", false),
            ("ab", false),
        ] {
            assert_eq!(glob.is_match(value), is_match, "{value}");
        }
    }

    #[test]
    fn gaps_that_touch_are_one() {
        let glob = Glob::gap(1).then(&Glob::gap(2));
        assert_eq!(glob, Glob::gap(3));
        assert!(glob.is_match("éaé") && !glob.is_match("ab"));
        assert!(Glob::default().is_match("") && !Glob::default().is_match("a"));
    }
}
