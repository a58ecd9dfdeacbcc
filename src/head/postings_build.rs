//! All lists of labels at once, for who gets to know many series before anybody asks for one.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::head::postings::{Postings, halves};
use crate::head::postings_page::{Page, Values};
use crate::head::series::MemSeries;
use crate::model::Labels;

/// What series have which label, not in order yet.
#[derive(Default)]
pub(crate) struct PostingsBuilder {
    pages: BTreeMap<u32, PageBuilder>,
}

impl PostingsBuilder {
    /// The labels of one more series.
    pub(crate) fn add(&mut self, series: &MemSeries) {
        let (high, low) = halves(series.series);
        let page = self.pages.entry(high).or_default();
        page.add(low, &series.labels);
    }

    /// The lists.
    pub(crate) fn build(self) -> Postings {
        let pages = self.pages.into_iter();
        let pages = pages.map(|(high, page)| (high, page.build()));
        Postings::of_pages(pages.collect())
    }
}

/// The same of series that share the upper half of their numbers.
#[derive(Default)]
struct PageBuilder {
    pairs: Vec<Pair>,
    by_text: HashTable<u32>,
    /// Lower half of each series' number, and how many of `labels` are up to its last.
    series: Vec<(u32, usize)>,
    /// The pairs of one series after the other.
    labels: Vec<u32>,
    /// Where those of the last series begin.
    last_start: usize,
    hasher: RandomState,
}

struct Pair {
    name: Arc<str>,
    value: Arc<str>,
    hash: u64,
    n_series: usize,
}

impl PageBuilder {
    fn add(&mut self, series: u32, labels: &Labels) {
        // Series that come after each other mostly share labels, at the same places.
        let end_before = self.labels.len();
        let start_before = std::mem::replace(&mut self.last_start, end_before);
        for (before, (name, value)) in (start_before..).zip(labels) {
            let same = self.labels.get(before..end_before);
            if let Some(at) = same.and_then(|same| same.first().copied())
                && let Some(pair) = self.pairs.get_mut(at as usize)
                && *pair.value == *value
                && *pair.name == *name
            {
                pair.n_series += 1;
                self.labels.push(at);
                continue;
            }
            let hash = self.hasher.hash_one((name, value));
            let pairs = &mut self.pairs;
            let found = self.by_text.find(hash, |at| {
                let pair = pairs.get(*at as usize);
                pair.is_some_and(|pair| *pair.value == *value && *pair.name == *name)
            });
            if let Some(at) = found {
                if let Some(pair) = pairs.get_mut(*at as usize) {
                    pair.n_series += 1;
                }
                self.labels.push(*at);
                continue;
            }
            // Four billion different pairs are more than memory has.
            let at = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
            pairs.push(Pair {
                name: Arc::from(name),
                value: Arc::from(value),
                hash,
                n_series: 1,
            });
            let hash_of = |at: &u32| pairs.get(*at as usize).map_or(0, |pair| pair.hash);
            self.by_text.insert_unique(hash, at, hash_of);
            self.labels.push(at);
        }
        self.series.push((series, self.labels.len()));
    }

    fn build(self) -> Page {
        let Self {
            pairs,
            by_text,
            series,
            labels,
            ..
        } = self;
        drop(by_text);
        let mut order: Vec<(u32, usize, usize)> = Vec::with_capacity(series.len());
        let mut start = 0;
        for (number, end) in series {
            order.push((number, start, end));
            start = end;
        }
        order.sort_unstable();
        let mut lists: Vec<Vec<u32>> = (pairs.iter())
            .map(|pair| Vec::with_capacity(pair.n_series))
            .collect();
        for (number, start, end) in &order {
            for at in labels.get(*start..*end).unwrap_or_default() {
                if let Some(list) = lists.get_mut(*at as usize) {
                    list.push(*number);
                }
            }
        }
        let all = order.iter().map(|(number, ..)| *number).collect();
        let mut texts: Vec<_> = pairs.into_iter().zip(lists).collect();
        texts.sort_unstable_by(|(left, _), (right, _)| {
            (&left.name, &left.value).cmp(&(&right.name, &right.value))
        });
        let mut names: BTreeMap<Arc<str>, Values> = BTreeMap::new();
        let mut texts = texts.into_iter().peekable();
        while let Some((pair, list)) = texts.next() {
            let name = pair.name;
            let mut values = vec![(pair.value, list)];
            while let Some((pair, list)) = texts.next_if(|(next, _)| next.name == name) {
                values.push((pair.value, list));
            }
            names.insert(name, values.into_iter().collect());
        }
        Page::of_lists(names, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_that_series_one_by_one_would_make() {
        let mut builder = PostingsBuilder::default();
        let mut postings = Postings::default();
        for n in 0..700u64 {
            let number = (n * 37) % 700 + ((n % 5 / 4) << 40);
            let text = [number.to_string(), (number % 3).to_string()];
            let pairs = [("n", &*text[0]), ("third", &text[1]), ("v\u{ff}", &text[1])];
            // Some lack the first, so that the same value stands at the same place under another name, and some have none.
            let from = [0, 1, 1, 2, 3, 0, 0][usize::try_from(n % 7).unwrap()];
            let labels = Labels::new(&pairs[from..]).unwrap();
            let series = MemSeries::new(number, labels.key(), labels);
            builder.add(&series);
            postings.insert(number, &series.labels);
        }
        assert_eq!(builder.build(), postings);
        assert_eq!(PostingsBuilder::default().build(), Postings::default());
    }
}
