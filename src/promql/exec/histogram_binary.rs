//! Operators where a native histogram may be on either side.
//!
//! Most pairs have no meaning: they have no result, and a remark says so. Of the remarks about one step only the last
//! is kept, as Prometheus keeps it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "remarks, masks and scalars have an entry per step, as rows have"
)]

use std::sync::Arc;

use crate::model::{Histogram, ResetHint};
use crate::promql::annotations::{Annotations, HistogramOperation};
use crate::promql::exec::Evaluator;
use crate::promql::exec::arith::{Kernel, kernel};
use crate::promql::exec::frame::{Cell, Head, RowMut, ones};
use crate::promql::exec::matching::{Group, MANY_TO_ONE, Meeting, Results};
use crate::promql::functions::native_trim::{Trim, trim};
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::{BinaryOp, Cardinality};
use crate::promql::plan::Binary;
use crate::promql::value::PointValue;

/// What is to be said of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remark {
    /// The operator has no meaning for a left and a right operand of these kinds.
    IncompatibleTypes(&'static str, &'static str),
    /// Buckets of exponential and of custom bounds.
    IncompatibleBuckets,
    /// One says that the counter was reset, the other that it was not.
    ResetCollision(HistogramOperation),
    /// Custom bounds were reduced to those that both have.
    Reconciled(HistogramOperation),
}

/// What an operator makes of two cells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Combined {
    /// A new value.
    Value(PointValue),
    /// A comparison holds, or does not.
    Compared(bool),
    /// Nothing: as if the two had not met.
    Refused,
}

/// What was last said of each step.
#[derive(Debug)]
struct Remarks(Vec<Option<Remark>>);

impl Remarks {
    fn new(n_steps: usize) -> Self {
        Self(vec![None; n_steps])
    }

    fn set(&mut self, step: usize, remark: Option<Remark>) {
        if remark.is_some() {
            self.0[step] = remark;
        }
    }

    fn tell(&self, binary: &Binary, notes: &Annotations) {
        let mut told: Vec<Remark> = Vec::new();
        for remark in self.0.iter().flatten() {
            if told.contains(remark) {
                continue;
            }
            told.push(*remark);
            let (op, at) = (binary.op.as_str(), binary.span);
            match *remark {
                Remark::IncompatibleTypes(left, right) => {
                    notes.incompatible_types(left, op, right, at);
                }
                Remark::IncompatibleBuckets => notes.incompatible_bucket_layout(op, at),
                Remark::ResetCollision(operation) => notes.counter_reset_collision(operation, at),
                Remark::Reconciled(operation) => notes.mismatched_custom_buckets(operation, at),
            }
        }
    }
}

fn kind(cell: Cell<'_>) -> &'static str {
    match cell {
        Cell::Float(_) => "float",
        Cell::Histogram(_) => "histogram",
    }
}

fn histogram(histogram: Histogram) -> Combined {
    Combined::Value(PointValue::Histogram(Arc::new(histogram)))
}

fn compacted(mut result: Histogram) -> Combined {
    result.compact();
    histogram(result)
}

/// What `op` makes of two cells, and what is to be said of it.
pub(crate) fn combine(op: BinaryOp, left: Cell<'_>, right: Cell<'_>) -> (Combined, Option<Remark>) {
    let value = match (left, right) {
        (Cell::Float(a), Cell::Float(b)) => match kernel(op) {
            Some(Kernel::Compute(compute)) => {
                Some(Combined::Value(PointValue::Float(compute(a, b))))
            }
            Some(Kernel::Keep(keep)) => Some(Combined::Compared(keep(a, b))),
            None => None,
        },
        (Cell::Float(factor), Cell::Histogram(h)) | (Cell::Histogram(h), Cell::Float(factor))
            if op == BinaryOp::Mul =>
        {
            Some(compacted(h.scale(factor)))
        }
        (Cell::Histogram(h), Cell::Float(v)) => match op {
            BinaryOp::Div => Some(compacted(h.divide(v))),
            BinaryOp::TrimUpper => Some(histogram(trim(h, v, Trim::Above))),
            BinaryOp::TrimLower => Some(histogram(trim(h, v, Trim::Below))),
            _ => None,
        },
        (Cell::Float(_), Cell::Histogram(_)) => None,
        (Cell::Histogram(a), Cell::Histogram(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub => return merge(op, a, b),
            BinaryOp::Eq => Some(Combined::Compared(a.equals(b))),
            BinaryOp::Ne => Some(Combined::Compared(!a.equals(b))),
            _ => None,
        },
    };
    match value {
        Some(value) => (value, None),
        None => (
            Combined::Refused,
            Some(Remark::IncompatibleTypes(kind(left), kind(right))),
        ),
    }
}

/// The sum or the difference of two histograms. Where one was reset and the other was not there is no result.
fn merge(op: BinaryOp, left: &Histogram, right: &Histogram) -> (Combined, Option<Remark>) {
    let is_sum = op == BinaryOp::Add;
    let operation = if is_sum {
        HistogramOperation::Addition
    } else {
        HistogramOperation::Subtraction
    };
    let mut result = left.clone();
    let merged = if is_sum {
        result.add(right)
    } else {
        result.sub(right)
    };
    let Ok(merged) = merged else {
        return (Combined::Refused, Some(Remark::IncompatibleBuckets));
    };
    if merged.reset_collision {
        return (Combined::Refused, Some(Remark::ResetCollision(operation)));
    }
    if !is_sum {
        result.reset_hint = ResetHint::Gauge;
    }
    let remark = merged.reconciled.then_some(Remark::Reconciled(operation));
    (compacted(result), remark)
}

/// What a combination leaves at its step; `kept` is the operand that a comparison keeps.
fn result(combined: Combined, kept: Cell<'_>, return_bool: bool) -> Option<PointValue> {
    match combined {
        Combined::Value(point) => Some(point),
        Combined::Compared(holds) if return_bool => {
            Some(PointValue::Float(f64::from(u8::from(holds))))
        }
        Combined::Compared(holds) => holds.then(|| kept.to_point()),
        Combined::Refused => None,
    }
}

/// `row op scalar`, or `scalar op row` when swapped, for rows with histograms and for operators of histograms.
pub(crate) struct WithScalar<'a> {
    binary: &'a Binary,
    scalar: &'a [f64],
    is_swapped: bool,
    remarks: Option<Remarks>,
}

impl<'a> WithScalar<'a> {
    /// Nothing said yet.
    pub(crate) fn new(binary: &'a Binary, scalar: &'a [f64], is_swapped: bool) -> Self {
        Self {
            binary,
            scalar,
            is_swapped,
            remarks: None,
        }
    }

    /// Puts the results in place of a row.
    pub(crate) fn apply(&mut self, row: &mut RowMut<'_>) {
        let n_steps = self.scalar.len();
        let remarks = self.remarks.get_or_insert_with(|| Remarks::new(n_steps));
        let (op, return_bool) = (self.binary.op, self.binary.return_bool);
        row.map_cells(|step, cell| {
            let scalar = Cell::Float(self.scalar[step]);
            let (combined, remark) = if self.is_swapped {
                combine(op, scalar, cell)
            } else {
                combine(op, cell, scalar)
            };
            remarks.set(step, remark);
            result(combined, cell, return_bool)
        });
    }

    /// Says what there is to say.
    pub(crate) fn tell(&self, notes: &Annotations) {
        if let Some(remarks) = &self.remarks {
            remarks.tell(self.binary, notes);
        }
    }
}

/// A meeting where histograms take part.
struct Cells<'a> {
    meeting: &'a Meeting<'a>,
    remarks: Remarks,
}

/// Two cells that meet, by side of the meeting.
struct Pair<'a> {
    step: usize,
    many: Cell<'a>,
    one: Cell<'a>,
}

impl Cells<'_> {
    /// What a pair makes. Pairs without a meaning have not met, so they leave no trace in `matched`.
    fn place(
        &mut self,
        pair: &Pair<'_>,
        matched: &mut [u64],
        row: &mut RowMut<'_>,
    ) -> Result<(), QueryError> {
        let binary = self.meeting.binary;
        let (left, right) = if self.meeting.is_swapped {
            (pair.one, pair.many)
        } else {
            (pair.many, pair.one)
        };
        let (combined, remark) = combine(binary.op, left, right);
        self.remarks.set(pair.step, remark);
        if combined == Combined::Refused {
            return Ok(());
        }
        let (word, bit) = (&mut matched[pair.step / 64], 1 << (pair.step % 64));
        if self.meeting.matching.card == Cardinality::OneToOne && *word & bit != 0 {
            return Err(QueryError::execution(MANY_TO_ONE));
        }
        *word |= bit;
        if let Some(point) = result(combined, left, binary.return_bool) {
            row.set_point(pair.step, point);
        }
        Ok(())
    }

    /// Series `i` of the many side with whomever it meets.
    fn meet(&mut self, i: usize, group: &mut Group, out: &mut Results) -> Result<(), QueryError> {
        let meeting = self.meeting;
        let (head, many) = (meeting.many.head(i), meeting.many.row(i));
        let mut rest: Vec<u64> = meeting.mask.clone();
        for one in &group.one {
            let labels = &meeting.one.head(*one).labels;
            let mut row = out.frame.push(meeting.result(head, labels));
            let one = meeting.one.row(*one);
            let both: Vec<u64> = rest.iter().zip(one.present).map(|(a, b)| a & b).collect();
            for step in ones(&both) {
                if let (Some(many), Some(one)) = (many.cell(step), one.cell(step)) {
                    let pair = Pair { step, many, one };
                    self.place(&pair, &mut group.matched, &mut row)?;
                }
            }
            for (word, here) in rest.iter_mut().zip(one.present) {
                *word &= !here;
            }
        }
        let Some(fill) = meeting.fill_one() else {
            return Ok(());
        };
        let labels = meeting.match_labels(&head.labels);
        let mut row = out.frame.push(meeting.result(head, &labels));
        for step in ones(&rest) {
            if let Some(many) = many.cell(step) {
                let one = Cell::Float(fill);
                let pair = Pair { step, many, one };
                self.place(&pair, &mut group.matched, &mut row)?;
            }
        }
        Ok(())
    }

    /// Series of the one side that met nobody, with the value that stands for the many side.
    fn fill_unmatched(
        &mut self,
        group: &mut Group,
        fill: f64,
        out: &mut Results,
    ) -> Result<(), QueryError> {
        let meeting = self.meeting;
        for one in &group.one {
            let head = meeting.one.head(*one);
            let stand_in = Head {
                labels: meeting.match_labels(&head.labels),
                drop_name: head.drop_name,
            };
            let mut row = out.frame.push(meeting.result(&stand_in, &head.labels));
            for (step, one) in meeting.one.row(*one).cells() {
                let (word, bit) = (step / 64, step % 64);
                if (meeting.mask[word] & !group.matched[word]) >> bit & 1 == 1 {
                    let many = Cell::Float(fill);
                    let pair = Pair { step, many, one };
                    self.place(&pair, &mut group.matched, &mut row)?;
                }
            }
        }
        Ok(())
    }
}

impl Evaluator {
    /// Lets all series meet whose cells may be histograms.
    pub(crate) fn meet_cells(
        &self,
        meeting: &Meeting<'_>,
        groups: &mut [Group],
        group_of_many: &[usize],
        results: &mut Results,
    ) -> Result<(), QueryError> {
        let mut cells = Cells {
            meeting,
            remarks: Remarks::new(meeting.many.n_steps()),
        };
        for (i, group) in group_of_many.iter().enumerate() {
            if i % 64 == 0 {
                self.budget.check()?;
            }
            cells.meet(i, &mut groups[*group], results)?;
            results.belong_to(*group);
        }
        if let Some(fill) = meeting.fill_for_many() {
            for (position, group) in groups.iter_mut().enumerate() {
                cells.fill_unmatched(group, fill, results)?;
                results.belong_to(position);
            }
        }
        cells.remarks.tell(meeting.binary, &self.notes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA};

    fn exponential(reset_hint: ResetHint, counts: &[f64]) -> Arc<Histogram> {
        let positive = Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: u32::try_from(counts.len()).unwrap(),
            }],
            counts: counts.to_vec(),
        };
        Arc::new(Histogram {
            reset_hint,
            count: counts.iter().sum(),
            sum: 3.0,
            positive,
            ..Histogram::default()
        })
    }

    fn custom(bounds: &[f64]) -> Arc<Histogram> {
        Arc::new(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_bounds: bounds.into(),
            ..Histogram::default()
        })
    }

    fn made(op: BinaryOp, left: Cell<'_>, right: Cell<'_>) -> String {
        match combine(op, left, right) {
            (Combined::Value(PointValue::Histogram(h)), None) => format!("{:?} {h}", h.reset_hint),
            (combined, None) => format!("{combined:?}"),
            (Combined::Refused, Some(remark)) => format!("{remark:?}"),
            (combined, remark) => format!("{combined:?} {remark:?}"),
        }
    }

    #[test]
    fn few_operators_have_a_meaning_for_histograms() {
        let h = exponential(ResetHint::Unknown, &[1.0, 0.0, 2.0]);
        let (h, two) = (Cell::Histogram(&h), Cell::Float(2.0));
        let double = "Unknown {count:6, sum:6, (0.5,1]:2, (2,4]:4}";
        assert_eq!(made(BinaryOp::Mul, h, two), double);
        assert_eq!(made(BinaryOp::Mul, two, h), double);
        assert_eq!(made(BinaryOp::Add, h, h), double);
        assert_eq!(made(BinaryOp::Sub, h, h), "Gauge {count:0, sum:0}");
        assert_eq!(
            made(BinaryOp::Div, h, Cell::Float(-2.0)),
            "Gauge {count:-1.5, sum:-1.5, (0.5,1]:-0.5, (2,4]:-1}"
        );
        assert_eq!(made(BinaryOp::Eq, h, h), "Compared(true)");
        assert_eq!(made(BinaryOp::Ne, h, h), "Compared(false)");
        assert_eq!(
            made(BinaryOp::TrimUpper, h, two),
            format!("Unknown {{count:1, sum:{}, (0.5,1]:1}}", 0.5_f64.sqrt())
        );
        let mixed = "IncompatibleTypes(\"histogram\", \"float\")";
        for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mod, BinaryOp::Pow] {
            assert_eq!(made(op, h, two), mixed);
        }
        for op in [BinaryOp::Atan2, BinaryOp::Eq, BinaryOp::Gt, BinaryOp::Le] {
            assert_eq!(made(op, h, two), mixed);
        }
        let mixed = "IncompatibleTypes(\"float\", \"histogram\")";
        for op in [BinaryOp::Div, BinaryOp::Ne, BinaryOp::TrimLower] {
            assert_eq!(made(op, two, h), mixed);
        }
        let both = "IncompatibleTypes(\"histogram\", \"histogram\")";
        for op in [
            BinaryOp::Mul,
            BinaryOp::Div,
            BinaryOp::Lt,
            BinaryOp::TrimUpper,
        ] {
            assert_eq!(made(op, h, h), both);
        }
        assert_eq!(
            made(BinaryOp::TrimUpper, two, two),
            "IncompatibleTypes(\"float\", \"float\")"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let reset = exponential(ResetHint::Reset, &[1.0]);
        let not_reset = exponential(ResetHint::NotReset, &[1.0]);
        let custom = [custom(&[1.0, 2.0]), custom(&[2.0])];
        let (reset, not_reset) = (Cell::Histogram(&reset), Cell::Histogram(&not_reset));
        let [left, right] = [Cell::Histogram(&custom[0]), Cell::Histogram(&custom[1])];
        assert_eq!(
            made(BinaryOp::Add, reset, not_reset),
            "ResetCollision(Addition)"
        );
        assert_eq!(
            made(BinaryOp::Sub, not_reset, reset),
            "ResetCollision(Subtraction)"
        );
        assert_eq!(made(BinaryOp::Add, reset, left), "IncompatibleBuckets");
        let (combined, remark) = combine(BinaryOp::Sub, left, right);
        assert!(matches!(combined, Combined::Value(_)));
        assert_eq!(
            remark,
            Some(Remark::Reconciled(HistogramOperation::Subtraction))
        );
    }
}
