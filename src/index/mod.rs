//! Label pairs to postings to series to chunk references.
//!
//! Owns: the block index, versions 1 to 3 read and 2 written, and the index header (see `FORMAT.md`).
//! Never: decodes a chunk or asks what time it is.
//! Tested by: golden bytes, round trips, truncations and bit flips beside the code.
#![doc = include_str!("FORMAT.md")]
mod header;
mod lists;
mod plan;
pub mod postings;
mod reader;
mod series;
mod source;
mod symbols;
mod table;
#[cfg(test)]
mod tests;
mod toc;
mod verify;
mod writer;

pub use header::{HeaderParts, IndexHeader};
pub use plan::PostingsPlan;
pub use postings::PostingsList;
pub use reader::{IndexReader, read_postings};
pub use series::{ChunkMeta, SeriesEntry};
pub use source::{IndexError, Source};
pub use symbols::Symbols;
pub use table::{PostingsRange, PostingsTable};
pub use toc::{IndexVersion, Toc};
pub use verify::VisitedSeries;
pub use writer::IndexWriter;
