//! Start timestamps beside the samples of a chunk, the same in XOR2 and in histogram chunks: nothing is stored before
//! they change.

use crate::chunk::bits::{BitReader, BitWriter, OutOfBits};
use crate::chunk::varbit::{put_varbit_int, varbit_int};
use crate::model::TimestampMs;

/// Header bit: the first sample has a start timestamp.
const FIRST_KNOWN: u8 = 0x80;

/// The last sample that the header can name as the first with a change; from there on all are stored.
const CHANGE_ON_MAX: u8 = 0x7f;

/// Reads them in the order of samples.
#[derive(Debug, Clone, Default)]
pub(super) struct StartReader {
    /// Of the newest sample; zero is unknown.
    pub(super) st: TimestampMs,
    difference: i64,
    /// From this sample on one follows every value; zero means never.
    change_on: u16,
    /// The first sample has one.
    pub(super) first_known: bool,
}

impl StartReader {
    pub(super) fn new(header: u8) -> Self {
        Self {
            change_on: u16::from(header & !FIRST_KNOWN),
            first_known: header & FIRST_KNOWN != 0,
            ..Self::default()
        }
    }

    /// What [`Self::first_known`] promised: the distance from the start to the first sample.
    pub(super) fn set_first(&mut self, t: TimestampMs, difference: i64) {
        self.st = t.wrapping_sub(difference);
    }

    /// Behind sample `index`, at least 1; `before` is the time of the sample before.
    #[inline]
    pub(super) fn later(
        &mut self,
        bits: &mut BitReader<'_>,
        index: u16,
        before: TimestampMs,
    ) -> Result<(), OutOfBits> {
        if self.change_on == 0 || index < self.change_on {
            return Ok(());
        }
        let change = varbit_int(bits)?;
        self.difference = if index == self.change_on {
            change
        } else {
            self.difference.wrapping_add(change)
        };
        self.st = before.wrapping_sub(self.difference);
        Ok(())
    }
}

/// Mirror of [`StartReader`].
#[derive(Debug, Clone, Default)]
pub(super) struct StartWriter {
    st: TimestampMs,
    difference: i64,
    change_on: u8,
}

impl StartWriter {
    /// Behind the first sample. `header` is the byte at `header_at`.
    pub(super) fn put_first(
        &mut self,
        out: &mut BitWriter,
        header_at: usize,
        t: TimestampMs,
        st: TimestampMs,
    ) {
        self.st = st;
        if st != 0 {
            put_varint(out, t.wrapping_sub(st));
            set_header(out, header_at, FIRST_KNOWN);
        }
    }

    /// Behind sample `index`, at least 1; `before` is the time of the sample before.
    pub(super) fn put_later(
        &mut self,
        out: &mut BitWriter,
        header_at: usize,
        (index, before): (u16, TimestampMs),
        st: TimestampMs,
    ) {
        let difference = before.wrapping_sub(st);
        if self.change_on == 0 {
            if st == self.st && index != u16::from(CHANGE_ON_MAX) {
                return;
            }
            // Never reached behind the last sample that the header can name: that one is always a change.
            self.change_on = u8::try_from(index).unwrap_or(CHANGE_ON_MAX);
            set_header(out, header_at, self.change_on);
            put_varbit_int(out, difference);
        } else {
            put_varbit_int(out, difference.wrapping_sub(self.difference));
        }
        self.difference = difference;
        self.st = st;
    }
}

fn set_header(out: &mut BitWriter, header_at: usize, bits: u8) {
    if let Some(header) = out.bytes_mut().get_mut(header_at) {
        *header |= bits;
    }
}

/// LEB128 as Go's `binary.PutUvarint`, through the bit stream and without an allocation.
pub(super) fn put_uvarint(out: &mut BitWriter, mut value: u64) {
    while 0x80 <= value {
        out.put(value & 0x7f | 0x80, 8);
        value >>= 7;
    }
    out.put(value, 8);
}

/// The same for signed integers, zig-zag.
pub(super) fn put_varint(out: &mut BitWriter, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Reads what [`put_varint`] wrote, at any bit position.
pub(super) fn take_varint(bits: &mut BitReader<'_>) -> Result<i64, OutOfBits> {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bits.bits(8)?;
        raw |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()));
        }
    }
    Err(OutOfBits)
}
