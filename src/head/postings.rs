//! Which series have which label.

use std::collections::BTreeMap;

use crate::head::postings_page::Page;
use crate::model::{Labels, Matcher};

/// References by label name and value.
///
/// Numbers are given one after another, so nearly always all of them share their upper half, which is kept once: a page
/// for each there is, in ascending order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Postings {
    pages: BTreeMap<u32, Page>,
}

/// References that may match, sorted, and the matchers the labels themselves must still pass.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    pub(crate) series: Vec<u64>,
    pub(crate) unchecked: Vec<&'a Matcher>,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of a reference"
)]
pub(crate) fn halves(series: u64) -> (u32, u32) {
    ((series >> 32) as u32, series as u32)
}

fn whole(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Lower halves by upper half; `series` ascends.
fn by_page(series: &[u64]) -> BTreeMap<u32, Vec<u32>> {
    let mut pages: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (high, low) in series.iter().copied().map(halves) {
        pages.entry(high).or_default().push(low);
    }
    pages
}

impl Postings {
    pub(crate) fn of_pages(pages: BTreeMap<u32, Page>) -> Self {
        Self { pages }
    }

    pub(crate) fn insert(&mut self, series: u64, labels: &Labels) {
        let (high, low) = halves(series);
        self.pages.entry(high).or_default().insert(low, labels);
    }

    /// Takes series out of the list of all; `dead` ascends.
    pub(crate) fn remove_from_all(&mut self, dead: &[u64]) {
        for (high, dead) in by_page(dead) {
            if let Some(page) = self.pages.get_mut(&high) {
                page.remove_from_all(&dead);
            }
        }
    }

    /// Takes series out of the lists of `pairs`; `dead` ascends.
    pub(crate) fn remove(&mut self, pairs: &[(&str, &str)], dead: &[u64]) {
        for (high, dead) in by_page(dead) {
            if let Some(page) = self.pages.get_mut(&high) {
                page.remove(pairs, &dead);
            }
        }
        self.pages.retain(|_, page| !page.is_empty());
    }

    /// How many pairs of a name and a value there are. Walks over all names.
    pub(crate) fn n_pairs(&self) -> usize {
        match self.only_page() {
            Some(page) => page.n_pairs(),
            None => self.names().map(|name| self.values(name).count()).sum(),
        }
    }

    /// All names in order.
    pub(crate) fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        if let Some(page) = self.only_page() {
            return Box::new(page.names());
        }
        let mut names: Vec<&str> = self.pages.values().flat_map(Page::names).collect();
        names.sort_unstable();
        names.dedup();
        Box::new(names.into_iter())
    }

    /// The values of `name` in order, and how many series have each.
    pub(crate) fn values<'a>(
        &'a self,
        name: &'a str,
    ) -> Box<dyn Iterator<Item = (&'a str, usize)> + 'a> {
        if let Some(page) = self.only_page() {
            return Box::new(page.values(name));
        }
        let mut values: BTreeMap<&str, usize> = BTreeMap::new();
        for (value, n_series) in self.pages.values().flat_map(|page| page.values(name)) {
            *values.entry(value).or_default() += n_series;
        }
        Box::new(values.into_iter())
    }

    pub(crate) fn has_value(&self, name: &str, value: &str) -> bool {
        let mut pages = self.pages.values();
        pages.any(|page| page.has_value(name, value))
    }

    /// At most how many series match, where one of the matchers has a list of those that it accepts.
    pub(crate) fn series_at_most(&self, matchers: &[&Matcher]) -> Option<usize> {
        let mut pages = self.pages.values();
        pages.try_fold(0, |sum, page| Some(sum + page.series_at_most(matchers)?))
    }

    /// The series that match; what is dearer to look up than to check is left to the caller.
    pub(crate) fn candidates<'a>(&self, matchers: &'a [Matcher]) -> Candidates<'a> {
        let mut series = Vec::new();
        let mut unchecked: Vec<&Matcher> = Vec::new();
        for (high, page) in &self.pages {
            let candidates = page.candidates(matchers);
            series.reserve_exact(candidates.series.len());
            series.extend(candidates.series.iter().map(|low| whole(*high, *low)));
            // What one page has not looked up is checked for the series of all.
            for matcher in candidates.unchecked {
                if !unchecked.iter().any(|known| std::ptr::eq(*known, matcher)) {
                    unchecked.push(matcher);
                }
            }
        }
        Candidates { series, unchecked }
    }

    fn only_page(&self) -> Option<&Page> {
        let mut pages = self.pages.values();
        pages.next().filter(|_| self.pages.len() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MatchType;

    /// The number of series `n` where there are so many upper halves.
    fn number(n: u64, n_pages: u64) -> u64 {
        whole(
            u32::try_from(n % n_pages).unwrap(),
            u32::try_from(n).unwrap(),
        )
    }

    fn labels(n: u64) -> Labels {
        let (n, odd) = (n.to_string(), (n % 2).to_string());
        let some = if odd == "1" { "x" } else { "" };
        Labels::new(&[("n", n.as_str()), ("odd", odd.as_str()), ("some", some)]).unwrap()
    }

    fn found(postings: &Postings, matchers: &[Matcher]) -> Vec<u64> {
        let candidates = postings.candidates(matchers);
        candidates
            .series
            .into_iter()
            .filter(|n| {
                let labels = labels(halves(*n).1.into());
                let mut unchecked = candidates.unchecked.iter();
                unchecked.all(|m| m.matches(labels.value(&m.name)))
            })
            .collect()
    }

    #[test]
    fn every_pair_of_matchers_finds_what_a_scan_finds() {
        let matchers = matchers();
        for n_pages in [1, 3] {
            compare_with_scan(&matchers, n_pages);
        }
    }

    fn matchers() -> Vec<Matcher> {
        let mut matchers = Vec::new();
        for name in ["n", "odd", "some", "none"] {
            for value in [
                "",
                "1",
                "x",
                "1|2|33",
                "1.*",
                ".*",
                ".+",
                "(|x)",
                "[13]",
                "z",
                "(1|2).*|33",
                ".*1",
                "1.+|x.*|",
            ] {
                for match_type in [
                    MatchType::Equal,
                    MatchType::NotEqual,
                    MatchType::Regex,
                    MatchType::NotRegex,
                ] {
                    matchers.push(Matcher::new(match_type, name, value).unwrap());
                }
            }
        }
        matchers
    }

    fn compare_with_scan(matchers: &[Matcher], n_pages: u64) {
        let mut postings = Postings::default();
        for n in 0..100 {
            // Even ones late: references do not always come in order.
            let n = (n * 37) % 100;
            postings.insert(number(n, n_pages), &labels(n));
        }
        let series: Vec<Labels> = (0..100).map(labels).collect();
        let hits = |m: &Matcher| -> Vec<bool> {
            let matches = |labels: &Labels| m.matches(labels.value(&m.name));
            series.iter().map(matches).collect()
        };
        let hits: Vec<Vec<bool>> = matchers.iter().map(hits).collect();
        for (left, in_left) in matchers.iter().zip(&hits) {
            for (right, in_right) in matchers.iter().zip(&hits) {
                let pair = [left.clone(), right.clone()];
                let both = in_left.iter().zip(in_right).map(|(l, r)| *l && *r);
                let scan: Vec<u64> = (0..)
                    .zip(both)
                    .filter_map(|(n, hit)| hit.then_some(number(n, n_pages)))
                    .collect();
                if let Some(n) = postings.series_at_most(&[left, right]) {
                    assert!(scan.len() <= n, "{} of {n}: {pair:?}", scan.len());
                }
                assert_eq!(found(&postings, &pair), sorted(scan), "{pair:?}");
            }
        }
    }

    #[test]
    fn how_many_match_at_most_is_told_by_the_shortest_list_of_a_value() {
        for n_pages in [1, 3] {
            let mut postings = Postings::default();
            (0..10).for_each(|n| postings.insert(number(n, n_pages), &labels(n)));
            let (odd, n) = (Matcher::equal("odd", "1"), Matcher::equal("n", "7"));
            let none = Matcher::equal("none", "");
            assert_eq!(postings.series_at_most(&[&odd]), Some(5));
            assert_eq!(postings.series_at_most(&[&odd, &none, &n]), Some(1));
            assert_eq!(postings.series_at_most(&[&none]), None);
        }
    }

    fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn removed_series_leave_no_label_behind() {
        for n_pages in [1, 3] {
            let mut postings = Postings::default();
            for n in 0..10 {
                postings.insert(number(n, n_pages), &labels(n));
            }
            assert_eq!(postings.n_pairs(), 13);
            let dead = [1, 3, 5, 7, 9];
            let of_dead = dead.map(labels);
            let pairs: Vec<_> = of_dead.iter().flatten().collect();
            let dead = sorted(dead.map(|n| number(n, n_pages)).to_vec());
            postings.remove_from_all(&dead);
            postings.remove(&pairs, &dead);
            assert_eq!(postings.names().collect::<Vec<_>>(), ["n", "odd"]);
            assert_eq!(postings.values("odd").collect::<Vec<_>>(), [("0", 5)]);
            assert!(postings.has_value("n", "8") && !postings.has_value("n", "9"));
            let left = [0, 2, 4, 6, 8].map(|n| number(n, n_pages)).to_vec();
            assert_eq!(found(&postings, &[]), sorted(left));
            assert_eq!(postings.n_pairs(), 6);
        }
    }
}
