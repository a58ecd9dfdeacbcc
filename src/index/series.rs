//! One series of an index: its labels as symbols, its chunks as references.

use crate::chunk::ChunkRef;
use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::{put_uvarint, put_varint};
use crate::foundation::{Cursor, ShortRead};
use crate::index::source::{IndexError, Source};
use crate::index::symbols::Symbols;
use crate::model::{Interval, Labels, LabelsError, TimestampMs};

/// Where a chunk is and what it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of the first sample.
    pub min_t: TimestampMs,
    /// Time of the last sample.
    pub max_t: TimestampMs,
    /// Where the chunk is.
    pub at: ChunkRef,
}

impl ChunkMeta {
    /// What the chunk spans, closed on both ends.
    pub fn interval(&self) -> Interval {
        Interval {
            min: self.min_t,
            max: self.max_t,
        }
    }
}

/// A series as it stands in the file; reading the next one into it reuses its memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesEntry {
    /// Names and values, as symbols.
    pub symbols: Vec<(u32, u32)>,
    /// In time order, never overlapping.
    pub chunks: Vec<ChunkMeta>,
}

impl SeriesEntry {
    /// Appends the entry's body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.symbols.len() as u64);
        for &(name, value) in &self.symbols {
            put_uvarint(out, u64::from(name));
            put_uvarint(out, u64::from(value));
        }
        put_uvarint(out, self.chunks.len() as u64);
        let mut previous: Option<&ChunkMeta> = None;
        for chunk in &self.chunks {
            let span = chunk.max_t.wrapping_sub(chunk.min_t).cast_unsigned();
            match previous {
                None => {
                    put_varint(out, chunk.min_t);
                    put_uvarint(out, span);
                    put_uvarint(out, chunk.at.0);
                }
                Some(previous) => {
                    let gap = chunk.min_t.wrapping_sub(previous.max_t).cast_unsigned();
                    put_uvarint(out, gap);
                    put_uvarint(out, span);
                    put_varint(out, chunk.at.0.wrapping_sub(previous.at.0).cast_signed());
                }
            }
            previous = Some(chunk);
        }
    }

    /// Mirror of [`Self::encode`].
    pub fn decode(&mut self, body: &[u8]) -> Result<(), ShortRead> {
        let mut cursor = Cursor::new(body);
        self.decode_symbols(&mut cursor)?;
        let n_chunks = cursor.uvarint_len("chunk count")?;
        self.chunks.reserve(n_chunks.min(cursor.remaining() / 3));
        let (mut max_t, mut at) = (0i64, 0u64);
        for number in 0..n_chunks {
            let min_t = match number {
                0 => cursor.varint("first time")?,
                _ => max_t.wrapping_add(uvarint(&mut cursor, "gap between chunks")?.cast_signed()),
            };
            max_t = min_t.wrapping_add(uvarint(&mut cursor, "chunk span")?.cast_signed());
            at = match number {
                0 => uvarint(&mut cursor, "chunk reference")?,
                _ => {
                    let zigzag = uvarint(&mut cursor, "chunk reference")?;
                    at.wrapping_add(zigzag >> 1 ^ (zigzag & 1).wrapping_neg())
                }
            };
            self.chunks.push(ChunkMeta {
                min_t,
                max_t,
                at: ChunkRef(at),
            });
        }
        Ok(())
    }

    fn decode_symbols(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ShortRead> {
        self.symbols.clear();
        self.chunks.clear();
        let n_labels = cursor.uvarint_len("label count")?;
        self.symbols.reserve(n_labels.min(cursor.remaining() / 2));
        for _ in 0..n_labels {
            let before = cursor.clone();
            let pair = match (quick_symbol(cursor), quick_symbol(cursor)) {
                (Some(name), Some(value)) => (name, value),
                _ => {
                    *cursor = before;
                    symbols(cursor)?
                }
            };
            self.symbols.push(pair);
        }
        Ok(())
    }

    /// Reads the entry at `offset` of `source`, verifies its checksum, and returns the offset behind it.
    pub fn read(&mut self, source: &Source, offset: u64) -> Result<u64, IndexError> {
        let (body, end) = body_at(source, offset)?;
        self.decode(body)
            .map_err(|short| source.short(offset, &short))?;
        Ok(end)
    }

    /// Reads the entry at the start of `bytes`, the part of an index that is at hand. False when it is not whole there
    /// or damaged: [`Self::read`] says what is wrong.
    pub fn read_at_hand(&mut self, bytes: &[u8]) -> bool {
        let mut cursor = Cursor::new(bytes);
        let Ok(body) = cursor.uvarint_bytes("series entry") else {
            return false;
        };
        let stored = cursor.u32_be("series checksum");
        stored.is_ok_and(|stored| stored == crc32c(body)) && self.decode(body).is_ok()
    }

    /// As [`Self::read`], but the labels alone.
    pub(super) fn read_symbols(&mut self, source: &Source, offset: u64) -> Result<(), IndexError> {
        let (body, _) = body_at(source, offset)?;
        self.decode_symbols(&mut Cursor::new(body))
            .map_err(|short| source.short(offset, &short))
    }

    /// The labels, looked up.
    pub fn labels(&self, symbols: &Symbols) -> Result<Result<Labels, LabelsError>, IndexError> {
        let mut pairs = smallvec::SmallVec::<[(&str, &str); 24]>::new();
        for &(name, value) in &self.symbols {
            pairs.push((symbols.get(name)?, symbols.get(value)?));
        }
        Ok(Labels::from_sorted(&pairs))
    }
}

/// The integers of an entry, of which a block has as many as it has chunks, times three.
#[inline]
fn uvarint(cursor: &mut Cursor<'_>, what: &'static str) -> Result<u64, ShortRead> {
    match cursor.quick_uvarint() {
        Some(value) => Ok(value),
        None => cursor.uvarint(what),
    }
}

#[inline]
fn quick_symbol(cursor: &mut Cursor<'_>) -> Option<u32> {
    u32::try_from(cursor.quick_uvarint()?).ok()
}

/// Name and value where they are not read quickly, or not at all.
fn symbols(cursor: &mut Cursor<'_>) -> Result<(u32, u32), ShortRead> {
    let name = cursor.uvarint32("label name symbol")?;
    Ok((name, cursor.uvarint32("label value symbol")?))
}

/// The body of the entry at `offset`, and the offset behind the entry.
fn body_at(source: &Source, offset: u64) -> Result<(&[u8], u64), IndexError> {
    let fail = |short: ShortRead| source.short(offset, &short);
    let mut cursor = Cursor::new(source.from(offset)?);
    let body = cursor.uvarint_bytes("series entry").map_err(fail)?;
    let stored = cursor.u32_be("series checksum").map_err(fail)?;
    source.check(offset, "series", body, stored)?;
    Ok((body, offset + cursor.offset() as u64))
}
