//! How exemplars come out.

use crate::model::{Exemplar, Labels};

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// Of which series.
    pub labels: Labels,
    /// By time, oldest first.
    pub exemplars: Vec<Exemplar>,
}
