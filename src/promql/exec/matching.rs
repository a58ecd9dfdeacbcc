//! Operators between two vectors: series meet by their labels, then columns meet step by step.
#![expect(
    clippy::indexing_slicing,
    reason = "positions of series and groups come from walks over the same frames"
)]

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::foundation::HashedMap;
use crate::model::{Labels, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::aggregate::GroupBy;
use crate::promql::exec::arith::{Kernel, changes_metric, kernel};
use crate::promql::exec::finish::{SAME_LABELSET, without_metric};
use crate::promql::exec::frame::{Frame, Head, Row, ones, words_for};
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::Hold;
use crate::promql::parse::ast::{Cardinality, VectorMatching};
use crate::promql::plan::Binary;

/// What Prometheus says when a series has several partners and nothing allows for it.
pub(crate) const MANY_TO_ONE: &str =
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";

/// Series of both sides with the same matching labels.
#[derive(Debug, Default)]
pub(crate) struct Group {
    many: Vec<usize>,
    /// Series of the side that has one at a time.
    pub(crate) one: Vec<usize>,
    /// Steps at which a series of the many side met a partner or a fill value.
    pub(crate) matched: Vec<u64>,
}

/// One operation between all series of two frames.
pub(crate) struct Meeting<'a> {
    /// The operation.
    pub(crate) binary: &'a Binary,
    /// How series pair up.
    pub(crate) matching: &'a VectorMatching,
    /// The side that may have many series per group: left unless `group_right`.
    pub(crate) many: &'a Frame,
    /// The other side.
    pub(crate) one: &'a Frame,
    /// Is the many side the right one?
    pub(crate) is_swapped: bool,
    /// Steps at which there is anything to do.
    pub(crate) mask: Vec<u64>,
    /// A name that goes, goes in the end rather than now.
    pub(crate) drops_names_late: bool,
}

/// Results so far: a frame, and the group that each of its rows belongs to.
#[derive(Debug)]
pub(crate) struct Results {
    /// Rows with the same labels become one in the end.
    pub(crate) frame: Frame,
    group_of_row: Vec<usize>,
}

impl Results {
    /// Says that the rows pushed since the last call belong to `group`.
    pub(crate) fn belong_to(&mut self, group: usize) {
        self.group_of_row.resize(self.frame.len(), group);
    }
}

impl Evaluator {
    /// An operator between two vectors at every step.
    pub(crate) fn match_vectors(
        &self,
        binary: &Binary,
        matching: &VectorMatching,
        left: Frame,
        right: Frame,
    ) -> Result<Frame, QueryError> {
        let n_steps = left.n_steps();
        let is_swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if is_swapped {
            (right, left)
        } else {
            (left, right)
        };
        let has_fill = matching.fill_left.is_some() || matching.fill_right.is_some();
        let mut mask = many.any_present();
        for (word, other) in mask.iter_mut().zip(one.any_present()) {
            *word = if has_fill {
                *word | other
            } else {
                *word & other
            };
        }
        let meeting = Meeting {
            binary,
            matching,
            many: &many,
            one: &one,
            is_swapped,
            mask,
            drops_names_late: self.context.delayed_name_removal,
        };
        let mut results = Results {
            frame: Frame::new(n_steps, &self.budget),
            group_of_row: Vec::new(),
        };
        let (mut groups, group_of_many, _held) = meeting.groups(&self.budget)?;
        meeting.check_one_side(&groups, &self.budget)?;
        let has_histograms = many.has_histograms() || one.has_histograms();
        match kernel(binary.op) {
            Some(kernel) if !has_histograms => {
                meeting.check_many_side(&groups, &self.budget)?;
                let floats = Floats {
                    meeting: &meeting,
                    kernel,
                };
                self.meet_floats(&floats, &mut groups, &group_of_many, &mut results)?;
            }
            _ => self.meet_cells(&meeting, &mut groups, &group_of_many, &mut results)?,
        }
        let Results {
            frame,
            group_of_row,
        } = results;
        let mut out = self.join_rows(frame, |first, second| {
            if group_of_row.get(first) == group_of_row.get(second) {
                "multiple matches for labels: grouping labels must ensure unique matches"
            } else {
                SAME_LABELSET
            }
        })?;
        out.settle(&self.budget)?;
        self.settle_names(&mut out)?;
        Ok(out)
    }

    fn meet_floats(
        &self,
        floats: &Floats<'_>,
        groups: &mut [Group],
        group_of_many: &[usize],
        results: &mut Results,
    ) -> Result<(), QueryError> {
        for (i, group) in group_of_many.iter().enumerate() {
            self.budget.every(i)?;
            floats.meet(i, &mut groups[*group], &mut results.frame);
            results.belong_to(*group);
        }
        if let Some(fill) = floats.meeting.fill_for_many() {
            for (position, group) in groups.iter().enumerate() {
                self.budget.every(position)?;
                floats.fill_unmatched(group, fill, &mut results.frame);
                results.belong_to(position);
            }
        }
        Ok(())
    }
}

/// The first step at which two of `members` have a value.
fn first_clash(
    frame: &Frame,
    members: &[usize],
    mask: &[u64],
    budget: &Budget,
) -> Result<Option<(usize, usize, usize)>, QueryError> {
    if members.len() < 2 {
        return Ok(None);
    }
    let mut seen = vec![0; mask.len()];
    let mut first: Option<usize> = None;
    for (position, i) in members.iter().enumerate() {
        budget.every(position)?;
        let row = frame.row(*i);
        let both: Vec<u64> = (0..mask.len())
            .map(|w| seen[w] & row.present[w] & mask[w])
            .collect();
        if let Some(step) = ones(&both).next() {
            first = Some(first.map_or(step, |earlier: usize| earlier.min(step)));
        }
        for (word, here) in seen.iter_mut().zip(row.present) {
            *word |= here;
        }
    }
    let Some(step) = first else { return Ok(None) };
    let mut there = members
        .iter()
        .copied()
        .filter(|i| frame.row(*i).is_present(step));
    Ok(there
        .next()
        .zip(there.next())
        .map(|(first, second)| (step, first, second)))
}

impl Meeting<'_> {
    /// The groups of both sides, which of them every series of the many side belongs to, and what they take.
    fn groups(&self, budget: &Arc<Budget>) -> Result<(Vec<Group>, Vec<usize>, Hold), QueryError> {
        let words = words_for(self.many.n_steps());
        let series_bytes = size_of::<(SeriesKey, usize)>() + size_of::<Group>() + 8 * words;
        let n_series = self.many.len() + self.one.len();
        let held = Hold::with(budget, n_series.saturating_mul(series_bytes))?;
        let n_keys = self.many.len().max(self.one.len());
        let mut by_key: HashedMap<SeriesKey, usize> =
            HashedMap::with_capacity_and_hasher(n_keys, BuildHasherDefault::default());
        let mut groups: Vec<Group> = Vec::new();
        let by = GroupBy::of_matching(self.matching);
        let mut place = |labels: &Labels, groups: &mut Vec<Group>| {
            *by_key.entry(by.key(labels)).or_insert_with(|| {
                groups.push(Group {
                    matched: vec![0; words],
                    ..Group::default()
                });
                groups.len() - 1
            })
        };
        for (i, head) in self.one.heads().iter().enumerate() {
            budget.every(i)?;
            let group = place(&head.labels, &mut groups);
            groups[group].one.push(i);
        }
        let mut group_of_many = Vec::with_capacity(self.many.len());
        for (i, head) in self.many.heads().iter().enumerate() {
            budget.every(i)?;
            let group = place(&head.labels, &mut groups);
            groups[group].many.push(i);
            group_of_many.push(group);
        }
        Ok((groups, group_of_many, held))
    }

    /// On the one side a group has one series at a time.
    fn check_one_side(&self, groups: &[Group], budget: &Budget) -> Result<(), QueryError> {
        let mut clash: Option<(usize, usize, usize)> = None;
        for (i, group) in groups.iter().enumerate() {
            budget.every(i)?;
            if let Some(found) = first_clash(self.one, &group.one, &self.mask, budget)?
                && clash.is_none_or(|earlier| (found.0, found.2) < (earlier.0, earlier.2))
            {
                clash = Some(found);
            }
        }
        match clash {
            None => Ok(()),
            Some((_, first, second)) => Err(self.duplicate(first, second)),
        }
    }

    fn duplicate(&self, first: usize, second: usize) -> QueryError {
        let group = self.match_labels(&self.one.head(first).labels);
        let mut pair = [first, second].map(|i| self.one.head(i).labels.to_string());
        pair.sort_unstable();
        let [first, second] = pair;
        let side = if self.is_swapped { "left" } else { "right" };
        QueryError::Execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }

    /// One to one, the many side has one series at a time too, as far as it meets anything.
    fn check_many_side(&self, groups: &[Group], budget: &Budget) -> Result<(), QueryError> {
        if self.matching.card != Cardinality::OneToOne {
            return Ok(());
        }
        for (i, group) in groups.iter().enumerate() {
            budget.every(i)?;
            if group.many.len() < 2 {
                continue;
            }
            let mut meets = vec![0; self.mask.len()];
            if self.fill_one().is_some() {
                meets.clone_from(&self.mask);
            } else {
                for i in &group.one {
                    let row = self.one.row(*i);
                    for (w, word) in meets.iter_mut().enumerate() {
                        *word |= row.present[w] & self.mask[w];
                    }
                }
            }
            if first_clash(self.many, &group.many, &meets, budget)?.is_some() {
                return Err(QueryError::execution(MANY_TO_ONE));
            }
        }
        Ok(())
    }

    /// The value that stands for a missing series of the one side: `fill_right`, also when `group_right` makes that the
    /// left operand.
    pub(crate) fn fill_one(&self) -> Option<f64> {
        self.matching.fill_right
    }

    /// The value that stands for a missing series of the many side.
    pub(crate) fn fill_for_many(&self) -> Option<f64> {
        self.matching.fill_left
    }

    /// Who the result of a pair is.
    pub(crate) fn result(&self, many: &Head, one: &Labels) -> Head {
        let return_bool = self.binary.return_bool;
        let drops_now = return_bool && !self.drops_names_late;
        let mut labels = if drops_now || changes_metric(self.binary.op) {
            without_metric(&many.labels)
        } else {
            many.labels.clone()
        };
        let is_listed = |name: &str| self.matching.labels.iter().any(|listed| listed == name);
        if self.matching.card == Cardinality::OneToOne {
            labels = labels.filtered(|name| is_listed(name) == self.matching.on);
        }
        if !self.matching.include.is_empty() {
            let mut builder = labels.to_builder();
            for name in &self.matching.include {
                builder.set(name, one.value(name));
            }
            // Names come from label sets and a checked query, so they make a label set again.
            labels = builder.build().unwrap_or(labels);
        }
        Head {
            labels,
            // A comparison gives back the name that an operand was to lose, and `group_x` may bring one: only what this
            // operator says itself counts.
            drop_name: return_bool && self.drops_names_late,
        }
    }

    /// The labels that a group is known by.
    pub(crate) fn match_labels(&self, labels: &Labels) -> Labels {
        GroupBy::of_matching(self.matching).labels(labels)
    }
}

/// A meeting of floats alone.
struct Floats<'a> {
    meeting: &'a Meeting<'a>,
    kernel: Kernel,
}

impl Floats<'_> {
    /// What the operator makes of one pair: a value, or nothing.
    #[inline]
    fn apply(&self, many: f64, one: f64) -> Option<f64> {
        let (left, right) = if self.meeting.is_swapped {
            (one, many)
        } else {
            (many, one)
        };
        match self.kernel {
            Kernel::Compute(compute) => Some(compute(left, right)),
            Kernel::Keep(keep) if self.meeting.binary.return_bool => {
                Some(f64::from(u8::from(keep(left, right))))
            }
            Kernel::Keep(keep) => keep(left, right).then_some(left),
        }
    }

    /// Series `i` of the many side with whomever it meets: one result per partner, who never overlap.
    fn meet(&self, i: usize, group: &mut Group, out: &mut Frame) {
        let meeting = self.meeting;
        let (head, row) = (meeting.many.head(i), meeting.many.row(i));
        let mut rest: Vec<u64> = meeting
            .mask
            .iter()
            .zip(row.present)
            .map(|(mask, here)| mask & here)
            .collect();
        for position in 0..group.one.len() {
            let one = group.one[position];
            let result = meeting.result(head, &meeting.one.head(one).labels);
            let one = meeting.one.row(one);
            self.pair((row, one), result, &mut group.matched, out);
            for (word, here) in rest.iter_mut().zip(one.present) {
                *word &= !here;
            }
        }
        let Some(fill) = meeting.fill_one() else {
            return;
        };
        for (word, here) in group.matched.iter_mut().zip(&rest) {
            *word |= here;
        }
        let mut filled = out.push(meeting.result(head, &meeting.match_labels(&head.labels)));
        for step in ones(&rest) {
            if let Some(v) = self.apply(row.values[step], fill) {
                filled.set(step, v);
            }
        }
    }

    /// Series of the one side that met nobody, with the value that stands for the many side.
    fn fill_unmatched(&self, group: &Group, fill: f64, out: &mut Frame) {
        let meeting = self.meeting;
        for one in &group.one {
            let (head, row) = (meeting.one.head(*one), meeting.one.row(*one));
            let stand_in = Head {
                labels: meeting.match_labels(&head.labels),
                drop_name: head.drop_name,
            };
            let mut filled = out.push(meeting.result(&stand_in, &head.labels));
            for (step, v) in row.iter() {
                let (w, bit) = (step / 64, step % 64);
                if (meeting.mask[w] & !group.matched[w]) >> bit & 1 == 0 {
                    continue;
                }
                if let Some(v) = self.apply(fill, v) {
                    filled.set(step, v);
                }
            }
        }
    }

    fn pair(
        &self,
        (many, one): (Row<'_>, Row<'_>),
        result: Head,
        matched: &mut [u64],
        out: &mut Frame,
    ) {
        let mut row = out.push(result);
        for (w, mask) in self.meeting.mask.iter().enumerate() {
            let both = many.present[w] & one.present[w] & mask;
            matched[w] |= both;
            for step in ones(&[both]) {
                let step = w * 64 + step;
                if let Some(v) = self.apply(many.values[step], one.values[step]) {
                    row.set(step, v);
                }
            }
        }
    }
}
