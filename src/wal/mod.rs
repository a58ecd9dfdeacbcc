//! Records to pages to segments, and back.
//!
//! Owns: the write-ahead log: record bodies, pages, segments, repair, checkpoint files (see `FORMAT.md`).
//! Never: interprets a sample or deletes a segment on its own.
//! Tested by: golden bytes, every truncation of a segment, and the crash tests.
#![doc = include_str!("FORMAT.md")]

mod checkpoint;
mod counters;
mod error;
mod exemplars;
mod floats;
mod histograms;
mod markers;
mod page;
mod reader;
mod record;
mod repair;
mod segment;
mod starts;
mod writer;

pub use checkpoint::{
    Checkpoint, CheckpointStats, CheckpointWanted, checkpoint_range, last_checkpoint,
    remove_before, remove_unfinished, write_checkpoint,
};
pub use counters::{SYNC_SECONDS, WalCounters, WalCounts};
pub use error::WalError;
pub use exemplars::{ExemplarsEncoder, RefExemplar, decode_exemplars};
pub use floats::{FLOATS_PER_RUN, FloatEntry, FloatReader, Unwanted, read_samples};
pub use histograms::{HistogramsEncoder, RefHistogram, decode_histograms};
pub use markers::{MarkersEncoder, RefMarker, decode_markers};
pub use page::Compression;
pub use reader::{Damage, SegmentReader, StoredRecord};
pub use record::{
    MetadataEncoder, RecordKind, RefMetadata, RefSample, RefTombstone, SamplesEncoder,
    SeriesEncoder, decode_metadata, decode_samples, decode_series, decode_tombstones,
    encode_tombstones,
};
pub use repair::{RepairOutcome, repair_segment};
pub use segment::{SegmentFile, SegmentNumber, list_segments, segment_name};
pub use starts::StartedSamplesEncoder;
pub use writer::{LogEnd, Wal, WalSettings};
