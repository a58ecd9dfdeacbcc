//! Entries of the head's chunk files, `chunks_head/000001` …: closed chunks of series that are still being written.
//!
//! Bytes only; whoever owns the head opens, names and deletes the files.

use bytes::Bytes;

use crate::chunk::error::ChunkError;
use crate::foundation::Cursor;
use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::put_uvarint;
use crate::model::{Encoding, TimestampMs};

/// First bytes of every file.
const HEAD_FILE_MAGIC: u32 = 0x0130_BC91;

/// The only version there is.
const HEAD_FILE_VERSION: u8 = 1;

/// Magic, version, padding.
pub const HEAD_FILE_HEADER_BYTES: usize = 8;

/// Where a file ends and the next begins: Prometheus' number.
pub const HEAD_FILE_BYTES_MAX: u64 = 128 << 20;

/// What an entry takes beside its data, at most.
pub const HEAD_CHUNK_OVERHEAD_BYTES_MAX: usize = FIXED_BYTES + 1 + 5 + 4;

/// Series reference, first and last time.
const FIXED_BYTES: usize = 3 * size_of::<u64>();

/// Bit of the encoding byte: the chunk's samples came out of order.
pub const HEAD_CHUNK_OUT_OF_ORDER: u8 = 0x80;

/// The header of a file.
pub fn encode_head_file_header() -> [u8; HEAD_FILE_HEADER_BYTES] {
    let [m0, m1, m2, m3] = HEAD_FILE_MAGIC.to_be_bytes();
    [m0, m1, m2, m3, HEAD_FILE_VERSION, 0, 0, 0]
}

/// Mirror of [`encode_head_file_header`].
pub fn check_head_file_header(file: &[u8]) -> Result<(), ChunkError> {
    let mut cursor = Cursor::new(file);
    let magic = cursor.u32_be("magic")?;
    let version = cursor.u8("version")?;
    cursor.take::<3>("padding")?;
    if (magic, version) != (HEAD_FILE_MAGIC, HEAD_FILE_VERSION) {
        return Err(ChunkError::HeadFileHeader { magic, version });
    }
    Ok(())
}

/// One closed chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadChunk {
    /// The series as the log numbers it.
    pub series_ref: u64,
    /// Time of the first sample.
    pub min_t: TimestampMs,
    /// Time of the last sample.
    pub max_t: TimestampMs,
    /// Did the samples come out of order?
    pub is_out_of_order: bool,
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// The chunk's bytes.
    pub data: Bytes,
}

impl HeadChunk {
    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.series_ref.to_be_bytes());
        out.extend_from_slice(&self.min_t.to_be_bytes());
        out.extend_from_slice(&self.max_t.to_be_bytes());
        let flag = if self.is_out_of_order {
            HEAD_CHUNK_OUT_OF_ORDER
        } else {
            0
        };
        out.push(self.encoding.as_byte() | flag);
        put_uvarint(out, self.data.len() as u64);
        out.extend_from_slice(&self.data);
        let crc = crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// Mirror of [`Self::encode`]: the entry at `offset` and the offset behind it; `None` where the entries end.
    ///
    /// Files are made longer than their content: the end is where reference and times are zero.
    pub fn decode(file: &Bytes, offset: usize) -> Result<Option<(Self, usize)>, ChunkError> {
        let rest = file.get(offset..).unwrap_or_default();
        if rest.iter().take(FIXED_BYTES).all(|&byte| byte == 0) {
            return Ok(None);
        }
        let mut cursor = Cursor::at(rest, offset);
        let series_ref = cursor.u64_be("series reference")?;
        let min_t = cursor.i64_be("first time")?;
        let max_t = cursor.i64_be("last time")?;
        let encoding = cursor.u8("encoding")?;
        let data = cursor.uvarint_bytes("chunk data")?;
        let n_covered = cursor.offset() - offset;
        let stored = cursor.u32_be("chunk checksum")?;
        let computed = crc32c(rest.get(..n_covered).unwrap_or_default());
        if stored != computed {
            return Err(ChunkError::Checksum { stored, computed });
        }
        let name = encoding & !HEAD_CHUNK_OUT_OF_ORDER;
        let chunk = Self {
            series_ref,
            min_t,
            max_t,
            is_out_of_order: encoding & HEAD_CHUNK_OUT_OF_ORDER != 0,
            encoding: Encoding::from_byte(name).ok_or(ChunkError::UnknownEncoding(name))?,
            data: file.slice_ref(data),
        };
        Ok(Some((chunk, cursor.offset())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> HeadChunk {
        HeadChunk {
            series_ref: 0x0102,
            min_t: -1,
            max_t: 5,
            is_out_of_order: true,
            encoding: Encoding::Xor,
            data: Bytes::from_static(&[7, 8, 9]),
        }
    }

    fn file() -> Vec<u8> {
        let mut out = encode_head_file_header().to_vec();
        sample().encode(&mut out);
        out
    }

    #[test]
    fn an_entry_has_these_bytes() {
        let mut expect = vec![0x01, 0x30, 0xbc, 0x91, 1, 0, 0, 0];
        expect.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        expect.extend([0xff; 8]);
        expect.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        expect.extend([0x81, 3, 7, 8, 9]);
        expect.extend(crc32c(&expect[8..]).to_be_bytes());
        assert_eq!(file(), expect);
    }

    #[test]
    fn entries_come_back_until_the_zeros() {
        let mut bytes = file();
        sample().encode(&mut bytes);
        let n_used = bytes.len();
        for n_zeros in [0, 1, 23, 24, 100] {
            bytes.resize(n_used + n_zeros, 0);
            let file = Bytes::from(bytes.clone());
            check_head_file_header(&file).unwrap();
            let (first, next) = HeadChunk::decode(&file, 8).unwrap().unwrap();
            let (second, end) = HeadChunk::decode(&file, next).unwrap().unwrap();
            assert_eq!((&first, &second, end), (&sample(), &sample(), n_used));
            assert_eq!(HeadChunk::decode(&file, end).unwrap(), None);
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = file();
        for len in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..len]);
            if len < 8 {
                assert!(check_head_file_header(&cut).is_err(), "len {len}");
            } else if bytes[8..len].iter().any(|&byte| byte != 0) {
                assert!(HeadChunk::decode(&cut, 8).is_err(), "len {len}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_an_error() {
        let bytes = file();
        for bit in 8 * 8..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            let result = HeadChunk::decode(&Bytes::from(damaged), 8);
            assert!(result.is_err(), "bit {bit}: {result:?}");
        }
        for bit in 0..5 * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(check_head_file_header(&damaged).is_err(), "bit {bit}");
        }
    }
}
