//! Records cut into checksummed fragments that never cross a page.
#![expect(
    clippy::cast_possible_truncation,
    reason = "a fragment is shorter than a page, and a page is 32 KiB"
)]

use crate::foundation::checksum::crc32c;
use crate::wal::WalError;

/// Length of a page.
pub(crate) const PAGE_BYTES: usize = 32 << 10;
/// Type, length and checksum before each fragment.
pub(crate) const FRAGMENT_HEADER_BYTES: usize = 7;
/// Longest record before compression that is written or believed.
pub(crate) const RECORD_BYTES_MAX: usize = 512 << 20;

pub(crate) const PAGE_END: u8 = 0;
pub(crate) const FULL: u8 = 1;
pub(crate) const FIRST: u8 = 2;
pub(crate) const MIDDLE: u8 = 3;
pub(crate) const LAST: u8 = 4;
pub(crate) const POSITION_MASK: u8 = 0x07;
pub(crate) const SNAPPY: u8 = 0x08;
pub(crate) const ZSTD: u8 = 0x10;

/// How records are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy, block format; every Prometheus reads it.
    #[default]
    Snappy,
    /// Zstandard; Prometheus reads it from 2.45 on.
    Zstd,
}

/// Makes records smaller where that pays; keeps its buffer.
pub(crate) struct Compressor {
    compression: Compression,
    snappy: snap::raw::Encoder,
    buffer: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self {
            compression,
            snappy: snap::raw::Encoder::new(),
            buffer: Vec::new(),
        }
    }

    /// The bytes to store and the flag that says how; the record itself when compression does not shrink it.
    pub(crate) fn compress<'a>(&'a mut self, record: &'a [u8]) -> Result<(&'a [u8], u8), WalError> {
        let failed = |error: String| WalError::Compress(error);
        let (len, flag) = match self.compression {
            Compression::None => return Ok((record, 0)),
            Compression::Snappy => {
                let bound = snap::raw::max_compress_len(record.len());
                if self.buffer.len() < bound {
                    self.buffer.resize(bound, 0);
                }
                let len = self
                    .snappy
                    .compress(record, &mut self.buffer)
                    .map_err(|error| failed(error.to_string()))?;
                (len, SNAPPY)
            }
            Compression::Zstd => {
                self.buffer = zstd::bulk::compress(record, 1).map_err(|e| failed(e.to_string()))?;
                (self.buffer.len(), ZSTD)
            }
        };
        match self.buffer.get(..len) {
            Some(small) if len < record.len() => Ok((small, flag)),
            _ => Ok((record, 0)),
        }
    }
}

/// Where the next fragment goes; appends pages to a buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PageCursor {
    /// Bytes used of the current page.
    used: usize,
    /// Pages that are full.
    n_full: u64,
}

impl PageCursor {
    /// Continues after `n_bytes` of a segment.
    #[cfg(test)]
    pub(crate) fn after(n_bytes: u64) -> Self {
        let page = PAGE_BYTES as u64;
        Self {
            used: (n_bytes % page) as usize,
            n_full: n_bytes / page,
        }
    }

    /// Bytes of payload that still fit a segment of `n_pages`.
    pub(crate) fn room(&self, n_pages: u64) -> u64 {
        if self.n_full >= n_pages {
            return 0;
        }
        let payload = (PAGE_BYTES - FRAGMENT_HEADER_BYTES) as u64;
        let here = (PAGE_BYTES - self.used).saturating_sub(FRAGMENT_HEADER_BYTES) as u64;
        let later = n_pages.saturating_sub(self.n_full + 1);
        here + later * payload
    }

    /// Bytes of the segment so far.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_full * PAGE_BYTES as u64 + self.used as u64
    }

    /// Cuts `stored` into fragments at the end of `out`.
    pub(crate) fn push(&mut self, stored: &[u8], flag: u8, out: &mut Vec<u8>) {
        let mut rest = stored;
        let mut is_first = true;
        loop {
            let space = PAGE_BYTES - self.used - FRAGMENT_HEADER_BYTES;
            let (part, after) = rest.split_at(rest.len().min(space));
            let position = match (is_first, after.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            out.push(position | flag);
            out.extend_from_slice(&(part.len() as u16).to_be_bytes());
            out.extend_from_slice(&crc32c(part).to_be_bytes());
            out.extend_from_slice(part);
            self.used += FRAGMENT_HEADER_BYTES + part.len();
            let left = PAGE_BYTES - self.used;
            if left < FRAGMENT_HEADER_BYTES {
                out.resize(out.len() + left, 0);
                self.used = 0;
                self.n_full += 1;
            }
            rest = after;
            is_first = false;
            if rest.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_record_is_one_full_fragment() {
        let mut out = Vec::new();
        let mut cursor = PageCursor::default();
        cursor.push(b"123456789", 0, &mut out);
        let mut golden = vec![FULL, 0, 9, 0xE3, 0x06, 0x92, 0x83];
        golden.extend_from_slice(b"123456789");
        assert_eq!(out, golden);
        assert_eq!(cursor.n_bytes(), 16);
    }

    #[test]
    fn a_long_record_is_first_middle_and_last_fragment() {
        let record = vec![7u8; 2 * PAGE_BYTES];
        let mut out = Vec::new();
        let mut cursor = PageCursor::default();
        cursor.push(&record, SNAPPY, &mut out);
        assert_eq!(out[0], FIRST | SNAPPY);
        assert_eq!(out[PAGE_BYTES], MIDDLE | SNAPPY);
        assert_eq!(out[2 * PAGE_BYTES], LAST | SNAPPY);
        assert_eq!(out.len(), 2 * PAGE_BYTES + 3 * FRAGMENT_HEADER_BYTES);
    }

    #[test]
    fn a_page_with_no_space_for_a_header_is_filled_with_zeros() {
        for left in 1..FRAGMENT_HEADER_BYTES {
            let mut out = Vec::new();
            let mut cursor = PageCursor::default();
            cursor.push(
                &vec![1; PAGE_BYTES - FRAGMENT_HEADER_BYTES - left],
                0,
                &mut out,
            );
            assert_eq!(out.len(), PAGE_BYTES);
            assert!(out[PAGE_BYTES - left..].iter().all(|b| *b == 0));
            assert_eq!(cursor.n_bytes(), PAGE_BYTES as u64);
        }
    }

    #[test]
    fn room_counts_headers_of_the_pages_to_come() {
        let payload = (PAGE_BYTES - FRAGMENT_HEADER_BYTES) as u64;
        assert_eq!(PageCursor::default().room(2), 2 * payload);
        assert_eq!(PageCursor::after(100).room(1), payload - 100);
        assert_eq!(PageCursor::after(2 * PAGE_BYTES as u64).room(2), 0);
    }
}
