//! THE SEAM: how samples go in and how series come out, whoever holds them.
//!
//! Owns: `Appender`, `Queryable`, `SeriesSet`, select hints, the merge of several sources into one, what becomes of damage.
//! Never: decodes a chunk, opens a file, or knows who implements it.
//! Tested by: `merge` beside the code, and `contract`, which every implementation runs.
mod append;
#[cfg(test)]
pub(crate) mod contract;
mod exemplar;
mod external;
mod guard;
mod merge;
mod resolution;
mod select;
mod tally;
mod windows;

pub use append::{AppendError, Appendable, Appender, SeriesRef};
pub use exemplar::SeriesExemplars;
pub use external::{WithExternalLabels, extend_labels, strip_external_matchers};
pub use guard::{Flaws, Guarded, lost_samples};
pub use merge::{Fanout, merge_label_lists, merge_series_sets};
pub use resolution::{Receipt, ResolutionBounds, ResolutionSlice, ResolutionWish};
pub use select::{
    ChunkSeries, ChunkSlice, LabelAnswer, LabelHints, LabelQuestion, LabelsComing, Queryable,
    SelectHints, SeriesSet, StorageError, VecSeriesSet,
};
pub use tally::Tally;
pub use windows::Windows;
