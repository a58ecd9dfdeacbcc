//! The strings of an index, sorted, each once.

use std::sync::Arc;

use bytes::Bytes;

use crate::foundation::{Cursor, ShortRead};
use crate::index::source::{IndexError, Source};
use crate::index::toc::IndexVersion;

/// The place of every so many-th symbol is kept: half a byte per symbol, and at most seven steps to any of them.
const STRIDE: usize = 8;

/// Names and values shorter than this are not too long for a label.
const LABEL_BYTES_SURE: usize = 1 << 20;

/// A symbol table over mapped bytes.
#[derive(Debug, Clone)]
pub struct Symbols {
    source: Source,
    /// The strings, without frame and count.
    strings: Bytes,
    /// Offset of `strings` in the index it belongs to; version 1 references count from the start of that file.
    base: u64,
    version: IndexVersion,
    n: u32,
    sampled: Vec<u32>,
}

impl Symbols {
    /// Reads the section at `offset` of `source`, which lies at `index_offset` of the index itself.
    pub(super) fn open(
        source: &Source,
        offset: u64,
        index_offset: u64,
        version: IndexVersion,
    ) -> Result<Self, IndexError> {
        let body = source.section(offset, "symbol table")?;
        let mut cursor = Cursor::new(body);
        let fail = |short: ShortRead| source.short(offset, &short);
        let n = cursor.u32_be("symbol count").map_err(fail)?;
        let strings = cursor.rest();
        let n_most = strings.len();
        if n_most < n as usize {
            let problem = format!("{n} symbols cannot lie in {n_most} bytes");
            return Err(source.damaged(offset, problem));
        }
        let mut sampled = Vec::with_capacity((n as usize).div_ceil(STRIDE));
        let mut cursor = Cursor::new(strings);
        for number in 0..n as usize {
            if number.is_multiple_of(STRIDE) {
                // The section's length is a u32.
                sampled.push(u32::try_from(cursor.offset()).unwrap_or(u32::MAX));
            }
            cursor.uvarint_bytes("symbol").map_err(fail)?;
        }
        Ok(Self {
            strings: source.bytes().slice_ref(strings),
            source: source.clone(),
            base: index_offset + 8,
            version,
            n,
            sampled,
        })
    }

    /// What errors call the index.
    pub fn file(&self) -> &Arc<str> {
        self.source.file()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.n as usize
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<&str, IndexError>> {
        let mut cursor = Cursor::new(&self.strings);
        (0..self.n).map(move |number| {
            cursor
                .uvarint_str("symbol")
                .map_err(|short| self.failed(number, &short))
        })
    }

    /// All of them, in order, each with the number by which a series entry names it.
    pub fn references(&self) -> impl Iterator<Item = Result<(u32, &str), IndexError>> {
        let mut cursor = Cursor::new(&self.strings);
        (0..self.n).map(move |number| {
            // The file of a version 1 index ends before 4 GiB, as its references do.
            let offset = u32::try_from(self.base + cursor.offset() as u64).unwrap_or(u32::MAX);
            let text = cursor
                .uvarint_str("symbol")
                .map_err(|short| self.failed(number, &short))?;
            Ok(match self.version {
                IndexVersion::V1 => (offset, text),
                IndexVersion::V2 => (number, text),
            })
        })
    }

    /// The string that a series entry names.
    pub fn get(&self, reference: u32) -> Result<&str, IndexError> {
        let mut cursor = match self.version {
            IndexVersion::V1 => Cursor::new(
                u64::from(reference)
                    .checked_sub(self.base)
                    .and_then(|start| self.strings.get(usize::try_from(start).ok()?..))
                    .unwrap_or_default(),
            ),
            IndexVersion::V2 => {
                let sampled = self.sampled.get(reference as usize / STRIDE);
                let start = sampled.filter(|_| reference < self.n);
                let Some(&start) = start else {
                    let problem = format!("symbol {reference} of {} does not exist", self.n);
                    return Err(self.source.damaged(self.base, problem));
                };
                let mut cursor =
                    Cursor::new(self.strings.get(start as usize..).unwrap_or_default());
                for _ in 0..reference as usize % STRIDE {
                    cursor
                        .uvarint_bytes("symbol")
                        .map_err(|short| self.failed(reference, &short))?;
                }
                cursor
            }
        };
        cursor
            .uvarint_str("symbol")
            .map_err(|short| self.failed(reference, &short))
    }

    /// Can references be compared instead of texts? Then they are numbers, each text is there once and above the one
    /// before, and all of them are texts that a label can have.
    pub(super) fn are_numbered(&self) -> bool {
        let mut before: Option<&str> = None;
        self.version == IndexVersion::V2
            && self.iter().all(|text| {
                let Ok(text) = text else { return false };
                let is_above = before.is_none_or(|before| before < text);
                before = Some(text);
                is_above && text.len() < LABEL_BYTES_SURE
            })
    }

    /// The number of `text`, if it is there; where they are numbered.
    pub(super) fn number_of(&self, text: &str) -> Result<Option<u32>, IndexError> {
        // The last sampled one that is not above it is at `low`, if any is.
        let (mut low, mut high) = (0, self.sampled.len());
        while low + 1 < high {
            let middle = low.midpoint(high);
            let number = u32::try_from(middle * STRIDE).unwrap_or(u32::MAX);
            if self.get(number)? <= text {
                low = middle;
            } else {
                high = middle;
            }
        }
        let first = low * STRIDE;
        for number in (first..self.len()).take(STRIDE) {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if self.get(number)? == text {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn failed(&self, reference: u32, short: &ShortRead) -> IndexError {
        self.source
            .damaged(self.base, format!("symbol {reference}: {short}"))
    }
}
