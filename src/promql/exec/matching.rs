//! Operators between two vectors: series meet by their labels, then columns meet step by step.
#![expect(
    clippy::indexing_slicing,
    reason = "positions of series and groups come from walks over the same frames"
)]

use std::collections::HashMap;

use crate::model::{Labels, METRIC_NAME, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::arith::{Kernel, changes_metric, kernel};
use crate::promql::exec::finish::{SAME_LABELSET, without_metric};
use crate::promql::exec::frame::{Frame, Head, Row, ones, words_for};
use crate::promql::exec::set::match_key;
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::{Cardinality, VectorMatching};
use crate::promql::plan::Binary;

/// Series of both sides with the same matching labels.
#[derive(Debug, Default)]
struct Group {
    many: Vec<usize>,
    one: Vec<usize>,
    /// Steps at which a series of the many side met a partner or a fill value.
    matched: Vec<u64>,
}

/// One operation between all series of two frames.
struct Meeting<'a> {
    binary: &'a Binary,
    matching: &'a VectorMatching,
    kernel: Kernel,
    /// The side that may have many series per group: left unless `group_right`.
    many: &'a Frame,
    one: &'a Frame,
    is_swapped: bool,
    /// Steps at which there is anything to do.
    mask: Vec<u64>,
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
        let Some(kernel) = kernel(binary.op) else {
            let meets = ones(&mask).next().is_some();
            return if meets {
                self.trim_floats(binary, &many)
            } else {
                Ok(Frame::new(n_steps, &self.budget))
            };
        };
        let meeting = Meeting {
            binary,
            matching,
            kernel,
            many: &many,
            one: &one,
            is_swapped,
            mask,
        };
        let mut out = Frame::new(n_steps, &self.budget);
        let (mut groups, group_of_many) = meeting.groups();
        meeting.check_one_side(&groups)?;
        meeting.check_many_side(&groups)?;
        let mut group_of_row = Vec::with_capacity(group_of_many.len());
        for (i, group) in group_of_many.iter().enumerate() {
            if i % 256 == 0 {
                self.budget.check()?;
            }
            meeting.meet(i, &mut groups[*group], &mut out);
            group_of_row.resize(out.len(), *group);
        }
        if let Some(fill) = meeting.fill_for_many() {
            for (position, group) in groups.iter().enumerate() {
                meeting.fill_unmatched(group, fill, &mut out);
                group_of_row.resize(out.len(), position);
            }
        }
        let mut out = self.join_rows(out, |first, second| {
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
}

impl Meeting<'_> {
    fn groups(&self) -> (Vec<Group>, Vec<usize>) {
        let mut by_key: HashMap<SeriesKey, usize> =
            HashMap::with_capacity(self.many.len().max(self.one.len()));
        let mut groups: Vec<Group> = Vec::new();
        let words = words_for(self.many.n_steps());
        let mut place = |labels: &Labels, groups: &mut Vec<Group>| {
            *by_key
                .entry(match_key(labels, self.matching))
                .or_insert_with(|| {
                    groups.push(Group {
                        matched: vec![0; words],
                        ..Group::default()
                    });
                    groups.len() - 1
                })
        };
        for (i, head) in self.one.heads().iter().enumerate() {
            let group = place(&head.labels, &mut groups);
            groups[group].one.push(i);
        }
        let mut group_of_many = Vec::with_capacity(self.many.len());
        for (i, head) in self.many.heads().iter().enumerate() {
            let group = place(&head.labels, &mut groups);
            groups[group].many.push(i);
            group_of_many.push(group);
        }
        (groups, group_of_many)
    }

    /// On the one side a group has one series at a time.
    fn check_one_side(&self, groups: &[Group]) -> Result<(), QueryError> {
        let mut clash: Option<(usize, usize, usize)> = None;
        for group in groups {
            if let Some(found) = self.first_clash(self.one, &group.one, &self.mask)
                && clash.is_none_or(|earlier| found.0 < earlier.0)
            {
                clash = Some(found);
            }
        }
        match clash {
            None => Ok(()),
            Some((_, first, second)) => Err(self.duplicate(first, second)),
        }
    }

    /// The first step at which two of `members` have a value.
    fn first_clash(
        &self,
        frame: &Frame,
        members: &[usize],
        mask: &[u64],
    ) -> Option<(usize, usize, usize)> {
        if members.len() < 2 {
            return None;
        }
        let mut seen = vec![0; mask.len()];
        let mut first: Option<usize> = None;
        for i in members {
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
        let step = first?;
        let mut there = members
            .iter()
            .copied()
            .filter(|i| frame.row(*i).get(step).is_some());
        Some((step, there.next()?, there.next()?))
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
    fn check_many_side(&self, groups: &[Group]) -> Result<(), QueryError> {
        if self.matching.card != Cardinality::OneToOne {
            return Ok(());
        }
        for group in groups {
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
            if self.first_clash(self.many, &group.many, &meets).is_some() {
                return Err(QueryError::execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
        }
        Ok(())
    }

    /// The value that stands for a missing series of the one side: `fill_right`, also when `group_right` makes that the
    /// left operand.
    fn fill_one(&self) -> Option<f64> {
        self.matching.fill_right
    }

    /// The value that stands for a missing series of the many side.
    fn fill_for_many(&self) -> Option<f64> {
        self.matching.fill_left
    }

    /// What the operator makes of one pair: a value, or nothing.
    #[inline]
    fn apply(&self, many: f64, one: f64) -> Option<f64> {
        let (left, right) = if self.is_swapped {
            (one, many)
        } else {
            (many, one)
        };
        match self.kernel {
            Kernel::Compute(compute) => Some(compute(left, right)),
            Kernel::Keep(keep) if self.binary.return_bool => {
                Some(f64::from(u8::from(keep(left, right))))
            }
            Kernel::Keep(keep) => keep(left, right).then_some(left),
        }
    }

    /// Series `i` of the many side with whomever it meets: one result per partner, who never overlap.
    fn meet(&self, i: usize, group: &mut Group, out: &mut Frame) {
        let (head, row) = (self.many.head(i), self.many.row(i));
        let mut rest: Vec<u64> = self
            .mask
            .iter()
            .zip(row.present)
            .map(|(mask, here)| mask & here)
            .collect();
        for position in 0..group.one.len() {
            let one = group.one[position];
            let result = self.result(head, &self.one.head(one).labels);
            let one = self.one.row(one);
            self.pair((row, one), result, &mut group.matched, out);
            for (word, here) in rest.iter_mut().zip(one.present) {
                *word &= !here;
            }
        }
        let Some(fill) = self.fill_one() else {
            return;
        };
        for (word, here) in group.matched.iter_mut().zip(&rest) {
            *word |= here;
        }
        let mut filled = out.push(self.result(head, &self.match_labels(&head.labels)));
        for step in ones(&rest) {
            if let Some(v) = self.apply(row.values[step], fill) {
                filled.set(step, v);
            }
        }
    }

    /// Series of the one side that met nobody, with the value that stands for the many side.
    fn fill_unmatched(&self, group: &Group, fill: f64, out: &mut Frame) {
        for one in &group.one {
            let (head, row) = (self.one.head(*one), self.one.row(*one));
            let stand_in = Head {
                labels: self.match_labels(&head.labels),
                drop_name: head.drop_name,
            };
            let mut filled = out.push(self.result(&stand_in, &head.labels));
            for (step, v) in row.iter() {
                let (w, bit) = (step / 64, step % 64);
                if (self.mask[w] & !group.matched[w]) >> bit & 1 == 0 {
                    continue;
                }
                if let Some(v) = self.apply(fill, v) {
                    filled.set(step, v);
                }
            }
        }
    }

    /// Who the result of a pair is.
    fn result(&self, many: &Head, one: &Labels) -> Head {
        let mut labels = if changes_metric(self.binary.op) {
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
            drop_name: many.drop_name || self.binary.return_bool,
        }
    }

    /// The labels that a group is known by.
    fn match_labels(&self, labels: &Labels) -> Labels {
        labels.filtered(|name| {
            let is_listed = self.matching.labels.iter().any(|listed| listed == name);
            if self.matching.on {
                is_listed
            } else {
                name != METRIC_NAME && !is_listed
            }
        })
    }

    fn pair(
        &self,
        (many, one): (Row<'_>, Row<'_>),
        result: Head,
        matched: &mut [u64],
        out: &mut Frame,
    ) {
        let mut row = out.push(result);
        for (w, mask) in self.mask.iter().enumerate() {
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
