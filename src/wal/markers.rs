//! Records that only `wbl/` has: which out-of-order samples lie in head chunk files by now.

use crate::foundation::Cursor;
use crate::wal::WalError;

/// First byte of the record.
const MMAP_MARKERS: u8 = 5;

/// All samples of one series that the log names before this lie in chunk files, some of them in this chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefMarker {
    /// The series' reference in the write-ahead log.
    pub series: u64,
    /// Number of the chunk file; zero where no chunk was written and the samples that follow begin one.
    pub file: u32,
    /// Where the chunk's entry begins.
    pub offset: u32,
}

/// Collects a record of markers; its buffer is reused.
#[derive(Debug, Default)]
pub struct MarkersEncoder {
    body: Vec<u8>,
}

impl MarkersEncoder {
    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
    }

    /// Adds one marker.
    pub fn push(&mut self, marker: RefMarker) {
        if self.body.is_empty() {
            self.body.push(MMAP_MARKERS);
        }
        self.body.extend_from_slice(&marker.series.to_be_bytes());
        self.body.extend_from_slice(&marker.file.to_be_bytes());
        self.body.extend_from_slice(&marker.offset.to_be_bytes());
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        (!self.body.is_empty()).then_some(self.body.as_slice())
    }
}

/// The entries of a record of markers.
pub fn decode_markers(body: &[u8]) -> Result<Vec<RefMarker>, WalError> {
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    let mut markers = Vec::new();
    while !cursor.is_empty() {
        markers.push(RefMarker {
            series: cursor.u64_be("series reference")?,
            file: cursor.u32_be("chunk file")?,
            offset: cursor.u32_be("chunk offset")?,
        });
    }
    Ok(markers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_have_these_bytes_and_no_part_of_one_is_read() {
        let markers = [(7, 1, 8), (0x0102_0304_0506_0708, 3, 0x0a0b_0c0d)];
        let markers = markers.map(|(series, file, offset)| RefMarker {
            series,
            file,
            offset,
        });
        let mut encoder = MarkersEncoder::default();
        assert_eq!(encoder.record(), None);
        markers.into_iter().for_each(|marker| encoder.push(marker));
        let golden = "05 0000000000000007 00000001 00000008 0102030405060708 00000003 0a0b0c0d";
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let body = encoder.record().unwrap().to_vec();
        assert_eq!(hex(&body), golden.replace(' ', ""));
        assert_eq!(decode_markers(&body).unwrap(), markers);
        for len in 0..body.len() {
            let is_whole = len % 16 == 1;
            assert_eq!(decode_markers(&body[..len]).is_ok(), is_whole, "{len}");
        }
        encoder.clear();
        assert_eq!(encoder.record(), None);
    }
}
