//! Operators with a scalar on one side, and which operator goes where.

use crate::promql::exec::arith::{Kernel, changes_metric, kernel, scalar_binary};
use crate::promql::exec::frame::{Frame, RowMut};
use crate::promql::exec::histogram_binary::WithScalar;
use crate::promql::exec::{Evaluator, Value};
use crate::promql::limits::QueryError;
use crate::promql::plan::{Binary, Grid};

impl Evaluator {
    /// A binary operator at every step.
    pub(crate) fn binary(&self, binary: &Binary, grid: Grid) -> Result<Value, QueryError> {
        let lhs = self.eval(&binary.lhs, grid)?;
        let rhs = self.eval(&binary.rhs, grid)?;
        Ok(match (lhs, rhs) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let values = left
                    .iter()
                    .zip(&right)
                    .map(|(a, b)| scalar_binary(binary.op, *a, *b).unwrap_or(f64::NAN));
                Value::Scalar(values.collect())
            }
            (Value::Vector(left), Value::Scalar(right)) => {
                Value::Vector(self.with_scalar(binary, left, &right, false)?)
            }
            (Value::Scalar(left), Value::Vector(right)) => {
                Value::Vector(self.with_scalar(binary, right, &left, true)?)
            }
            (Value::Vector(left), Value::Vector(right)) => {
                let Some(matching) = &binary.matching else {
                    return Err(QueryError::execution("no matching between two vectors"));
                };
                Value::Vector(if binary.op.is_set() {
                    self.set_operator(binary.op, matching, left, &right)?
                } else {
                    self.match_vectors(binary, matching, left, right)?
                })
            }
            (Value::Text(_), _) | (_, Value::Text(_)) => {
                return Err(QueryError::execution("operator on a string"));
            }
        })
    }

    /// `frame op scalar`, or `scalar op frame` when swapped; comparisons keep the vector's value either way.
    fn with_scalar(
        &self,
        binary: &Binary,
        mut frame: Frame,
        scalar: &[f64],
        is_swapped: bool,
    ) -> Result<Frame, QueryError> {
        let kernel = kernel(binary.op);
        let may_empty_rows = kernel.is_none() || frame.has_histograms();
        let mut cells = WithScalar::new(binary, scalar, is_swapped);
        for i in 0..frame.len() {
            self.budget.every(i)?;
            let mut row = frame.row_mut(i);
            match kernel {
                Some(kernel) if !row.has_histograms() => {
                    floats_with_scalar(kernel, &mut row, (scalar, is_swapped), binary.return_bool);
                }
                _ => cells.apply(&mut row),
            }
        }
        cells.tell(&self.notes);
        if changes_metric(binary.op) || binary.return_bool {
            if may_empty_rows {
                frame.settle(&self.budget)?;
            }
            self.drop_names(&mut frame)?;
        } else {
            frame.settle(&self.budget)?;
        }
        Ok(frame)
    }
}

/// `row op scalar`, or `scalar op row` when swapped, for rows without histograms.
fn floats_with_scalar(
    kernel: Kernel,
    row: &mut RowMut<'_>,
    (scalar, is_swapped): (&[f64], bool),
    return_bool: bool,
) {
    match kernel {
        Kernel::Compute(compute) if is_swapped => {
            for (v, s) in row.values.iter_mut().zip(scalar) {
                *v = compute(*s, *v);
            }
        }
        Kernel::Compute(compute) => {
            for (v, s) in row.values.iter_mut().zip(scalar) {
                *v = compute(*v, *s);
            }
        }
        Kernel::Keep(keep) => {
            for (step, s) in scalar.iter().enumerate() {
                let v = row.values.get(step).copied().unwrap_or(f64::NAN);
                let holds = if is_swapped { keep(*s, v) } else { keep(v, *s) };
                if return_bool {
                    if let Some(v) = row.values.get_mut(step) {
                        *v = f64::from(u8::from(holds));
                    }
                } else if !holds {
                    row.unset(step);
                }
            }
        }
    }
}
