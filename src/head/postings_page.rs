//! Which series have which label, among numbers that share their upper half.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::model::{Labels, MatchType, Matcher};

pub(crate) type Values = BTreeMap<Arc<str>, Vec<u32>>;

/// Lower halves of references by label name and value, each list sorted.
///
/// Every series is in as many lists as it has labels, so half a reference is what counts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page {
    names: BTreeMap<Arc<str>, Values>,
    all: Vec<u32>,
}

/// Lower halves of references that may match, sorted, and the matchers the labels themselves must still pass.
#[derive(Debug)]
pub(crate) struct PageCandidates<'a> {
    pub(crate) series: Vec<u32>,
    pub(crate) unchecked: Vec<&'a Matcher>,
}

/// Looking at the labels of so many series is cheaper than at a label value each.
const SERIES_PER_VALUE: usize = 1;

impl Page {
    /// Of lists that ascend; `all` are all series.
    pub(crate) fn of_lists(names: BTreeMap<Arc<str>, Values>, all: Vec<u32>) -> Self {
        Self { names, all }
    }

    pub(crate) fn insert(&mut self, series: u32, labels: &Labels) {
        insert_sorted(&mut self.all, series);
        for (name, value) in labels {
            if !self.names.contains_key(name) {
                self.names.insert(Arc::from(name), Values::new());
            }
            let Some(values) = self.names.get_mut(name) else {
                continue;
            };
            match values.get_mut(value) {
                Some(list) => insert_sorted(list, series),
                None => {
                    values.insert(Arc::from(value), vec![series]);
                }
            }
        }
    }

    /// Takes series out of the list of all; `dead` ascends.
    pub(crate) fn remove_from_all(&mut self, dead: &[u32]) {
        retain_living(&mut self.all, dead);
    }

    /// Takes series out of the lists of `pairs`; `dead` ascends.
    pub(crate) fn remove(&mut self, pairs: &[(&str, &str)], dead: &[u32]) {
        for (name, value) in pairs {
            let Some(values) = self.names.get_mut(*name) else {
                continue;
            };
            let Some(list) = values.get_mut(*value) else {
                continue;
            };
            retain_living(list, dead);
            if list.is_empty() {
                values.remove(*value);
            }
            if values.is_empty() {
                self.names.remove(*name);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.names.is_empty()
    }

    pub(crate) fn n_pairs(&self) -> usize {
        self.names.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// The values of `name` in order, and how many series have each.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, usize)> {
        let values = self.names.get(name).into_iter().flatten();
        values.map(|(value, list)| (&**value, list.len()))
    }

    pub(crate) fn has_value(&self, name: &str, value: &str) -> bool {
        self.names.get(name).is_some_and(|v| v.contains_key(value))
    }

    /// At most how many series match, told by the shortest list that all of them are in.
    pub(crate) fn series_at_most(&self, matchers: &[&Matcher]) -> Option<usize> {
        let exact = matchers
            .iter()
            .filter(|matcher| matcher.match_type == MatchType::Equal && !matcher.value.is_empty());
        exact
            .map(|matcher| self.list(&matcher.name, &matcher.value).len())
            .min()
    }

    /// The series that match; what is dearer to look up than to check is left to the caller.
    pub(crate) fn candidates<'a>(&self, matchers: &'a [Matcher]) -> PageCandidates<'a> {
        let mut lists: Vec<Vec<u32>> = Vec::new();
        let mut exact: Vec<&[u32]> = Vec::new();
        let mut costly = Vec::new();
        for matcher in matchers {
            if matcher.accepts_everything() && !matcher.is_negative() {
                continue;
            }
            match (matcher.match_type, matcher.words()) {
                (MatchType::Equal, _) if !matcher.value.is_empty() => {
                    exact.push(self.list(&matcher.name, &matcher.value));
                }
                (MatchType::Regex, Some(words)) if !matcher.matches_empty() => {
                    let words = words.iter().map(|word| self.list(&matcher.name, word));
                    lists.push(union(words));
                }
                _ => costly.push(matcher),
            }
        }
        exact.extend(lists.iter().map(Vec::as_slice));
        exact.sort_unstable_by_key(|list| list.len());
        let mut series: Option<Vec<u32>> = None;
        for list in exact {
            series = Some(match series {
                None => list.to_vec(),
                Some(series) => intersect(&series, list),
            });
        }
        let mut unchecked = Vec::new();
        // Matchers that narrow come first, those that subtract last.
        costly.sort_by_key(|matcher| matcher.matches_empty());
        for matcher in costly {
            let n_values = self.names.get(&*matcher.name).map_or(0, BTreeMap::len);
            if let Some(series) = &series
                && series.len() <= n_values.saturating_mul(SERIES_PER_VALUE).max(16)
            {
                unchecked.push(matcher);
                continue;
            }
            series = Some(if matcher.matches_empty() {
                let wrong = self.lists_where(matcher, false);
                subtract(series.as_deref().unwrap_or(&self.all), &wrong)
            } else {
                let right = self.lists_where(matcher, true);
                match series {
                    None => right,
                    Some(series) => intersect(&series, &right),
                }
            });
        }
        PageCandidates {
            series: series.unwrap_or_else(|| self.all.clone()),
            unchecked,
        }
    }

    fn list(&self, name: &str, value: &str) -> &[u32] {
        self.names
            .get(name)
            .and_then(|values| values.get(value))
            .map_or(&[], Vec::as_slice)
    }

    /// The series with those values of the matcher's label whose match is `wanted`.
    fn lists_where(&self, matcher: &Matcher, wanted: bool) -> Vec<u32> {
        let name = &*matcher.name;
        let Some(values) = self.names.get(name) else {
            return Vec::new();
        };
        // With the negation taken off: what the bare value or pattern must say.
        let positive = wanted != matcher.is_negative();
        if positive && matches!(matcher.match_type, MatchType::Equal | MatchType::NotEqual) {
            return self.list(name, &matcher.value).to_vec();
        }
        if positive && let Some(words) = matcher.words() {
            return union(words.iter().map(|word| self.list(name, word)));
        }
        let anything = [String::new()];
        let prefixes = match matcher.prefixes() {
            known if positive && !known.is_empty() => known,
            _ => &anything,
        };
        let in_ranges = prefixes.iter().flat_map(|prefix| {
            values
                .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
                .take_while(move |(value, _)| value.starts_with(prefix.as_str()))
        });
        let hits = in_ranges.filter(|(value, _)| matcher.matches(value) == wanted);
        union(hits.map(|(_, list)| list.as_slice()))
    }
}

/// References mostly come in ascending order.
fn insert_sorted(list: &mut Vec<u32>, series: u32) {
    if list.len() == list.capacity() {
        // Lists of every label of every series: what doubling would leave empty adds up.
        list.reserve_exact(list.len() / 8 + 1);
    }
    if list.last().is_none_or(|last| *last < series) {
        list.push(series);
    } else if let Err(at) = list.binary_search(&series) {
        list.insert(at, series);
    }
}

/// Takes `dead` out of `list`; both ascend.
fn retain_living(list: &mut Vec<u32>, dead: &[u32]) {
    if list.len() < dead.len() / 16 {
        list.retain(|series| dead.binary_search(series).is_err());
    } else {
        let mut dead = dead.iter().peekable();
        list.retain(|series| {
            while dead.next_if(|gone| *gone < series).is_some() {}
            dead.peek() != Some(&series)
        });
    }
    if list.len() < list.capacity() / 2 {
        list.shrink_to_fit();
    }
}

/// A series has one value of a label, so lists of one label share nothing.
fn union<'a>(lists: impl Iterator<Item = &'a [u32]>) -> Vec<u32> {
    let mut all = Vec::new();
    let mut n_lists = 0;
    for list in lists {
        n_lists += usize::from(!list.is_empty());
        all.extend_from_slice(list);
    }
    if n_lists > 1 {
        all.sort_unstable();
    }
    all
}

fn intersect(left: &[u32], right: &[u32]) -> Vec<u32> {
    let (short, mut long) = if left.len() <= right.len() {
        (left, right)
    } else {
        (right, left)
    };
    let mut both = Vec::with_capacity(short.len());
    for series in short {
        // Galloping: cheap when the lists are alike, logarithmic when they are not.
        let mut step = 1;
        while long.get(step).is_some_and(|at| at < series) {
            step *= 2;
        }
        let window = long
            .get(..=step.min(long.len().saturating_sub(1)))
            .unwrap_or(long);
        let at = window.partition_point(|at| at < series);
        long = long.get(at..).unwrap_or_default();
        if long.first() == Some(series) {
            both.push(*series);
        }
    }
    both
}

fn subtract(from: &[u32], wrong: &[u32]) -> Vec<u32> {
    let mut wrong = wrong.iter().peekable();
    from.iter()
        .filter(|series| {
            while wrong.next_if(|w| w < series).is_some() {}
            wrong.peek() != Some(series)
        })
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_lists_lose_the_same() {
        let dead: Vec<u32> = (0..1000).filter(|n| n % 3 == 0).collect();
        for n in [0, 1, 2, 19, 20, 21, 400, 1500] {
            let mut list: Vec<u32> = (0..n).map(|at| at * 7).collect();
            let expect: Vec<u32> = list
                .iter()
                .filter(|series| !dead.contains(series))
                .copied()
                .collect();
            retain_living(&mut list, &dead);
            assert_eq!(list, expect, "{n}");
        }
    }
}
