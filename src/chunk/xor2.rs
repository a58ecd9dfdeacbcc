//! Floats with optional start timestamps, encoding 4. The start timestamps are read past.

use crate::chunk::bits::BitReader;
use crate::chunk::error::ChunkError;
use crate::chunk::varbit::varbit_int;
use crate::chunk::xor::Flaw;
use crate::foundation::Cursor;
use crate::model::{STALE_NAN_BITS, Sample, TimestampMs};

/// Header bit: the first sample has a start timestamp.
const FIRST_ST_KNOWN: u8 = 0x80;

/// Walks the samples of a chunk.
#[derive(Debug, Clone)]
pub struct Xor2Iter<'a> {
    bits: BitReader<'a>,
    t: TimestampMs,
    delta: i64,
    first_bits: u64,
    /// The newest value that was no stale marker; zero before any.
    baseline: u64,
    leading: u32,
    significant: u32,
    n_read: u16,
    n_samples: u16,
    /// From this sample on a start timestamp follows every value; zero means never.
    st_change_on: u16,
    n_bytes: usize,
}

impl<'a> Xor2Iter<'a> {
    /// Reads the header and the whole-byte fields at the start.
    pub fn new(data: &'a [u8]) -> Result<Self, ChunkError> {
        let mut cursor = Cursor::new(data);
        let n_samples = cursor.u16_be("sample count")?;
        let st_header = cursor.u8("start timestamp header")?;
        let mut iter = Self {
            bits: BitReader::new(&[]),
            t: 0,
            delta: 0,
            first_bits: 0,
            baseline: 0,
            leading: 0,
            significant: 64,
            n_read: 0,
            n_samples,
            st_change_on: u16::from(st_header & !FIRST_ST_KNOWN),
            n_bytes: data.len(),
        };
        if 0 < n_samples {
            iter.t = cursor.varint("first timestamp")?;
            iter.first_bits = cursor.u64_be("first value")?;
            if iter.first_bits != STALE_NAN_BITS {
                iter.baseline = iter.first_bits;
            }
            if st_header & FIRST_ST_KNOWN != 0 {
                cursor.varint("first start timestamp")?;
            }
        }
        if 1 < n_samples {
            iter.delta = cursor.uvarint("first timestamp delta")?.cast_signed();
        }
        iter.bits = BitReader::new(cursor.rest());
        Ok(iter)
    }

    /// How many samples the header promises.
    pub fn n_samples(&self) -> usize {
        usize::from(self.n_samples)
    }

    fn decode(&mut self) -> Result<Sample, Flaw> {
        let v_bits = match self.n_read {
            0 => self.first_bits,
            1 => {
                self.t = self.t.wrapping_add(self.delta);
                self.value()?
            }
            _ => self.later()?,
        };
        if 0 < self.n_read && 0 < self.st_change_on && self.st_change_on <= self.n_read {
            varbit_int(&mut self.bits)?;
        }
        Ok(Sample {
            t: self.t,
            v: f64::from_bits(v_bits),
        })
    }

    /// Control prefix, time and value of any sample after the second.
    #[inline]
    fn later(&mut self) -> Result<u64, Flaw> {
        let (dod, v_bits) = match self.bits.ones(5)? {
            0 => (0, Some(self.baseline)),
            1 => {
                let is_new = self.bits.bit()?;
                (0, Some(self.changed(is_new)?))
            }
            2 => (self.signed(13)?, None),
            3 => (self.signed(20)?, None),
            4 => (self.signed(64)?, None),
            _ => (0, Some(STALE_NAN_BITS)),
        };
        self.delta = self.delta.wrapping_add(dod);
        self.t = self.t.wrapping_add(self.delta);
        match v_bits {
            Some(v_bits) => Ok(v_bits),
            None => self.value(),
        }
    }

    /// Plain two's complement.
    #[inline]
    fn signed(&mut self, n: u32) -> Result<i64, Flaw> {
        let raw = self.bits.bits(n)?;
        Ok((raw << (64 - n)).cast_signed() >> (64 - n))
    }

    #[inline]
    fn value(&mut self) -> Result<u64, Flaw> {
        match self.bits.ones(3)? {
            0 => Ok(self.baseline),
            1 => self.changed(false),
            2 => self.changed(true),
            _ => Ok(STALE_NAN_BITS),
        }
    }

    #[inline]
    fn changed(&mut self, is_new_window: bool) -> Result<u64, Flaw> {
        if is_new_window {
            // Eleven bits fit any integer.
            let header = u32::try_from(self.bits.bits(11)?).unwrap_or_default();
            let leading = header >> 6;
            let significant = ((header & 0x3f).wrapping_sub(1) & 0x3f) + 1;
            if 64 < leading + significant {
                return Err(Flaw::Window {
                    leading,
                    significant,
                });
            }
            self.leading = leading;
            self.significant = significant;
        }
        let diff = self.bits.bits(self.significant)?;
        self.baseline ^= diff << (64 - self.leading - self.significant);
        Ok(self.baseline)
    }
}

impl Iterator for Xor2Iter<'_> {
    type Item = Result<Sample, ChunkError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.n_read == self.n_samples {
            return None;
        }
        match self.decode() {
            Ok(sample) => {
                self.n_read += 1;
                Some(Ok(sample))
            }
            Err(flaw) => {
                let sample = usize::from(self.n_read);
                self.n_read = self.n_samples;
                Some(Err(flaw.at(sample, self.n_samples(), self.n_bytes)))
            }
        }
    }
}
