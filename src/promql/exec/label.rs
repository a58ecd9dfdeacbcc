//! `label_replace` and `label_join` on the heads of a vector.

use std::sync::Arc;

use crate::model::{Labels, LabelsError, METRIC_NAME};
use crate::promql::exec::Evaluator;
use crate::promql::exec::call::arg;
use crate::promql::exec::frame::Frame;
use crate::promql::functions::label::{Replace, is_label_name, join};
use crate::promql::limits::QueryError;
use crate::promql::memory::Hold;
use crate::promql::plan::{Call, Grid};

fn execution(error: &LabelsError) -> QueryError {
    QueryError::Execution(error.to_string())
}

impl Evaluator {
    /// `label_replace(v, target, replacement, source, pattern)`.
    pub(crate) fn label_replace(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let text = |i: usize| self.text(arg(call, i)?, grid);
        let replace = Replace::new(&text(1)?, &text(2)?, &text(3)?, &text(4)?)
            .map_err(QueryError::Execution)?;
        let frame = self.vector(arg(call, 0)?, grid)?;
        self.relabel(frame, replace.target(), |labels| {
            replace.apply(labels).map_err(|error| execution(&error))
        })
    }

    /// `label_join(v, target, separator, source…)`.
    pub(crate) fn label_join(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let mut texts: Vec<Arc<str>> = Vec::new();
        for node in call.args.iter().skip(1) {
            texts.push(self.text(node, grid)?);
        }
        let [target, separator, sources @ ..] = &texts[..] else {
            return Err(QueryError::execution("label_join lacks arguments"));
        };
        if !is_label_name(target) {
            return Err(QueryError::Execution(format!(
                "invalid destination label name in label_join(): {target}"
            )));
        }
        if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
            return Err(QueryError::Execution(format!(
                "invalid source label name in label_join(): {source}"
            )));
        }
        let sources: Vec<&str> = sources.iter().map(AsRef::as_ref).collect();
        let frame = self.vector(arg(call, 0)?, grid)?;
        self.relabel(frame, target, |labels| {
            let joined = join(labels, target, separator, &sources);
            joined.map(Some).map_err(|error| execution(&error))
        })
    }

    /// New labels for every series that `change` has some for. Who gets a name that way keeps it.
    fn relabel(
        &self,
        mut frame: Frame,
        target: &str,
        change: impl Fn(&Labels) -> Result<Option<Labels>, QueryError>,
    ) -> Result<Frame, QueryError> {
        let memory = Hold::new(&self.budget);
        let mut n_bytes = 0;
        for (i, head) in frame.heads_mut().iter_mut().enumerate() {
            self.budget.every(i)?;
            if let Some(labels) = change(&head.labels)? {
                n_bytes += labels.n_bytes();
                memory.prepay(n_bytes)?;
                head.labels = labels;
                if target == METRIC_NAME {
                    head.drop_name = false;
                }
            }
        }
        frame.hold(&memory);
        self.join_same_labels(frame)
    }
}
