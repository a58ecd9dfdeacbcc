//! The floats of a replay that wait for more of their series.
#![expect(
    clippy::indexing_slicing,
    reason = "a place is a byte, and all that has places has at least 256 of them"
)]

use crate::head::replay_rows::{Free, Rows, SLOTS_PER_PAGE};
use crate::model::TimestampMs;
use crate::wal::FLOATS_PER_RUN;

/// A series of a replay: the page of [`Waiting`] that has it, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn of_number(n: usize) -> Option<Self> {
        let slot = Self(u32::try_from(n).ok()?);
        (slot != Self::NONE).then_some(slot)
    }

    pub(crate) fn page(self) -> usize {
        self.0 as usize / SLOTS_PER_PAGE
    }

    #[inline(always)]
    pub(crate) fn place(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Do they follow each other?
    #[inline(always)]
    pub(crate) fn are_a_run(slots: &[Self; FLOATS_PER_RUN]) -> bool {
        let follows = |(n, slot): (u32, &Self)| slot.0 ^ slots[0].0.wrapping_add(n);
        (0..).zip(slots).map(follows).fold(0, |all, one| all | one) == 0
    }
}

/// Floats that wait until there are more of their series.
pub(crate) struct Waiting {
    pages: Vec<Page>,
    n_series: usize,
}

struct Page {
    /// Before this, floats are not wanted.
    from: [TimestampMs; SLOTS_PER_PAGE],
    /// The least and the most of `from`: mostly they say enough.
    from_min: TimestampMs,
    from_max: TimestampMs,
    /// None until a float comes.
    rows: Option<Rows>,
    /// A float came.
    has_begun: bool,
}

/// A page of [`Waiting`] where floats wait.
pub(crate) struct Taking<'w> {
    page: usize,
    from: &'w [TimestampMs; SLOTS_PER_PAGE],
    from_max: TimestampMs,
    rows: &'w mut Rows,
}

/// The same, for floats so new that all of them are wanted.
pub(crate) struct TakingNew<'t> {
    page: usize,
    from: TimestampMs,
    from_each: &'t [TimestampMs; SLOTS_PER_PAGE],
    floor: TimestampMs,
    free: Free<'t>,
}

impl TakingNew<'_> {
    /// Lets a float wait; false where [`Taking::push`] has to say what becomes of it.
    #[inline(always)]
    pub(crate) fn push(&mut self, slot: Slot, t: TimestampMs, v: f64) -> bool {
        slot.page() == self.page && self.from <= t && self.free.push(slot.place(), t, v)
    }

    /// The same for floats of series that follow each other, of one time: how many of them are not wanted. `None` where
    /// [`Taking::push`] has to say what becomes of each.
    #[inline(always)]
    pub(crate) fn push_run(
        &mut self,
        slot: Slot,
        t: TimestampMs,
        values: &[f64; FLOATS_PER_RUN],
    ) -> Option<u64> {
        let place = slot.place();
        if slot.page() != self.page || t < self.floor {
            None
        } else if self.from <= t && self.free.push_run(place, t, values) {
            Some(0)
        } else {
            self.free.push_uneven(place, t, values, self.from_each)
        }
    }
}

impl Taking<'_> {
    /// For floats that are neither older than `floor` nor than any that is not wanted.
    pub(crate) fn new_from(&mut self, floor: TimestampMs) -> TakingNew<'_> {
        TakingNew {
            page: self.page,
            from: floor.max(self.from_max),
            from_each: self.from,
            floor,
            free: self.rows.free(),
        }
    }

    /// Lets a float wait; there is no room for one of another page.
    #[inline(always)]
    pub(crate) fn push(&mut self, slot: Slot, t: TimestampMs, v: f64) -> Waits {
        let place = slot.place();
        if slot.page() != self.page {
            Waits::NoRoom
        } else if t < self.from_max && t < self.from[usize::from(place)] {
            Waits::NotWanted
        } else if self.rows.free().push(place, t, v) {
            Waits::Yes
        } else {
            Waits::NoRoom
        }
    }
}

/// What becomes of a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It waits for others of its series.
    Yes,
    /// There is no room for it before [`Waiting::turn`].
    NoRoom,
    /// It is not wanted.
    NotWanted,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self {
            pages: Vec::new(),
            n_series: 0,
        }
    }

    /// The slot of one more series, behind the one before: what a log has in a row waits on one page.
    pub(crate) fn add(&mut self, from: TimestampMs) -> Option<Slot> {
        let slot = Slot::of_number(self.n_series)?;
        let page = slot.page();
        while self.pages.len() <= page {
            self.pages.push(Page {
                from: [TimestampMs::MIN; SLOTS_PER_PAGE],
                from_min: TimestampMs::MAX,
                from_max: TimestampMs::MIN,
                rows: None,
                has_begun: false,
            });
        }
        self.n_series += 1;
        let page = self.pages.get_mut(slot.page())?;
        page.from[usize::from(slot.place())] = from;
        page.from_min = page.from_min.min(from);
        page.from_max = page.from_max.max(from);
        Some(slot)
    }

    /// From now on all are wanted.
    pub(crate) fn want_all(&mut self, slot: Slot) {
        if let Some(page) = self.pages.get_mut(slot.page()) {
            page.from[usize::from(slot.place())] = TimestampMs::MIN;
            page.from_min = TimestampMs::MIN;
        }
    }

    /// Lets a float wait.
    #[inline(always)]
    pub(crate) fn push(&mut self, slot: Slot, t: TimestampMs, v: f64) -> Waits {
        let Some(page) = self.pages.get_mut(slot.page()) else {
            return Waits::NotWanted;
        };
        let place = slot.place();
        if t < page.from_max && (t < page.from_min || t < page.from[usize::from(place)]) {
            return Waits::NotWanted;
        }
        let rows = page.rows.as_mut();
        if rows.is_some_and(|rows| rows.free().push(place, t, v)) {
            Waits::Yes
        } else {
            Waits::NoRoom
        }
    }

    /// The page of the series, if floats wait there.
    pub(crate) fn page(&mut self, slot: Slot) -> Option<Taking<'_>> {
        let page = self.pages.get_mut(slot.page())?;
        Some(Taking {
            page: slot.page(),
            from: &page.from,
            from_max: page.from_max,
            rows: page.rows.as_mut()?,
        })
    }

    /// Does a float of the series wait?
    pub(crate) fn has(&self, slot: Slot) -> bool {
        let rows = self.pages.get(slot.page());
        let rows = rows.and_then(|page| page.rows.as_ref());
        rows.is_some_and(|rows| rows.has(slot.place()))
    }

    /// Gives the page others, or none, and takes what waits.
    pub(crate) fn turn(&mut self, page: usize, next: Option<Rows>) -> Option<Rows> {
        let page = self.pages.get_mut(page)?;
        page.has_begun |= next.is_some();
        std::mem::replace(&mut page.rows, next)
    }

    /// Did a float ever wait on the page?
    pub(crate) fn has_begun(&self, page: usize) -> bool {
        self.pages.get(page).is_some_and(|page| page.has_begun)
    }

    /// So many pages there are.
    pub(crate) fn n_pages(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::replay_rows::{FLOATS_PER_GROUP, column};
    use crate::model::Sample;

    #[test]
    fn floats_wait_for_others_of_their_series_and_come_in_order() {
        let mut waiting = Waiting::new();
        let slots: Vec<Slot> = (0..600).map(|n| waiting.add(n).unwrap()).collect();
        assert_eq!(waiting.n_pages(), 3);
        for page in 0..3 {
            assert!(waiting.turn(page, Some(Rows::new(300))).is_none());
        }
        for round in 0..FLOATS_PER_GROUP {
            for (from, slot) in slots.iter().enumerate() {
                let t = i64::try_from(from + round).unwrap();
                let v = f64::from(u32::try_from(from * 1000 + round).unwrap());
                assert_eq!(waiting.has(*slot), 0 < round);
                assert_eq!(waiting.push(*slot, t, v), Waits::Yes);
                let before = t - 1 - i64::try_from(round).unwrap();
                assert_eq!(waiting.push(*slot, before, v), Waits::NotWanted);
            }
        }
        let last = slots[599];
        assert_eq!(waiting.push(last, 10_000, 0.5), Waits::NoRoom);
        for page in 0..3 {
            let rows = waiting.turn(page, None).unwrap();
            for place in 0..256 {
                let from = page * 256 + place;
                let n = if from < 600 { FLOATS_PER_GROUP } else { 0 };
                let expect: Vec<Sample> = (0..n)
                    .map(|round| Sample {
                        t: i64::try_from(from + round).unwrap(),
                        v: f64::from(u32::try_from(from * 1000 + round).unwrap()),
                    })
                    .collect();
                assert_eq!(column(&rows, place), expect);
            }
        }
        assert!(!waiting.has(last));
        assert_eq!(waiting.push(last, 10_000, 0.5), Waits::NoRoom);
        assert!(waiting.turn(2, Some(Rows::new(10_000))).is_none());
        assert_eq!(waiting.push(last, 10_000, 0.5), Waits::Yes);
        waiting.want_all(slots[300]);
        waiting.turn(1, Some(Rows::new(0)));
        assert_eq!(waiting.push(slots[300], -7, 0.5), Waits::Yes);
    }

    #[test]
    fn a_page_takes_its_own_floats_that_are_wanted_and_no_others() {
        let mut waiting = Waiting::new();
        let slots: Vec<Slot> = (0..600).map(|n| waiting.add(n).unwrap()).collect();
        assert!(waiting.page(slots[300]).is_none());
        waiting.turn(1, Some(Rows::new(300)));
        let mut page = waiting.page(slots[300]).unwrap();
        for other in [slots[0], slots[599], Slot::NONE] {
            assert_eq!(page.push(other, 700, 0.5), Waits::NoRoom);
        }
        assert_eq!(page.push(slots[300], 299, 0.5), Waits::NotWanted);
        assert_eq!(page.push(slots[300], 300, 0.5), Waits::Yes);
        assert!(waiting.has(slots[300]) && !waiting.has(slots[301]));
    }

    #[test]
    fn a_page_takes_new_floats_without_asking_and_leaves_the_others_to_be_asked_for() {
        let mut waiting = Waiting::new();
        let slots: Vec<Slot> = (0..600).map(|n| waiting.add(n).unwrap()).collect();
        waiting.turn(1, Some(Rows::new(600)));
        // The last of the page is wanted from 511 on.
        for (floor, from) in [(0, 511), (700, 700)] {
            let mut page = waiting.page(slots[300]).unwrap();
            let mut new = page.new_from(floor);
            for other in [slots[0], slots[599], Slot::NONE] {
                assert!(!new.push(other, 800, 0.5));
            }
            assert!(!new.push(slots[300], from - 1, 0.5));
            assert!(!new.push(slots[300], 1 << 40, 0.5));
            for t in 0..8 {
                assert!(new.push(slots[300], from + t, 0.5));
            }
        }
        let mut page = waiting.page(slots[300]).unwrap();
        assert!(!page.new_from(0).push(slots[300], 800, 0.5), "it has all");
        assert_eq!(page.push(slots[301], 510, 0.25), Waits::Yes);
        assert!(page.new_from(0).push(slots[301], 800, 0.5));
        let rows = waiting.turn(1, None).unwrap();
        let times = |place| {
            let column = column(&rows, place).into_iter();
            column.map(|float| float.t).collect::<Vec<_>>()
        };
        assert_eq!(times(44), (511..519).chain(700..708).collect::<Vec<_>>());
        assert_eq!(times(45), [510, 800]);
        assert!(times(46).is_empty());
    }

    fn values(from: usize) -> [f64; FLOATS_PER_RUN] {
        std::array::from_fn(|n| f64::from(u32::try_from(from + n).unwrap()))
    }

    #[test]
    fn floats_of_series_that_follow_each_other_wait_together() {
        let mut waiting = Waiting::new();
        let slots: Vec<Slot> = (0..600).map(|n| waiting.add(n).unwrap()).collect();
        waiting.turn(1, Some(Rows::new(600)));
        let mut page = waiting.page(slots[300]).unwrap();
        let mut new = page.new_from(400);
        for (slot, t, expect) in [
            (300, 700, Some(0)),
            (300, 800, Some(0)),
            (504, 700, Some(0)),
            // Another page, the end of this one, too far from the others, before the floor.
            (0, 700, None),
            (505, 700, None),
            (320, 1 << 40, None),
            (320, 399, None),
        ] {
            let pushed = new.push_run(slots[slot], t, &values(slot));
            assert_eq!(pushed, expect, "{slot} at {t}");
        }
        for _ in 0..FLOATS_PER_GROUP - 2 {
            assert_eq!(new.push_run(slots[300], 900, &values(500)), Some(0));
        }
        let more = new.push_run(slots[300], 900, &values(500));
        assert_eq!(more, None, "it has all");
        let rows = waiting.turn(1, None).unwrap();
        for n in 0..FLOATS_PER_RUN {
            let of = |v: usize, t| Sample { t, v: values(v)[n] };
            let floats = column(&rows, 44 + n);
            let (first, rest) = floats.split_at(2);
            assert_eq!(first, [of(300, 700), of(300, 800)]);
            assert_eq!(rest, [of(500, 900); FLOATS_PER_GROUP - 2]);
        }
        assert_eq!(column(&rows, 64), []);
    }

    #[test]
    fn of_floats_of_series_that_follow_each_other_those_wait_that_are_wanted() {
        let mut waiting = Waiting::new();
        let slots: Vec<Slot> = (0..512).map(|n| waiting.add(n).unwrap()).collect();
        waiting.turn(1, Some(Rows::new(500)));
        let mut page = waiting.page(slots[300]).unwrap();
        let mut new = page.new_from(0);
        // They are wanted from 400, 401 and so on.
        for (t, n_unwanted) in [(399, 8), (400, 7), (403, 4), (406, 1), (407, 0), (600, 0)] {
            let pushed = new.push_run(slots[400], t, &values(usize::try_from(t).unwrap()));
            assert_eq!(pushed, Some(n_unwanted), "{t}");
        }
        for _ in 0..FLOATS_PER_GROUP - 5 {
            assert!(new.push(slots[400], 700, 0.5));
        }
        let full = new.push_run(slots[400], 800, &values(0));
        assert_eq!(full, None, "the first one has all");
        let rows = waiting.turn(1, None).unwrap();
        for n in 0..FLOATS_PER_RUN {
            let from = 400 + i64::try_from(n).unwrap();
            let wanted = [399, 400, 403, 406, 407, 600].into_iter();
            let wanted = wanted.filter(|t| from <= *t).map(|t| Sample {
                t,
                v: values(usize::try_from(t).unwrap())[n],
            });
            let last = Sample { t: 700, v: 0.5 };
            let n_last = if n == 0 { FLOATS_PER_GROUP - 5 } else { 0 };
            let expect: Vec<_> = wanted
                .chain([last; FLOATS_PER_GROUP].into_iter().take(n_last))
                .collect();
            assert_eq!(column(&rows, 144 + n), expect, "{n}");
        }
        assert_eq!(column(&rows, 143), []);
        assert_eq!(column(&rows, 152), []);
    }
}
