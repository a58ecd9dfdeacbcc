//! The series that a replay has met, by their numbers in the log, and the floats that wait for more of their series.

use std::collections::HashMap;

use crate::model::{Sample, TimestampMs};

/// A series of a replay: how many it met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    const NONE: Self = Self(u32::MAX);

    fn of_number(n: usize) -> Option<Self> {
        let slot = Self(u32::try_from(n).ok()?);
        (slot != Self::NONE).then_some(slot)
    }

    /// Which of so many threads has it, and where in its list.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a quotient of a number of 32 bits"
    )]
    pub(crate) fn of(self, n_lanes: usize) -> (usize, u32) {
        let (n, n_lanes) = (self.0 as usize, n_lanes.max(1));
        (n % n_lanes, (n / n_lanes) as u32)
    }

    fn page_and_place(self) -> (usize, usize) {
        let n = self.0 as usize;
        (n / SLOTS_PER_PAGE, n % SLOTS_PER_PAGE)
    }
}

const SLOTS_PER_PAGE: usize = 256;

/// The page a number is on, and its place there.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of SLOTS_PER_PAGE"
)]
fn page_and_place(series: u64) -> (u64, usize) {
    let n = SLOTS_PER_PAGE as u64;
    (series / n, (series % n) as usize)
}

/// Slots by the numbers of series in the log: four bytes each, for most numbers follow each other.
pub(crate) struct Slots {
    pages: Vec<[Slot; SLOTS_PER_PAGE]>,
    by_number: HashMap<u64, usize, foldhash::fast::RandomState>,
    /// The page that was asked for last, and where it is.
    last: (u64, usize),
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            pages: Vec::new(),
            by_number: HashMap::default(),
            last: (u64::MAX, usize::MAX),
        }
    }

    #[inline(always)]
    pub(crate) fn get(&mut self, series: u64) -> Option<Slot> {
        let (number, place) = page_and_place(series);
        if self.last.0 != number {
            self.turn_to(number)?;
        }
        let page = self.pages.get(self.last.1)?;
        let slot = page.get(place)?;
        (*slot != Slot::NONE).then_some(*slot)
    }

    #[inline(never)]
    fn turn_to(&mut self, number: u64) -> Option<()> {
        self.last = (number, *self.by_number.get(&number)?);
        Some(())
    }

    pub(crate) fn insert(&mut self, series: u64, slot: Slot) {
        let (number, place) = page_and_place(series);
        let pages = &mut self.pages;
        let at = *self.by_number.entry(number).or_insert_with(|| {
            pages.push([Slot::NONE; SLOTS_PER_PAGE]);
            pages.len() - 1
        });
        if let Some(page) = pages.get_mut(at)
            && let Some(here) = page.get_mut(place)
        {
            *here = slot;
        }
    }
}

/// So many floats of a series are handed over together at most. A log has one of each series, then the next one of each:
/// what is done for a series, and fetched from memory for it, is then done once for so many.
pub(crate) const FLOATS_PER_GROUP: usize = 16;

/// Floats that wait until there are more of their series.
#[derive(Default)]
pub(crate) struct Waiting {
    pages: Vec<Page>,
    n_series: usize,
}

struct Page {
    /// Before this, floats are not wanted.
    from: [TimestampMs; SLOTS_PER_PAGE],
    n: [u8; SLOTS_PER_PAGE],
    /// The first of each series, then the second of each: in the order in which they mostly come. None until one comes.
    floats: Vec<[Sample; FLOATS_PER_ROW]>,
}

/// A few more than are used: rows a page of memory apart would push each other out of the cache.
const FLOATS_PER_ROW: usize = SLOTS_PER_PAGE + 4;

impl Page {
    #[cold]
    #[inline(never)]
    fn make_rows(&mut self) {
        self.floats = vec![[Sample { t: 0, v: 0.0 }; FLOATS_PER_ROW]; FLOATS_PER_GROUP];
    }
}

impl Waiting {
    /// The slot of one more series.
    pub(crate) fn add(&mut self, from: TimestampMs) -> Option<Slot> {
        let slot = Slot::of_number(self.n_series)?;
        let (page, place) = slot.page_and_place();
        if page == self.pages.len() {
            self.pages.push(Page {
                from: [TimestampMs::MIN; SLOTS_PER_PAGE],
                n: [0; SLOTS_PER_PAGE],
                floats: Vec::new(),
            });
        }
        self.n_series += 1;
        *self.pages.get_mut(page)?.from.get_mut(place)? = from;
        Some(slot)
    }

    /// From now on all are wanted.
    pub(crate) fn want_all(&mut self, slot: Slot) {
        let (page, place) = slot.page_and_place();
        let page = self.pages.get_mut(page);
        if let Some(from) = page.and_then(|page| page.from.get_mut(place)) {
            *from = TimestampMs::MIN;
        }
    }

    /// How many of its series wait now; none where the float is not wanted. At [`FLOATS_PER_GROUP`] they must be taken.
    #[inline(always)]
    pub(crate) fn push(&mut self, slot: Slot, float: Sample) -> Option<usize> {
        let (page, place) = slot.page_and_place();
        let page = self.pages.get_mut(page)?;
        if float.t < *page.from.get(place)? {
            return None;
        }
        if page.floats.is_empty() {
            page.make_rows();
        }
        let n = page.n.get_mut(place)?;
        let row = page.floats.get_mut(usize::from(*n))?;
        *row.get_mut(place)? = float;
        *n += 1;
        Some(usize::from(*n))
    }

    /// Puts those that wait at the end of `out`; none does after this. How many there were.
    pub(crate) fn take(&mut self, slot: Slot, out: &mut Vec<Sample>) -> usize {
        let (page, place) = slot.page_and_place();
        let Some(page) = self.pages.get_mut(page) else {
            return 0;
        };
        let n = page.n.get_mut(place).map_or(0, std::mem::take);
        let mut column = [Sample { t: 0, v: 0.0 }; FLOATS_PER_GROUP];
        for (float, row) in column.iter_mut().zip(&page.floats).take(usize::from(n)) {
            if let Some(here) = row.get(place) {
                *float = *here;
            }
        }
        out.extend_from_slice(column.get(..usize::from(n)).unwrap_or_default());
        usize::from(n)
    }

    /// All there are.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.n_series).filter_map(Slot::of_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_number_wherever_numbers_lie() {
        let mut slots = Slots::new();
        let numbers = [0, 1, 255, 256, 1 << 40, u64::MAX, u64::MAX - 256];
        for (n, number) in numbers.into_iter().enumerate() {
            assert_eq!(slots.get(number), None);
            slots.insert(number, Slot::of_number(n).unwrap());
        }
        for (n, number) in numbers.into_iter().enumerate() {
            let slot = slots.get(number).unwrap();
            assert_eq!(slot.of(3), (n % 3, u32::try_from(n / 3).unwrap()));
        }
        assert_eq!(slots.get(2), None);
        assert_eq!(slots.get(257 << 8), None);
        assert_eq!(Slot::of_number(u32::MAX as usize), None, "too many series");
    }

    #[test]
    fn floats_wait_for_others_of_their_series_and_come_in_order() {
        let mut waiting = Waiting::default();
        let slots: Vec<Slot> = (0..600).map(|n| waiting.add(n).unwrap()).collect();
        for round in 0..FLOATS_PER_GROUP {
            for (from, slot) in slots.iter().enumerate() {
                let t = i64::try_from(from + round).unwrap();
                let n = waiting.push(*slot, Sample { t, v: 0.5 });
                assert_eq!(n, Some(round + 1));
                assert_eq!(
                    waiting.push(
                        *slot,
                        Sample {
                            t: t - 1 - i64::try_from(round).unwrap(),
                            v: 0.5
                        }
                    ),
                    None
                );
            }
        }
        for (from, slot) in slots.iter().enumerate() {
            let mut floats = Vec::new();
            assert_eq!(waiting.take(*slot, &mut floats), FLOATS_PER_GROUP);
            let times: Vec<i64> = floats.iter().map(|float| float.t).collect();
            let from = i64::try_from(from).unwrap();
            let expect: Vec<i64> = (from..).take(FLOATS_PER_GROUP).collect();
            assert_eq!(times, expect);
            assert_eq!(waiting.take(*slot, &mut floats), 0);
            assert_eq!(floats.len(), FLOATS_PER_GROUP);
        }
        waiting.want_all(slots[300]);
        assert_eq!(waiting.push(slots[300], Sample { t: -7, v: 0.5 }), Some(1));
        assert_eq!(waiting.slots().collect::<Vec<_>>(), slots);
    }
}
