//! The last bytes of an index: where its sections are.

use crate::foundation::{Cursor, ShortRead};
use crate::index::source::{IndexError, Source};

/// First bytes of an index.
pub(super) const MAGIC: u32 = 0xBAAA_D700;

/// Magic and version.
pub(super) const HEADER_BYTES: u64 = 5;

/// Six offsets and their checksum.
pub(super) const TOC_BYTES: u64 = 6 * 8 + 4;

/// The version that is written.
pub(super) const VERSION_WRITTEN: u8 = 2;

/// How references in an index count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexVersion {
    /// Symbols and series are named by their byte offset.
    V1,
    /// Symbols are numbered, series are named by their offset over 16. Version 3 reads the same.
    V2,
}

impl IndexVersion {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::V1),
            2 | 3 => Some(Self::V2),
            _ => None,
        }
    }

    /// Where series `id` lies in the file.
    pub fn series_offset(self, id: u32) -> u64 {
        match self {
            Self::V1 => u64::from(id),
            Self::V2 => u64::from(id) * 16,
        }
    }
}

/// Where the sections are. Label indices are no longer written; their offsets are kept as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toc {
    /// Symbol table.
    pub symbols: u64,
    /// First series.
    pub series: u64,
    /// Behind the series.
    pub label_indices: u64,
    /// Where the label index table was.
    pub label_indices_table: u64,
    /// Before the padding of the first postings list.
    pub postings: u64,
    /// Postings offset table.
    pub postings_table: u64,
}

impl Toc {
    /// Field order here is the format.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.symbols.to_be_bytes());
        out.extend_from_slice(&self.series.to_be_bytes());
        out.extend_from_slice(&self.label_indices.to_be_bytes());
        out.extend_from_slice(&self.label_indices_table.to_be_bytes());
        out.extend_from_slice(&self.postings.to_be_bytes());
        out.extend_from_slice(&self.postings_table.to_be_bytes());
    }

    /// Mirror of [`Self::encode`], at the end of `source`; verifies the checksum.
    pub(super) fn decode(source: &Source) -> Result<Self, IndexError> {
        let Some(offset) = source.end().checked_sub(TOC_BYTES) else {
            return Err(source.damaged(0, "too short for a table of contents"));
        };
        let tail = source.from(offset)?;
        let read = |cursor: &mut Cursor<'_>| {
            let toc = Self {
                symbols: cursor.u64_be("offset of symbols")?,
                series: cursor.u64_be("offset of series")?,
                label_indices: cursor.u64_be("offset of label indices")?,
                label_indices_table: cursor.u64_be("offset of label index table")?,
                postings: cursor.u64_be("offset of postings")?,
                postings_table: cursor.u64_be("offset of postings table")?,
            };
            Ok::<_, ShortRead>((toc, cursor.u32_be("checksum of contents")?))
        };
        let (toc, stored) =
            read(&mut Cursor::new(tail)).map_err(|short| source.short(offset, &short))?;
        let body = tail.get(..48).unwrap_or_default();
        source.check(offset, "table of contents", body, stored)?;
        Ok(toc)
    }
}
