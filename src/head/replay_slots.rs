//! The floats of a replay that wait for more of their series.
#![expect(
    clippy::indexing_slicing,
    reason = "a place is a byte, and all that has places has at least 256 of them; a row is taken modulo their number"
)]

use crate::model::{Sample, TimestampMs};
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

/// As many as a byte can tell apart.
pub(crate) const SLOTS_PER_PAGE: usize = 256;

/// So many floats of a series are handed over together at most. A log has one of each series, then the next one of each:
/// what is done for a series, and fetched from memory for it, is then done once for so many.
pub(crate) const FLOATS_PER_GROUP: usize = 16;

/// Floats of the series of one page: the first of each series, then the second of each, in the order in which they mostly
/// come.
#[derive(Debug)]
pub(crate) struct Rows {
    /// How many each series has.
    n: [u8; SLOTS_PER_PAGE],
    /// How many it may have.
    n_max: u8,
    /// What the times are counted from.
    base: TimestampMs,
    rows: Box<[Row; FLOATS_PER_GROUP]>,
}

/// A few places more than are used: rows a multiple of a page of memory apart would push each other out of the cache.
#[derive(Debug, Clone)]
struct Row {
    values: [f64; SLOTS_PER_PAGE + 8],
    times: [u32; SLOTS_PER_PAGE + 16],
}

/// [`FLOATS_PER_GROUP`] as a byte.
#[expect(clippy::cast_possible_truncation, reason = "sixteen fits a byte")]
const N_MAX: u8 = FLOATS_PER_GROUP as u8;

/// Times so much before the first one that came can be told too.
const BACK_MS: i64 = 1 << 30;

impl Rows {
    /// Empty ones, for floats at about `t`.
    pub(crate) fn new(t: TimestampMs) -> Self {
        const EMPTY: Row = Row {
            values: [0.0; SLOTS_PER_PAGE + 8],
            times: [0; SLOTS_PER_PAGE + 16],
        };
        Self {
            n: [0; SLOTS_PER_PAGE],
            n_max: N_MAX,
            base: t.wrapping_sub(BACK_MS),
            rows: Box::new([EMPTY; FLOATS_PER_GROUP]),
        }
    }

    /// Makes them empty again.
    pub(crate) fn clear(&mut self, t: TimestampMs) {
        self.n = [0; SLOTS_PER_PAGE];
        self.n_max = N_MAX;
        self.base = t.wrapping_sub(BACK_MS);
    }

    /// A series may have so many, 1 to [`FLOATS_PER_GROUP`].
    pub(crate) fn take_at_most(&mut self, n: usize) {
        self.n_max = u8::try_from(n).map_or(N_MAX, |n| n.clamp(1, N_MAX));
    }

    #[inline(always)]
    fn free(&mut self) -> Free<'_> {
        Free {
            n: &mut self.n,
            n_max: self.n_max,
            base: self.base,
            rows: &mut self.rows,
        }
    }

    /// The floats of the series at places from [`SERIES_PER_BLOCK`] times `block` on, put into `columns`, if there are any.
    /// They are read row by row: one after the other, each series would wait for all rows.
    pub(crate) fn columns<'c>(
        &self,
        block: usize,
        columns: &'c mut Columns,
    ) -> Option<[&'c [Sample]; SERIES_PER_BLOCK]> {
        let n = *self.n.as_chunks::<SERIES_PER_BLOCK>().0.get(block)?;
        let n_max = n.iter().max().copied().filter(|n_max| 0 < *n_max)?;
        // Another thread wrote them: looked at like this, they come all at once.
        let touched = self.rows.iter().fold(0, |sum, row| {
            let first = block * SERIES_PER_BLOCK % SLOTS_PER_PAGE;
            let values = row.values[first].to_bits() ^ row.values[first + 8].to_bits();
            sum ^ values ^ u64::from(row.times[first])
        });
        std::hint::black_box(touched);
        for (at, row) in self.rows.iter().enumerate().take(usize::from(n_max)) {
            let values = row.values.as_chunks::<SERIES_PER_BLOCK>().0.get(block)?;
            let times = row.times.as_chunks::<SERIES_PER_BLOCK>().0.get(block)?;
            for ((column, v), time) in columns.iter_mut().zip(values).zip(times) {
                column[at % FLOATS_PER_GROUP] = Sample {
                    t: self.base.wrapping_add(i64::from(*time)),
                    v: *v,
                };
            }
        }
        let mut floats = [[].as_slice(); SERIES_PER_BLOCK];
        for ((floats, column), n) in floats.iter_mut().zip(columns).zip(n) {
            *floats = column.get(..usize::from(n)).unwrap_or_default();
        }
        Some(floats)
    }
}

/// What of [`Rows`] takes floats.
struct Free<'r> {
    n: &'r mut [u8; SLOTS_PER_PAGE],
    n_max: u8,
    base: TimestampMs,
    rows: &'r mut [Row; FLOATS_PER_GROUP],
}

impl Free<'_> {
    /// Adds a float; false where its series has all it may have, or the time is too far from the others.
    #[inline(always)]
    fn push(&mut self, place: u8, t: TimestampMs, v: f64) -> bool {
        let place = usize::from(place);
        let n = self.n[place];
        let time = u32::try_from(t.wrapping_sub(self.base).cast_unsigned());
        match time {
            Ok(time) if n < self.n_max => {
                let row = &mut self.rows[usize::from(n) % FLOATS_PER_GROUP];
                row.times[place] = time;
                row.values[place] = v;
                self.n[place] = n + 1;
                true
            }
            _ => false,
        }
    }
}

impl Free<'_> {
    /// Adds a float of each of series that follow each other, all of one time; false where that cannot be done in one step.
    #[inline(always)]
    fn push_run(&mut self, place: u8, t: TimestampMs, values: &[f64; FLOATS_PER_RUN]) -> bool {
        let place = usize::from(place);
        let Some(n) = self.n.get_mut(place..place + FLOATS_PER_RUN) else {
            return false;
        };
        let n_each = n[0];
        let time = u32::try_from(t.wrapping_sub(self.base).cast_unsigned());
        let (Ok(time), true) = (time, n_each < self.n_max) else {
            return false;
        };
        if n.iter().fold(0, |all, n| all | (n ^ n_each)) != 0 {
            return false;
        }
        n.fill(n_each + 1);
        let row = &mut self.rows[usize::from(n_each) % FLOATS_PER_GROUP];
        row.times[place..place + FLOATS_PER_RUN].fill(time);
        row.values[place..place + FLOATS_PER_RUN].copy_from_slice(values);
        true
    }
}

/// Series whose floats are looked at together.
pub(crate) const SERIES_PER_BLOCK: usize = 16;

/// So many are on one page.
pub(crate) const BLOCKS_PER_PAGE: usize = SLOTS_PER_PAGE / SERIES_PER_BLOCK;

/// Floats series by series.
pub(crate) type Columns = [[Sample; FLOATS_PER_GROUP]; SERIES_PER_BLOCK];

/// No floats.
pub(crate) const NO_COLUMNS: Columns =
    [[Sample { t: 0, v: 0.0 }; FLOATS_PER_GROUP]; SERIES_PER_BLOCK];

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
    free: Free<'t>,
}

impl TakingNew<'_> {
    /// Lets a float wait; false where [`Taking::push`] has to say what becomes of it.
    #[inline(always)]
    pub(crate) fn push(&mut self, slot: Slot, t: TimestampMs, v: f64) -> bool {
        slot.page() == self.page && self.from <= t && self.free.push(slot.place(), t, v)
    }

    /// The same for floats of series that follow each other, of one time; all wait, or none does.
    #[inline(always)]
    pub(crate) fn push_run(
        &mut self,
        slot: Slot,
        t: TimestampMs,
        values: &[f64; FLOATS_PER_RUN],
    ) -> bool {
        slot.page() == self.page && self.from <= t && self.free.push_run(slot.place(), t, values)
    }
}

impl Taking<'_> {
    /// For floats that are neither older than `floor` nor than any that is not wanted.
    pub(crate) fn new_from(&mut self, floor: TimestampMs) -> TakingNew<'_> {
        TakingNew {
            page: self.page,
            from: floor.max(self.from_max),
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
        rows.is_some_and(|rows| 0 < rows.n[usize::from(slot.place())])
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

    fn column(rows: &Rows, place: usize) -> Vec<Sample> {
        let mut columns = NO_COLUMNS;
        let floats = rows.columns(place / SERIES_PER_BLOCK, &mut columns);
        let floats = floats.unwrap_or_default();
        floats[place % SERIES_PER_BLOCK].to_vec()
    }

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

    #[test]
    fn floats_of_series_that_follow_each_other_wait_together_or_not_at_all() {
        let mut waiting = Waiting::new();
        let slots: Vec<Slot> = (0..600).map(|n| waiting.add(n).unwrap()).collect();
        waiting.turn(1, Some(Rows::new(600)));
        let run = |from: usize| -> [f64; FLOATS_PER_RUN] {
            std::array::from_fn(|n| f64::from(u32::try_from(from + n).unwrap()))
        };
        let mut page = waiting.page(slots[300]).unwrap();
        let mut new = page.new_from(0);
        assert!(new.push_run(slots[300], 700, &run(300)));
        assert!(new.push_run(slots[300], 800, &run(400)));
        assert!(new.push_run(slots[504], 700, &run(504)), "the last ones");
        // Another page, the end of this one, too old, too far from the others.
        assert!(!new.push_run(slots[0], 700, &run(0)));
        assert!(!new.push_run(slots[505], 700, &run(0)));
        assert!(!new.push_run(slots[320], 510, &run(0)));
        assert!(!new.push_run(slots[320], 1 << 40, &run(0)));
        // One of them has more than the others.
        assert!(new.push(slots[327], 650, 0.5));
        assert!(!new.push_run(slots[320], 700, &run(320)));
        for _ in 0..FLOATS_PER_GROUP - 2 {
            assert!(new.push_run(slots[300], 900, &run(500)));
        }
        assert!(!new.push_run(slots[300], 900, &run(500)), "it has all");
        let rows = waiting.turn(1, None).unwrap();
        for n in 0..FLOATS_PER_RUN {
            let of = |v: usize| f64::from(u32::try_from(v + n).unwrap());
            let floats = column(&rows, 44 + n);
            let (first, rest) = floats.split_at(2);
            let expect = [(700, of(300)), (800, of(400))].map(|(t, v)| Sample { t, v });
            assert_eq!(first, expect);
            let last = Sample { t: 900, v: of(500) };
            assert_eq!(rest, [last; FLOATS_PER_GROUP - 2]);
        }
        assert_eq!(column(&rows, 64), []);
        assert_eq!(column(&rows, 71), [Sample { t: 650, v: 0.5 }]);
    }

    #[test]
    fn a_page_takes_fewer_floats_of_a_series_when_it_is_told_so() {
        for (told, n) in [(0, 1), (1, 1), (7, 7), (16, 16), (17, 16), (300, 16)] {
            let mut rows = Rows::new(0);
            rows.take_at_most(told);
            for place in [0, 9, 255] {
                let n_taken = (0..40)
                    .take_while(|t| rows.free().push(place, *t, 1.0))
                    .count();
                assert_eq!(n_taken, n, "{told}");
                assert_eq!(column(&rows, usize::from(place)).len(), n);
            }
            rows.clear(0);
            let n_taken = (0..40).take_while(|t| rows.free().push(9, *t, 1.0)).count();
            assert_eq!(n_taken, FLOATS_PER_GROUP);
        }
    }

    #[test]
    fn times_far_from_the_others_wait_among_themselves() {
        for first in [i64::MIN, -1, 0, 1_700_000_000_000, i64::MAX] {
            let far = first.wrapping_add(1 << 33);
            let mut rows = Rows::new(first);
            let near = first.wrapping_sub(1000);
            assert!(rows.free().push(9, first, 1.0));
            assert!(rows.free().push(9, near, 2.0));
            assert!(!rows.free().push(9, far, 3.0));
            assert!(!rows.free().push(9, first.wrapping_sub(1 << 33), 3.0));
            let times = |rows: &Rows| {
                let column = column(rows, 9).into_iter();
                column.map(|float| float.t).collect::<Vec<_>>()
            };
            assert_eq!(times(&rows), [first, near]);
            rows.clear(far);
            assert!(times(&rows).is_empty());
            assert!(rows.free().push(9, far, 3.0));
            assert_eq!(times(&rows), [far]);
        }
    }
}
