//! The index header: what finding postings takes of an index, so that the rest may stay in a bucket.

use bytes::Bytes;

use crate::foundation::checksum::crc32c;
use crate::foundation::{Cursor, ShortRead};
use crate::index::source::{IndexError, Source};
use crate::index::symbols::Symbols;
use crate::index::table::PostingsTable;
use crate::index::toc::{HEADER_BYTES, IndexVersion, TOC_BYTES, Toc};

/// First bytes of a header.
const MAGIC: u32 = 0xBAAA_D792;

/// The only version there is.
const VERSION: u8 = 1;

/// Magic, version, version of the index, offset of its postings table.
const START_BYTES: u64 = 4 + 1 + 1 + 8;

/// Two offsets and their checksum.
const END_BYTES: u64 = 2 * 8 + 4;

/// Symbols and postings table of an index that is elsewhere.
#[derive(Debug, Clone)]
pub struct IndexHeader {
    version: IndexVersion,
    symbols: Symbols,
    table: PostingsTable,
}

/// Where the parts lie that a header copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderParts {
    /// Version byte of the index.
    pub version: u8,
    /// Its contents.
    pub toc: Toc,
    /// Its length.
    pub n_bytes: u64,
}

impl HeaderParts {
    /// From the first five bytes of an index, its length, and its last 52 bytes.
    pub fn new(file: &str, start: &[u8], n_bytes: u64, end: Bytes) -> Result<Self, IndexError> {
        let base = n_bytes.saturating_sub(end.len() as u64);
        let source = Source::part(file, end, base);
        let version = start.get(4).copied().unwrap_or_default();
        let toc = Toc::decode(&source)?;
        let is_ordered = HEADER_BYTES <= toc.symbols
            && toc.symbols <= toc.series
            && toc.series <= toc.postings_table
            && toc.postings_table <= n_bytes;
        if IndexVersion::from_byte(version).is_none() || !is_ordered {
            return Err(source.damaged(base, "contents do not describe an index"));
        }
        Ok(Self {
            version,
            toc,
            n_bytes,
        })
    }

    /// Start and end of the symbols in the index.
    pub fn symbols(&self) -> (u64, u64) {
        (self.toc.symbols, self.toc.series)
    }

    /// Start of the postings table and end of the index.
    pub fn tail(&self) -> (u64, u64) {
        (self.toc.postings_table, self.n_bytes)
    }

    /// The header, from the bytes at [`Self::symbols`] and at [`Self::tail`].
    pub fn encode(&self, symbols: &[u8], tail: &[u8]) -> Vec<u8> {
        [&self.encode_start(), symbols, tail, &self.encode_end()].concat()
    }

    /// What comes before the symbols.
    pub fn encode_start(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.push(VERSION);
        out.push(self.version);
        out.extend_from_slice(&self.toc.postings_table.to_be_bytes());
        out
    }

    /// What comes behind the tail.
    pub fn encode_end(&self) -> Vec<u8> {
        let (start, end) = self.symbols();
        let table_at = START_BYTES + (end - start);
        let mut out = Vec::new();
        out.extend_from_slice(&START_BYTES.to_be_bytes());
        out.extend_from_slice(&table_at.to_be_bytes());
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }
}

impl IndexHeader {
    /// Verifies contents, symbols and postings table; `file` is what errors call it.
    pub fn new(file: &str, bytes: Bytes) -> Result<Self, IndexError> {
        let source = Source::new(file, bytes);
        let start = |cursor: &mut Cursor<'_>| {
            Ok::<_, ShortRead>((
                cursor.u32_be("magic")?,
                cursor.u8("version")?,
                cursor.u8("index version")?,
                cursor.u64_be("offset of the postings table")?,
            ))
        };
        let (magic, version, index_version, lists_end) =
            start(&mut Cursor::new(source.from(0)?)).map_err(|short| source.short(0, &short))?;
        let index_version = IndexVersion::from_byte(index_version)
            .filter(|_| (magic, version) == (MAGIC, VERSION))
            .ok_or_else(|| {
                let problem = format!(
                    "magic number {magic:08x}, version {version}, index version {index_version}: not an index header of version 1"
                );
                source.damaged(0, problem)
            })?;
        let Some(end) = source.end().checked_sub(END_BYTES) else {
            return Err(source.damaged(0, "too short for an index header"));
        };
        let tail = source.from(end)?;
        let contents = |cursor: &mut Cursor<'_>| {
            Ok::<_, ShortRead>((
                cursor.u64_be("offset of symbols")?,
                cursor.u64_be("offset of postings table")?,
                cursor.u32_be("checksum of contents")?,
            ))
        };
        let (symbols_at, table_at, stored) =
            contents(&mut Cursor::new(tail)).map_err(|short| source.short(end, &short))?;
        let body = tail.get(..16).unwrap_or_default();
        source.check(end, "contents", body, stored)?;
        if symbols_at != START_BYTES || end < table_at.saturating_add(TOC_BYTES) {
            return Err(source.damaged(end, "contents do not describe an index header"));
        }
        Ok(Self {
            version: index_version,
            // In the index itself the symbols follow its own header.
            symbols: Symbols::open(&source, symbols_at, HEADER_BYTES, index_version)?,
            table: PostingsTable::open(&source, table_at, lists_end)?,
        })
    }

    /// How references of the index count.
    pub fn version(&self) -> IndexVersion {
        self.version
    }

    /// The strings.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Which list of the index belongs to which label pair.
    pub fn table(&self) -> &PostingsTable {
        &self.table
    }
}
