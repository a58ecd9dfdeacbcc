//! Label sets in order, by few bytes of each.
//!
//! Comparing two label sets walks over everything they share, which for the series of one metric is most of them. What
//! all of them share is skipped once instead, and the sixteen bytes behind it decide nearly always.

use crate::model::labels::{Labels, n_common, take_text};

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// Where the keys of some label sets are taken from.
#[derive(Debug, Clone, Copy)]
pub struct SortKeys {
    /// Where the first text begins that is not the same in all sets.
    start: usize,
    /// Bytes of this text that are.
    within: usize,
}

impl SortKeys {
    /// For these sets.
    pub fn of<'a>(sets: impl Iterator<Item = &'a Labels> + Clone) -> Self {
        let mut others = sets.clone();
        let Some(first) = others.next() else {
            return Self {
                start: 0,
                within: 0,
            };
        };
        let encoded = first.encoded();
        let n_shared = others.fold(encoded.len(), |n_shared, other| {
            n_shared.min(n_common(encoded.as_bytes(), other.encoded().as_bytes()))
        });
        let mut rest = encoded;
        loop {
            let start = encoded.len() - rest.len();
            let Some((text, behind)) = take_text(rest) else {
                return Self { start, within: 0 };
            };
            let end = encoded.len() - behind.len();
            if end <= n_shared {
                rest = behind;
                continue;
            }
            let within = n_shared.checked_sub(end - text.len());
            // Texts of different lengths share nothing of the encoding, but mostly some of the text.
            let within = within.unwrap_or_else(|| {
                sets.fold(text.len(), |within, set| {
                    let other = text_at(set, start).unwrap_or_default();
                    within.min(n_common(text.as_bytes(), other.as_bytes()))
                })
            });
            return Self { start, within };
        }
    }

    /// The key of one of the sets. Sets stand in the order of their keys; of equal keys nothing is known. None where a
    /// text has a NUL, which keys have between texts.
    pub fn key(&self, set: &Labels) -> Option<u128> {
        let mut rest = set.encoded().get(self.start..).unwrap_or_default();
        let mut skipped = self.within;
        let mut key = [0; KEY_BYTES];
        let mut free = key.iter_mut();
        while let Some((text, behind)) = take_text(rest) {
            for byte in text.bytes().skip(skipped) {
                let Some(place) = free.next() else {
                    return Some(u128::from_be_bytes(key));
                };
                if byte == 0 {
                    return None;
                }
                *place = byte;
            }
            // The NUL that is there already: a text stands before those it begins.
            if free.next().is_none() {
                break;
            }
            (rest, skipped) = (behind, 0);
        }
        Some(u128::from_be_bytes(key))
    }
}

fn text_at(set: &Labels, start: usize) -> Option<&str> {
    let rest = set.encoded().get(start..)?;
    take_text(rest).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn keys_that_differ_order_as_labels_do(
            shared in prop::collection::btree_map("[a-c]{1,2}", "[ab]{0,80}", 0..3),
            own in prop::collection::vec(
                prop::collection::btree_map("[a-cé]{1,3}|z", "[ab\0é]{0,3}|aaaaaaaaaaaaaaaaaaa[ab]{0,70}", 0..4),
                1..12,
            ),
        ) {
            let sets: Vec<Labels> = own
                .into_iter()
                .map(|own| {
                    let mut pairs = shared.clone();
                    pairs.extend(own);
                    Labels::new(&pairs.into_iter().collect::<Vec<_>>()).unwrap()
                })
                .collect();
            let keys = SortKeys::of(sets.iter());
            for left in &sets {
                for right in &sets {
                    if let (Some(one), Some(other)) = (keys.key(left), keys.key(right))
                        && one != other
                    {
                        prop_assert_eq!(one.cmp(&other), left.cmp(right), "{} {}", left, right);
                    }
                }
            }
        }
    }

    #[test]
    fn what_all_sets_share_is_not_in_their_keys() {
        let of = |value: &str| Labels::new(&[("__name__", "up"), ("i", value), ("z", "")]).unwrap();
        let sets = [of("10.0.0.9:9100"), of("10.0.0.10:9100")];
        let keys = SortKeys::of(sets.iter());
        let [nine, ten] = sets.each_ref().map(|set| keys.key(set).unwrap());
        assert_eq!(nine.to_be_bytes()[..7], *b"9:9100\0");
        assert_eq!(ten.to_be_bytes()[..8], *b"10:9100\0");
        let same = [of("a"), of("a")];
        assert_eq!(SortKeys::of(same.iter()).key(&same[0]), Some(0));
    }
}
