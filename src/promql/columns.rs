//! The answer of a range query as it was computed: a column of values per series over the steps they share.

use std::fmt;
use std::sync::Arc;

use crate::model::{Histogram, Labels, Sample, TimestampMs};
use crate::promql::exec::frame::{Frame, Row};
use crate::promql::plan::Grid;
use crate::promql::value::{HistogramPoint, MatrixSeries};

/// Series in label order, each with a value at some of the steps and never at none. Cloning is cheap.
#[derive(Clone)]
pub struct Columns(Arc<Answer>);

struct Answer {
    frame: Frame,
    grid: Grid,
    /// Rows of the frame in label order.
    order: Vec<u32>,
}

/// One series of an answer in columns.
#[derive(Debug, Clone, Copy)]
pub struct ColumnSeries<'a> {
    labels: &'a Labels,
    row: Row<'a>,
}

impl Columns {
    /// The rows of `frame` in this order, but for those without points.
    pub(crate) fn new(frame: Frame, grid: Grid, mut order: Vec<u32>) -> Self {
        order.retain(|row| {
            let words = frame.row(*row as usize).present;
            words.iter().any(|word| *word != 0)
        });
        Self(Arc::new(Answer { frame, grid, order }))
    }

    /// How many series.
    pub fn len(&self) -> usize {
        self.0.order.len()
    }

    /// No series?
    pub fn is_empty(&self) -> bool {
        self.0.order.is_empty()
    }

    /// May there be native histograms? False is certain.
    pub fn has_histograms(&self) -> bool {
        self.0.frame.has_histograms()
    }

    /// How many steps the series share.
    pub fn n_steps(&self) -> usize {
        self.0.grid.n
    }

    /// The time of a step.
    pub fn time(&self, step: usize) -> TimestampMs {
        self.0.grid.time(step)
    }

    /// Series `position` in label order.
    pub fn series(&self, position: usize) -> Option<ColumnSeries<'_>> {
        let row = *self.0.order.get(position)?;
        Some(ColumnSeries {
            labels: &self.0.frame.head(row as usize).labels,
            row: self.0.frame.row(row as usize),
        })
    }

    /// All series in label order.
    pub fn iter(&self) -> impl Iterator<Item = ColumnSeries<'_>> {
        (0..self.len()).filter_map(|position| self.series(position))
    }

    /// The same as a list of points per series.
    pub fn to_matrix(&self) -> Vec<MatrixSeries> {
        let to_series = |series: ColumnSeries<'_>| MatrixSeries {
            labels: series.labels.clone(),
            floats: series
                .floats()
                .map(|(step, v)| Sample {
                    t: self.time(step),
                    v,
                })
                .collect(),
            histograms: series
                .histograms()
                .map(|(step, histogram)| HistogramPoint {
                    t: self.time(step),
                    histogram: Arc::clone(histogram),
                })
                .collect(),
        };
        self.iter().map(to_series).collect()
    }
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.to_matrix()).finish()
    }
}

/// Equal when every series has equal points.
impl PartialEq for Columns {
    fn eq(&self, other: &Self) -> bool {
        self.to_matrix() == other.to_matrix()
    }
}

impl<'a> ColumnSeries<'a> {
    /// Who.
    pub fn labels(&self) -> &'a Labels {
        self.labels
    }

    /// The floats of all steps, if there is one at every step.
    pub fn all_floats(&self) -> Option<&'a [f64]> {
        self.row.is_all_floats().then_some(self.row.values)
    }

    /// Steps with a float, and the float.
    pub fn floats(&self) -> impl Iterator<Item = (usize, f64)> + 'a {
        self.row.iter()
    }

    /// Steps with a native histogram, and the histogram.
    pub fn histograms(&self) -> impl Iterator<Item = (usize, &'a Arc<Histogram>)> + 'a {
        self.row.histograms()
    }
}
