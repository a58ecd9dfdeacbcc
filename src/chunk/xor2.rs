//! Floats with optional start timestamps, encoding 4.

use crate::chunk::bits::{BitReader, BitWriter};
use crate::chunk::error::ChunkError;
use crate::chunk::start_time::{StartReader, StartWriter, put_uvarint, put_varint};
use crate::chunk::xor::{Flaw, Window, put_diff, read_window};
use crate::foundation::Cursor;
use crate::model::{STALE_NAN_BITS, Sample, TimestampMs};

/// Where the header of start timestamps stands, behind the sample count.
const START_HEADER_AT: usize = 2;

/// Bytes of sample count and start header.
const HEADER_BYTES: usize = START_HEADER_AT + 1;

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
    starts: StartReader,
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
            starts: StartReader::new(st_header),
            n_bytes: data.len(),
        };
        if 0 < n_samples {
            iter.t = cursor.varint("first timestamp")?;
            iter.first_bits = cursor.u64_be("first value")?;
            if iter.first_bits != STALE_NAN_BITS {
                iter.baseline = iter.first_bits;
            }
            if iter.starts.first_known {
                let difference = cursor.varint("first start timestamp")?;
                iter.starts.set_first(iter.t, difference);
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

    /// Since when the newest sample counts; zero is unknown.
    pub fn start_time(&self) -> TimestampMs {
        self.starts.st
    }

    fn decode(&mut self) -> Result<Sample, Flaw> {
        let before = self.t;
        let v_bits = match self.n_read {
            0 => self.first_bits,
            1 => {
                self.t = self.t.wrapping_add(self.delta);
                self.value()?
            }
            _ => self.later()?,
        };
        if 0 < self.n_read {
            self.starts.later(&mut self.bits, self.n_read, before)?;
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
            (self.leading, self.significant) = read_window(&mut self.bits)?;
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

/// Prefixes of a changed value in the last window and in a new one, each in two bits or fewer.
#[derive(Clone, Copy)]
struct Prefixes {
    same: (u64, u32),
    reuse: (u64, u32),
    renew: (u64, u32),
}

/// Behind a time that is told: *V* of the format.
const TOLD: Prefixes = Prefixes {
    same: (0, 1),
    reuse: (0b10, 2),
    renew: (0b110, 3),
};

/// Behind no change of distance, where the control bits say whether the value changed.
const ON_TIME: Prefixes = Prefixes {
    same: (0, 1),
    reuse: (0b100, 3),
    renew: (0b101, 3),
};

/// Builds one chunk, sample by sample; its bytes are complete after every sample.
#[derive(Debug, Clone)]
pub struct Xor2Appender {
    bits: BitWriter,
    t: TimestampMs,
    delta: i64,
    /// The newest value that was no stale marker; zero before any.
    baseline: u64,
    window: Option<Window>,
    starts: StartWriter,
    n_samples: u16,
}

impl Default for Xor2Appender {
    fn default() -> Self {
        Self::new()
    }
}

impl Xor2Appender {
    /// A chunk without samples.
    pub fn new() -> Self {
        Self {
            bits: BitWriter::after(vec![0; HEADER_BYTES]),
            t: 0,
            delta: 0,
            baseline: 0,
            window: None,
            starts: StartWriter::default(),
            n_samples: 0,
        }
    }

    /// Continues an existing chunk behind its last sample; what follows that sample is cut off.
    pub fn resume(data: &[u8]) -> Result<Self, ChunkError> {
        let mut appender = Self::new();
        let mut iter = Xor2Iter::new(data)?;
        while let Some(sample) = iter.next() {
            let Sample { t, v } = sample?;
            appender.append(t, iter.start_time(), v)?;
        }
        Ok(appender)
    }

    /// Adds a sample that counts since `st`, zero for unknown.
    pub fn append(&mut self, t: TimestampMs, st: TimestampMs, v: f64) -> Result<(), ChunkError> {
        let Some(n_after) = self.n_samples.checked_add(1) else {
            return Err(ChunkError::Full(usize::from(self.n_samples)));
        };
        let before = self.t;
        let delta = t.wrapping_sub(before);
        match self.n_samples {
            0 => {
                put_varint(&mut self.bits, t);
                self.bits.put(v.to_bits(), 64);
            }
            1 => {
                put_uvarint(&mut self.bits, delta.cast_unsigned());
                self.put_value(v, TOLD);
                self.delta = delta;
            }
            _ => {
                self.put_joint(delta.wrapping_sub(self.delta), v);
                self.delta = delta;
            }
        }
        self.t = t;
        if v.to_bits() != STALE_NAN_BITS {
            self.baseline = v.to_bits();
        }
        match self.n_samples {
            0 => self
                .starts
                .put_first(&mut self.bits, START_HEADER_AT, t, st),
            index => {
                let place = (index, before);
                self.starts
                    .put_later(&mut self.bits, START_HEADER_AT, place, st);
            }
        }
        self.n_samples = n_after;
        if let Some(count) = self.bits.bytes_mut().first_chunk_mut::<2>() {
            *count = n_after.to_be_bytes();
        }
        Ok(())
    }

    /// How many samples.
    pub fn n_samples(&self) -> usize {
        usize::from(self.n_samples)
    }

    /// The chunk as it stands.
    pub fn bytes(&self) -> &[u8] {
        self.bits.used_bytes()
    }

    /// Gives the chunk away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bits.into_used_bytes()
    }

    fn put_joint(&mut self, dod: i64, v: f64) {
        let raw = dod.cast_unsigned();
        match dod {
            0 if v.to_bits() == STALE_NAN_BITS => return self.bits.put(0b11111, 5),
            0 => return self.put_value(v, ON_TIME),
            -0x1000..0x1000 => self.bits.put(0b110 << 13 | raw & 0x1fff, 16),
            -0x8_0000..0x8_0000 => self.bits.put(0b1110 << 20 | raw & 0xf_ffff, 24),
            _ => {
                self.bits.put(0b11110, 5);
                self.bits.put(raw, 64);
            }
        }
        self.put_value(v, TOLD);
    }

    fn put_value(&mut self, v: f64, prefixes: Prefixes) {
        if v.to_bits() == STALE_NAN_BITS {
            // Only where a time is told: the control bits of a marker on time say it all.
            return self.bits.put(0b111, 3);
        }
        let diff = v.to_bits() ^ self.baseline;
        if diff == 0 {
            return self.bits.put(prefixes.same.0, prefixes.same.1);
        }
        let ways = (prefixes.reuse, prefixes.renew);
        put_diff(&mut self.bits, diff, &mut self.window, ways);
    }
}
