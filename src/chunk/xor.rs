//! Gorilla floats, encoding 1.

use crate::chunk::bits::{BitReader, BitWriter, FieldRun, OutOfBits};
use crate::chunk::columns::{State, Words, fill};
use crate::chunk::error::ChunkError;
use crate::chunk::start_time::{put_uvarint, put_varint};
use crate::chunk::varbit::{fits_shifted, sign_extend_shifted};
use crate::foundation::Cursor;
use crate::model::{Sample, TimestampMs};

/// Width of a delta-of-delta after so many ones; four ones are followed by 64 bits and no zero.
const DOD_WIDTHS: [u32; 4] = [0, 14, 17, 20];

/// Leading zeros are five bits wide.
const LEADING_MAX: u32 = 31;

/// Prefixes of a changed value.
pub(super) const XOR_PREFIXES: (Prefix, Prefix) = ((0b10, 2), (0b11, 2));

/// Bytes of the sample count.
const COUNT_BYTES: usize = 2;

/// The most a sample takes: a second difference of 68 bits, and a value of 77, each beginning within a byte.
pub const XOR_SAMPLE_BYTES_MAX: usize = 19;

/// Samples that are encoded before their bits go to memory.
const SAMPLES_PER_RUN: usize = 16;

/// Bytes of a run of so many samples, and of one.
const RUN_BYTES: usize = 320;
const ONE_BYTES: usize = 32;
const _: () = assert!(SAMPLES_PER_RUN * (68 + 77) <= FieldRun::bits_max(RUN_BYTES));
const _: () = assert!(68 + 77 <= FieldRun::bits_max(ONE_BYTES));

/// Builds one chunk, sample by sample; its bytes are complete after every sample.
#[derive(Debug, Clone)]
pub struct XorAppender {
    bits: BitWriter,
    t: TimestampMs,
    v: f64,
    delta: i64,
    window: Option<Window>,
    n_samples: u16,
}

/// Where the samples of a chunk end.
struct End {
    state: State,
    /// The last sample has another value than the one before it.
    is_changed: bool,
    /// Some sample has.
    has_window: bool,
}

/// Samples that are decoded at once to find the end.
const SAMPLES_PER_FILL: usize = 64;

impl End {
    /// As queries decode, which is faster. `None` where that finds damage, or there is little to decode.
    fn soon(mut samples: XorIter<'_>, data: &[u8]) -> Option<Self> {
        let mut n_left = usize::from(samples.n_samples).checked_sub(2)?;
        let words = Words::new(data)?;
        let mut v_bits = samples.v_bits;
        let (_, second) = samples.second().ok()?;
        let mut is_changed = second.to_bits() != std::mem::replace(&mut v_bits, second.to_bits());
        let mut has_window = is_changed;
        let mut state = samples.state(data.len());
        let (mut t, mut v) = ([0; SAMPLES_PER_FILL], [0.0; SAMPLES_PER_FILL]);
        while 0 < n_left {
            let n = n_left.min(SAMPLES_PER_FILL);
            let (t, v) = (t.get_mut(..n)?, v.get_mut(..n)?);
            if !fill(&words, &mut state, t, v) {
                return None;
            }
            for v in v {
                is_changed = v.to_bits() != std::mem::replace(&mut v_bits, v.to_bits());
                has_window |= is_changed;
            }
            n_left -= n;
        }
        Some(Self {
            state,
            is_changed,
            has_window,
        })
    }

    fn with_care(mut samples: XorIter<'_>, data: &[u8]) -> Result<Self, ChunkError> {
        let mut v_bits = samples.v_bits;
        let (mut is_changed, mut has_window) = (false, false);
        while let Some(sample) = samples.next() {
            sample?;
            is_changed = samples.v_bits != std::mem::replace(&mut v_bits, samples.v_bits);
            has_window |= is_changed;
        }
        Ok(Self {
            state: samples.state(data.len()),
            is_changed,
            has_window,
        })
    }
}

/// The run of bits in which the last changed value differed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) leading: u8,
    pub(super) trailing: u8,
}

impl Default for XorAppender {
    fn default() -> Self {
        Self::new()
    }
}

impl XorAppender {
    /// A chunk without samples.
    pub fn new() -> Self {
        Self::with_capacity(128)
    }

    /// A chunk without samples, with room for `n_bytes`.
    pub fn with_capacity(n_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(n_bytes.max(COUNT_BYTES));
        bytes.extend_from_slice(&[0; COUNT_BYTES]);
        Self {
            bits: BitWriter::after(bytes),
            t: 0,
            v: 0.0,
            delta: 0,
            window: None,
            n_samples: 0,
        }
    }

    /// Continues an existing chunk behind its last sample; what follows that sample is cut off.
    ///
    /// The samples are read for what the next one is told from, and stay as they were written.
    pub fn resume(data: &[u8]) -> Result<Self, ChunkError> {
        let samples = XorIter::new(data)?;
        let n_samples = samples.n_samples;
        let end = match End::soon(samples.clone(), data) {
            Some(end) => end,
            None => End::with_care(samples, data)?,
        };
        let mut bytes = Vec::with_capacity(data.len() + XOR_SAMPLE_BYTES_MAX);
        bytes.extend_from_slice(data);
        let State {
            position,
            t,
            delta,
            v_bits,
            leading,
            significant,
        } = end.state;
        let n_last = match n_samples {
            // A count of two bytes, behind which Prometheus leaves nothing.
            0 => 1,
            1 => 64,
            _ if end.is_changed => significant,
            _ => 1,
        };
        let trailing = 64u32.wrapping_sub(leading).wrapping_sub(significant);
        Ok(Self {
            bits: BitWriter::behind(bytes, position, n_last),
            t,
            v: f64::from_bits(v_bits),
            delta,
            window: end.has_window.then(|| Window {
                leading: leading.to_le_bytes()[0],
                trailing: trailing.to_le_bytes()[0],
            }),
            n_samples,
        })
    }

    /// Adds a sample. Times may do anything; small second differences are what the encoding is good at.
    pub fn append(&mut self, t: TimestampMs, v: f64) -> Result<(), ChunkError> {
        let Some(n_after) = self.n_samples.checked_add(1) else {
            return Err(ChunkError::Full(usize::from(self.n_samples)));
        };
        match self.n_samples {
            0 => {
                put_varint(&mut self.bits, t);
                self.bits.put(v.to_bits(), 64);
            }
            1 => {
                self.delta = t.wrapping_sub(self.t);
                put_uvarint(&mut self.bits, self.delta.cast_unsigned());
                self.put_value(v);
            }
            _ => {
                let mut bytes = [0; ONE_BYTES];
                let run = self.encode(&[Sample { t, v }], &mut bytes);
                self.bits.end_run(&run, &mut bytes);
            }
        }
        self.t = t;
        self.v = v;
        self.n_samples = n_after;
        self.put_count();
        Ok(())
    }

    /// Adds samples, with the bytes and the room that [`Self::append`] of one after the other leaves.
    pub fn append_all(&mut self, samples: &[Sample]) -> Result<(), ChunkError> {
        let n_more = u16::try_from(samples.len()).ok();
        let Some(n_after) = n_more.and_then(|n| self.n_samples.checked_add(n)) else {
            return Err(ChunkError::Full(usize::from(self.n_samples)));
        };
        let n_first = 2usize.saturating_sub(self.n_samples()).min(samples.len());
        let (first, later) = samples.split_at(n_first);
        for sample in first {
            self.make_room();
            self.append(sample.t, sample.v)?;
        }
        for samples in later.chunks(SAMPLES_PER_RUN) {
            let mut bytes = [0; RUN_BYTES];
            let run = self.encode(samples, &mut bytes);
            self.bits
                .make_room(run.n_bytes_after().max(XOR_SAMPLE_BYTES_MAX));
            self.bits.end_run(&run, &mut bytes);
        }
        self.n_samples = n_after;
        self.put_count();
        Ok(())
    }

    /// The fields of samples behind the second one, as many as fit into `N` bytes; they are in the chunk when the run is
    /// ended.
    #[inline(always)]
    fn encode<const N: usize>(&mut self, samples: &[Sample], bytes: &mut [u8; N]) -> FieldRun {
        let (mut t, mut delta, mut v) = (self.t, self.delta, self.v.to_bits());
        // Nothing fits into the window that is not there yet.
        let (mut leading, mut trailing) = match self.window {
            Some(window) => (u32::from(window.leading), u32::from(window.trailing)),
            None => (u32::MAX, 0),
        };
        let mut run = self.bits.begin_run();
        for sample in samples {
            let delta_before = std::mem::replace(&mut delta, sample.t.wrapping_sub(t));
            t = sample.t;
            let dod = delta.wrapping_sub(delta_before);
            let payload = |n: u32| dod.cast_unsigned() & ((1 << n) - 1);
            let (field, n_field) = match dod {
                0 => (0b0, 1),
                _ if fits_shifted(dod, 14) => (0b10 << 14 | payload(14), 16),
                _ if fits_shifted(dod, 17) => (0b110 << 17 | payload(17), 20),
                _ if fits_shifted(dod, 20) => (0b1110 << 20 | payload(20), 24),
                _ => {
                    run.put(bytes, 0b1111, 4);
                    run.put(bytes, dod.cast_unsigned(), 64);
                    (0, 0)
                }
            };
            let bits = sample.v.to_bits();
            let diff = bits ^ std::mem::replace(&mut v, bits);
            if diff == 0 {
                run.put(bytes, field << 1, n_field + 1);
                continue;
            }
            let (leading_now, trailing_now) =
                (diff.leading_zeros().min(LEADING_MAX), diff.trailing_zeros());
            let (header, n_header) = if leading <= leading_now && trailing <= trailing_now {
                (field << 2 | 0b10, n_field + 2)
            } else {
                (leading, trailing) = (leading_now, trailing_now);
                let n = 64u32.wrapping_sub(leading).wrapping_sub(trailing);
                let header = 0b11 << 11 | u64::from(leading) << 6 | u64::from(n & 0x3f);
                (field << 13 | header, n_field + 13)
            };
            let n = 64u32.wrapping_sub(leading).wrapping_sub(trailing);
            let n_both = n_header.wrapping_add(n);
            if n_both <= FieldRun::FIELD_BITS_MAX {
                let fields = header << (n & 63) | diff >> (trailing & 63);
                run.put_fields(bytes, fields, (n_both, n));
            } else {
                run.put(bytes, header, n_header);
                run.put(bytes, diff >> trailing, n);
            }
        }
        (self.t, self.delta, self.v) = (t, delta, f64::from_bits(v));
        self.window = (leading <= LEADING_MAX).then(|| Window {
            leading: leading.to_le_bytes()[0],
            trailing: trailing.to_le_bytes()[0],
        });
        run
    }

    fn put_count(&mut self) {
        if let Some(count) = self.bits.bytes_mut().first_chunk_mut::<COUNT_BYTES>() {
            *count = self.n_samples.to_be_bytes();
        }
    }

    /// Makes room for the next sample and little else. Otherwise the memory doubles when it is full, which is faster, and
    /// too much for who keeps a million chunks open.
    #[inline]
    pub fn make_room(&mut self) {
        self.bits.make_room(XOR_SAMPLE_BYTES_MAX);
    }

    /// Makes room for a chunk of `n_bytes` in all.
    pub fn reserve(&mut self, n_bytes: usize) {
        self.bits.reserve(n_bytes);
    }

    /// How many samples.
    pub fn n_samples(&self) -> usize {
        usize::from(self.n_samples)
    }

    /// The chunk as it stands.
    pub fn bytes(&self) -> &[u8] {
        self.bits.bytes()
    }

    /// The same without the zero that may stand at the end: Prometheus stopped leaving it in version 3, and so aggregates
    /// do not have it.
    pub fn used_bytes(&self) -> &[u8] {
        self.bits.used_bytes()
    }

    /// Length of [`Self::bytes`].
    pub fn n_bytes(&self) -> usize {
        self.bits.bytes().len()
    }

    /// The newest sample.
    pub fn last(&self) -> Option<Sample> {
        (0 < self.n_samples).then_some(Sample {
            t: self.t,
            v: self.v,
        })
    }

    /// Gives the chunk away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bits.into_bytes()
    }

    fn put_value(&mut self, v: f64) {
        let diff = v.to_bits() ^ self.v.to_bits();
        if diff == 0 {
            self.bits.put(0b0, 1);
            return;
        }
        put_diff(&mut self.bits, diff, &mut self.window, XOR_PREFIXES);
    }
}

/// A prefix and its width.
type Prefix = (u64, u32);

/// Writes a difference that is not zero, in the last window or in a new one, behind the prefix that says which.
pub(super) fn put_diff(
    bits: &mut BitWriter,
    diff: u64,
    window: &mut Option<Window>,
    (reuse, renew): (Prefix, Prefix),
) {
    let leading = diff.leading_zeros().min(LEADING_MAX);
    let trailing = diff.trailing_zeros();
    if let Some(old) = *window
        && u32::from(old.leading) <= leading
        && u32::from(old.trailing) <= trailing
    {
        bits.put(reuse.0, reuse.1);
        let significant = 64 - u32::from(old.leading) - u32::from(old.trailing);
        bits.put(diff >> old.trailing, significant);
        return;
    }
    let significant = 64 - leading - trailing;
    // 64 does not fit six bits and is written as zero.
    let header = u64::from(leading) << 6 | u64::from(significant & 0x3f);
    bits.put(renew.0 << 11 | header, renew.1 + 11);
    bits.put(diff >> trailing, significant);
    *window = Some(Window {
        leading: leading.to_le_bytes()[0],
        trailing: trailing.to_le_bytes()[0],
    });
}

/// Walks the samples of a chunk.
#[derive(Debug, Clone)]
pub struct XorIter<'a> {
    bits: BitReader<'a>,
    t: TimestampMs,
    delta: i64,
    v_bits: u64,
    leading: u32,
    significant: u32,
    n_read: u16,
    n_samples: u16,
    n_bytes: usize,
}

/// What stopped a sample from being decoded.
pub(super) enum Flaw {
    Short,
    Window { leading: u32, significant: u32 },
    Layout(&'static str),
}

/// What stands in front of a difference in a window of its own: its leading zeros, and how many bits there are of it.
#[inline(always)]
pub(super) fn read_window(bits: &mut BitReader<'_>) -> Result<(u32, u32), Flaw> {
    // Eleven bits fit any integer.
    let header = u32::try_from(bits.bits(11)?).unwrap_or_default();
    let leading = header >> 6;
    let significant = ((header & 0x3f).wrapping_sub(1) & 0x3f) + 1;
    if 64 < leading + significant {
        return Err(Flaw::Window {
            leading,
            significant,
        });
    }
    Ok((leading, significant))
}

impl From<OutOfBits> for Flaw {
    fn from(_: OutOfBits) -> Self {
        Self::Short
    }
}

impl Flaw {
    #[cold]
    pub(super) fn at(self, sample: usize, n_samples: usize, n_bytes: usize) -> ChunkError {
        match self {
            Self::Short => ChunkError::Short {
                sample,
                n_samples,
                n_bytes,
            },
            Self::Window {
                leading,
                significant,
            } => ChunkError::Window {
                sample,
                leading,
                significant,
            },
            Self::Layout(problem) => ChunkError::Layout { problem },
        }
    }
}

impl<'a> XorIter<'a> {
    /// Reads the header and the whole-byte fields at the start.
    pub fn new(data: &'a [u8]) -> Result<Self, ChunkError> {
        let mut cursor = Cursor::new(data);
        let n_samples = cursor.u16_be("sample count")?;
        let mut iter = Self {
            bits: BitReader::new(&[]),
            t: 0,
            delta: 0,
            v_bits: 0,
            leading: 0,
            significant: 64,
            n_read: 0,
            n_samples,
            n_bytes: data.len(),
        };
        if 0 < n_samples {
            iter.t = cursor.varint("first timestamp")?;
            iter.v_bits = cursor.u64_be("first value")?;
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

    /// The sample that [`Self::new`] has read already, if there is one.
    pub(super) fn first(&self) -> Option<(TimestampMs, f64)> {
        (0 < self.n_samples).then(|| (self.t, f64::from_bits(self.v_bits)))
    }

    /// The second sample, whose delta [`Self::new`] has read.
    #[inline]
    pub(super) fn second(&mut self) -> Result<(TimestampMs, f64), Flaw> {
        self.bits.refill();
        self.t = self.t.wrapping_add(self.delta);
        self.value()
    }

    /// Where the stream stands, `n_bytes` being the length of the chunk.
    pub(super) fn state(&self, n_bytes: usize) -> State {
        State {
            position: n_bytes * 8 - self.bits.remaining(),
            t: self.t,
            delta: self.delta,
            v_bits: self.v_bits,
            leading: self.leading,
            significant: self.significant,
        }
    }

    /// Any sample after the second.
    #[inline(always)]
    pub(super) fn later(&mut self) -> Result<(TimestampMs, f64), Flaw> {
        self.bits.refill();
        let window = self.bits.window();
        let n_ones = window.leading_ones();
        // All narrow classes in one go: which one a sample has is not worth a mispredicted branch.
        if let Some(&width) = DOD_WIDTHS.get(n_ones as usize) {
            let raw = ((window << (n_ones + 1)) >> 1) >> (63 - width);
            let dod = sign_extend_shifted(raw, width);
            self.bits.skip(n_ones.wrapping_add(1).wrapping_add(width))?;
            self.delta = self.delta.wrapping_add(dod);
        } else {
            self.bits.skip(4)?;
            let dod = self.bits.bits(64)?.cast_signed();
            self.delta = self.delta.wrapping_add(dod);
            self.bits.refill();
        }
        self.t = self.t.wrapping_add(self.delta);
        self.value()
    }

    #[inline(always)]
    fn value(&mut self) -> Result<(TimestampMs, f64), Flaw> {
        // At most 24 of the 56 bits of the last refill are gone; the longest header takes 13.
        let window = self.bits.window();
        if window >> 63 == 0 {
            self.bits.skip(1)?;
        } else {
            if window >> 62 == 0b11 {
                let leading = (window >> 57) as u32 & 0x1f;
                let significant = (((window >> 51) as u32).wrapping_sub(1) & 0x3f).wrapping_add(1);
                self.bits.skip(13)?;
                if 64 < leading.wrapping_add(significant) {
                    return Err(Flaw::Window {
                        leading,
                        significant,
                    });
                }
                self.leading = leading;
                self.significant = significant;
            } else {
                self.bits.skip(2)?;
            }
            let diff = self.bits.bits(self.significant)?;
            let trailing = 64u32
                .wrapping_sub(self.leading)
                .wrapping_sub(self.significant);
            self.v_bits ^= diff << trailing;
        }
        Ok((self.t, f64::from_bits(self.v_bits)))
    }
}

impl Iterator for XorIter<'_> {
    type Item = Result<Sample, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.n_read == self.n_samples {
            return None;
        }
        let decoded = match self.n_read {
            0 => Ok((self.t, f64::from_bits(self.v_bits))),
            1 => self.second(),
            _ => self.later(),
        };
        match decoded {
            Ok((t, v)) => {
                self.n_read += 1;
                Some(Ok(Sample { t, v }))
            }
            Err(flaw) => {
                let sample = usize::from(self.n_read);
                self.n_read = self.n_samples;
                Some(Err(flaw.at(sample, self.n_samples(), self.n_bytes)))
            }
        }
    }
}
