//! `and`, `or` and `unless`: who has a partner, whatever the values are.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::SeriesKey;
use crate::promql::exec::Evaluator;
use crate::promql::exec::aggregate::GroupBy;
use crate::promql::exec::frame::{Frame, words_for};
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::Hold;
use crate::promql::parse::ast::{BinaryOp, VectorMatching};

/// Steps by key.
type Presence = HashMap<SeriesKey, Vec<u64>>;

/// By key: the steps at which any series has a value.
fn presence(
    frame: &Frame,
    by: &GroupBy,
    budget: &Arc<Budget>,
) -> Result<(Presence, Hold), QueryError> {
    let key_bytes = size_of::<(SeriesKey, Vec<u64>)>() + words_for(frame.n_steps()) * 8;
    let memory = Hold::with(budget, frame.len().saturating_mul(key_bytes))?;
    let mut presence = Presence::with_capacity(frame.len());
    for (i, (head, row)) in frame.rows().enumerate() {
        budget.every(i)?;
        let seen = presence
            .entry(by.key(&head.labels))
            .or_insert_with(|| vec![0; words_for(frame.n_steps())]);
        for (word, here) in seen.iter_mut().zip(row.present) {
            *word |= here;
        }
    }
    Ok((presence, memory))
}

impl Evaluator {
    /// A set operator at every step.
    pub(crate) fn set_operator(
        &self,
        op: BinaryOp,
        matching: &VectorMatching,
        mut left: Frame,
        right: &Frame,
    ) -> Result<Frame, QueryError> {
        let by = GroupBy::of_matching(matching);
        if op == BinaryOp::Or {
            let (taken, _held) = presence(&left, &by, &self.budget)?;
            for (i, (head, row)) in right.rows().enumerate() {
                self.budget.every(i)?;
                left.push_row(head.clone(), row);
                let Some(last) = left.len().checked_sub(1) else {
                    continue;
                };
                let out = left.row_mut(last);
                let seen = taken.get(&by.key(&head.labels));
                for (position, word) in out.present.iter_mut().enumerate() {
                    let here = row.present.get(position).copied().unwrap_or(0);
                    let seen = seen.and_then(|seen| seen.get(position)).copied();
                    *word = here & !seen.unwrap_or(0);
                }
            }
            left.settle(&self.budget)?;
            // A left and a right series may be the same series, each at its own steps.
            return self.join_same_labels(left);
        }
        let (partners, _held) = presence(right, &by, &self.budget)?;
        for i in 0..left.len() {
            self.budget.every(i)?;
            let key = by.key(&left.head(i).labels);
            let seen = partners.get(&key);
            for (position, word) in left.row_mut(i).present.iter_mut().enumerate() {
                let seen = seen.and_then(|seen| seen.get(position)).copied();
                let seen = seen.unwrap_or(0);
                *word &= if op == BinaryOp::And { seen } else { !seen };
            }
        }
        left.settle(&self.budget)?;
        Ok(left)
    }
}
