//! Sets of series numbers: sorted, unique, and how they combine.
#![expect(
    clippy::indexing_slicing,
    reason = "every index is below the length of its slice: gallop bounds its steps by the length it was given"
)]

/// A sorted unique list of series numbers, in memory or as it lies in a file.
pub trait SortedIds {
    /// How many.
    fn n_ids(&self) -> usize;

    /// The number at `position`, which is below [`Self::n_ids`].
    fn id(&self, position: usize) -> u32;

    /// First position at or after `from` whose number is not below `id`.
    #[inline]
    fn gallop(&self, from: usize, id: u32) -> usize {
        let n = self.n_ids();
        let mut low = from;
        let mut step = 1;
        // Doubling steps: near hits cost little, far ones a logarithm.
        while low + step < n && self.id(low + step) < id {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(n);
        while low < high {
            let middle = low.midpoint(high);
            if self.id(middle) < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl SortedIds for [u32] {
    fn n_ids(&self) -> usize {
        self.len()
    }

    #[inline]
    fn id(&self, position: usize) -> u32 {
        self[position]
    }
}

/// A list as it lies in an index: big-endian, four bytes each.
#[derive(Debug, Clone, Copy)]
pub struct PostingsList<'a>(&'a [[u8; 4]]);

impl<'a> PostingsList<'a> {
    /// A list of numbers that rise strictly.
    pub fn new(ids: &'a [[u8; 4]]) -> Self {
        Self(ids)
    }

    /// In memory.
    pub fn to_vec(self) -> Vec<u32> {
        self.0.iter().map(|id| u32::from_be_bytes(*id)).collect()
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        self.0.iter().map(|id| u32::from_be_bytes(*id))
    }

    /// Appends all numbers.
    pub fn extend_into(self, out: &mut Vec<u32>) {
        out.extend(self.0.iter().map(|id| u32::from_be_bytes(*id)));
    }
}

impl SortedIds for PostingsList<'_> {
    fn n_ids(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn id(&self, position: usize) -> u32 {
        u32::from_be_bytes(self.0[position])
    }
}

/// Postings are strictly increasing; every combination here depends on it.
pub fn is_strictly_sorted(ids: &[u32]) -> bool {
    ids.is_sorted_by(|left, right| left < right)
}

/// Keeps of `ids` those that `other` has.
pub fn intersect_into(ids: &mut Vec<u32>, other: &(impl SortedIds + ?Sized)) {
    let n_other = other.n_ids();
    let mut n_kept = 0;
    let mut position = 0;
    if ids.len() / 8 < n_other && n_other / 8 < ids.len() {
        // Of like length: one step each, without a branch that depends on the data.
        let mut read = 0;
        while read < ids.len() && position < n_other {
            let (left, right) = (ids[read], other.id(position));
            ids[n_kept] = left;
            n_kept += usize::from(left == right);
            read += usize::from(left <= right);
            position += usize::from(right <= left);
        }
    } else if ids.len() <= n_other {
        for read in 0..ids.len() {
            let id = ids[read];
            position = other.gallop(position, id);
            if position == n_other {
                break;
            }
            if other.id(position) == id {
                ids[n_kept] = id;
                n_kept += 1;
            }
        }
    } else {
        for number in 0..n_other {
            let id = other.id(number);
            position = ids.as_slice().gallop(position, id);
            if position == ids.len() {
                break;
            }
            if ids[position] == id {
                ids[n_kept] = id;
                n_kept += 1;
                position += 1;
            }
        }
    }
    ids.truncate(n_kept);
}

/// Removes from `ids` those that `other` has.
pub fn subtract_into(ids: &mut Vec<u32>, other: &(impl SortedIds + ?Sized)) {
    let n_other = other.n_ids();
    if n_other == 0 {
        return;
    }
    let mut position = 0;
    ids.retain(|&id| {
        position = other.gallop(position, id);
        position == n_other || other.id(position) != id
    });
}

/// Do the two share a number?
pub fn intersects(ids: &[u32], other: &(impl SortedIds + ?Sized)) -> bool {
    let (n_ids, n_other) = (ids.len(), other.n_ids());
    let (mut left, mut right) = (0, 0);
    while left < n_ids && right < n_other {
        let id = other.id(right);
        left = ids.gallop(left, id);
        if left == n_ids {
            return false;
        }
        if ids[left] == id {
            return true;
        }
        right = other.gallop(right, ids[left]);
    }
    false
}

/// Sorts what several sorted lists were appended to; the sort takes their runs as they are.
pub fn normalize(ids: &mut Vec<u32>) {
    if !is_strictly_sorted(ids) {
        ids.sort();
        ids.dedup();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn arb_set() -> impl Strategy<Value = BTreeSet<u32>> {
        prop_oneof![
            prop::collection::btree_set(0u32..300, 0..200),
            prop::collection::btree_set(0u32..300, 0..5),
            prop::collection::btree_set(any::<u32>(), 0..50),
        ]
    }

    fn big_endian(set: &BTreeSet<u32>) -> Vec<[u8; 4]> {
        set.iter().map(|id| id.to_be_bytes()).collect()
    }

    proptest! {
        #[test]
        fn combinations_are_those_of_sets(left in arb_set(), right in arb_set()) {
            let ids: Vec<u32> = left.iter().copied().collect();
            let bytes = big_endian(&right);
            let list = PostingsList::new(&bytes);
            let native: Vec<u32> = list.to_vec();

            let both: Vec<u32> = left.intersection(&right).copied().collect();
            let mut out = ids.clone();
            intersect_into(&mut out, &list);
            prop_assert_eq!(&out, &both);
            prop_assert_eq!(intersects(&ids, &list), !both.is_empty());

            let mut out = ids.clone();
            subtract_into(&mut out, native.as_slice());
            prop_assert_eq!(out, left.difference(&right).copied().collect::<Vec<_>>());

            let mut out = ids.clone();
            list.extend_into(&mut out);
            normalize(&mut out);
            prop_assert_eq!(out, left.union(&right).copied().collect::<Vec<_>>());
        }

        #[test]
        fn galloping_finds_what_a_scan_finds(set in arb_set(), from in 0usize..200, id in 0u32..310) {
            let ids: Vec<u32> = set.into_iter().collect();
            let from = from.min(ids.len());
            let expect = ids[from..].iter().position(|&here| id <= here).map_or(ids.len(), |n| from + n);
            prop_assert_eq!(ids.as_slice().gallop(from, id), expect);
        }
    }
}
