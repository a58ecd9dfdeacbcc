//! The series that a replay has met, by their numbers in the log.
#![expect(
    clippy::indexing_slicing,
    reason = "a number's place on its page is a remainder of the places there are"
)]

use std::collections::HashMap;

use crate::head::replay_rows::SLOTS_PER_PAGE;
use crate::head::replay_slots::Slot;
use crate::model::TimestampMs;
use crate::wal::{FLOATS_PER_RUN, Unwanted};

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
    pages: Vec<Numbers>,
    by_number: HashMap<u64, usize, foldhash::fast::RandomState>,
    /// The page that was asked for last, and where it is.
    last: (u64, usize),
}

/// A page of [`Slots`].
pub(crate) struct Around<'s> {
    number: u64,
    slots: &'s [Slot; SLOTS_PER_PAGE],
}

impl Around<'_> {
    /// The series, if it is on this page.
    #[inline(always)]
    pub(crate) fn get(&self, series: u64) -> Option<Slot> {
        let (number, place) = page_and_place(series);
        (number == self.number).then(|| self.slots[place])
    }

    /// The first of series that follow each other, if they are on this page and their slots follow each other too.
    #[inline(always)]
    pub(crate) fn get_run(&self, series: u64) -> Option<Slot> {
        let (number, place) = page_and_place(series);
        let slots = self.slots.get(place..)?.first_chunk::<FLOATS_PER_RUN>()?;
        (number == self.number && Slot::are_a_run(slots)).then(|| slots[0])
    }
}

/// A page of numbers.
struct Numbers {
    slots: [Slot; SLOTS_PER_PAGE],
    n_known: usize,
    /// Before this, floats of none of them are wanted.
    from_min: TimestampMs,
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
        let slot = page.slots.get(place)?;
        (*slot != Slot::NONE).then_some(*slot)
    }

    /// The series with numbers near this one, which was asked for last.
    pub(crate) fn around(&self, series: u64) -> Option<Around<'_>> {
        let number = page_and_place(series).0;
        let page = self.pages.get(self.last.1)?;
        (self.last.0 == number).then_some(Around {
            number,
            slots: &page.slots,
        })
    }

    #[inline(never)]
    fn turn_to(&mut self, number: u64) -> Option<()> {
        self.last = (number, *self.by_number.get(&number)?);
        Some(())
    }

    /// A float of the series at `t` was not wanted: which others are not either, if that is known of its whole page.
    #[inline]
    pub(crate) fn unwanted_around(&self, series: u64, t: TimestampMs) -> Option<Unwanted> {
        let (number, place) = page_and_place(series);
        let page = self.pages.get(self.last.1)?;
        let is_known = self.last.0 == number && page.n_known == SLOTS_PER_PAGE;
        let first = series - place as u64;
        (is_known && t < page.from_min).then(|| Unwanted {
            series: first..=first + (SLOTS_PER_PAGE - 1) as u64,
            before: page.from_min,
        })
    }

    /// Floats of the series before `from` are not wanted.
    pub(crate) fn insert(&mut self, series: u64, slot: Slot, from: TimestampMs) {
        let (number, place) = page_and_place(series);
        let pages = &mut self.pages;
        let at = *self.by_number.entry(number).or_insert_with(|| {
            pages.push(Numbers {
                slots: [Slot::NONE; SLOTS_PER_PAGE],
                n_known: 0,
                from_min: TimestampMs::MAX,
            });
            pages.len() - 1
        });
        if let Some(page) = pages.get_mut(at)
            && let Some(here) = page.slots.get_mut(place)
        {
            page.n_known += usize::from(*here == Slot::NONE);
            page.from_min = page.from_min.min(from);
            *here = slot;
        }
    }

    /// From now on all floats of the series are wanted.
    pub(crate) fn want_all(&mut self, series: u64) {
        let page = self.by_number.get(&page_and_place(series).0);
        if let Some(page) = page.and_then(|at| self.pages.get_mut(*at)) {
            page.from_min = TimestampMs::MIN;
        }
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
            slots.insert(number, Slot::of_number(n * 100).unwrap(), 0);
        }
        for (n, number) in numbers.into_iter().enumerate() {
            let slot = slots.get(number).unwrap();
            assert_eq!(slot.page() * 256 + usize::from(slot.place()), n * 100);
        }
        assert_eq!(slots.get(2), None);
        assert_eq!(slots.get(257 << 8), None);
        assert_eq!(Slot::of_number(u32::MAX as usize), None, "too many series");
    }

    #[test]
    fn a_run_has_slots_that_follow_each_other_on_one_page() {
        let mut slots = Slots::new();
        for n in 0..300u64 {
            // From 100 on the slots lie elsewhere, 200 has another one, 50 has none.
            let slot = match n {
                50 => continue,
                200 => 7,
                _ => usize::try_from(n).unwrap() + if n < 100 { 1000 } else { 5000 },
            };
            slots.insert(n, Slot::of_number(slot).unwrap(), 0);
        }
        slots.get(10);
        let around = slots.around(10).unwrap();
        let run = |series| around.get_run(series);
        assert_eq!(run(0), Slot::of_number(1000));
        assert_eq!(run(42), Slot::of_number(1042));
        assert_eq!(run(248), Slot::of_number(5248));
        for series in [43, 50, 93, 99, 193, 200, 249, 255, 256, 1000, u64::MAX] {
            assert_eq!(run(series), None, "{series}");
        }
    }

    #[test]
    fn nothing_around_is_unwanted_before_all_of_a_page_is_known() {
        let mut slots = Slots::new();
        for n in 0..256 {
            assert_eq!(slots.unwanted_around(600, 0), None, "{n}");
            let from = 100 + i64::try_from(n).unwrap() % 7;
            slots.insert(512 + n, Slot::of_number(3).unwrap(), from);
            slots.get(600);
        }
        let unwanted = Unwanted {
            series: 512..=767,
            before: 100,
        };
        assert_eq!(slots.unwanted_around(600, 99), Some(unwanted));
        assert_eq!(slots.unwanted_around(600, 100), None);
        assert_eq!(slots.unwanted_around(300, 99), None);
        slots.want_all(513);
        assert_eq!(slots.unwanted_around(600, 99), None);
    }
}
