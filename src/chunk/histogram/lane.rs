//! One number of every histogram of a chunk, from sample to sample.

use crate::chunk::bits::{BitReader, BitWriter};
use crate::chunk::varbit::{put_varbit_int, varbit_int};
use crate::chunk::xor::{Flaw, Window, XOR_PREFIXES, put_diff, read_window};

/// An integer, told by how its difference changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WholeLane {
    pub(super) value: i64,
    delta: i64,
}

impl WholeLane {
    /// Starts at the first sample.
    pub(super) fn new(value: i64) -> Self {
        Self { value, delta: 0 }
    }

    #[inline]
    pub(super) fn take(&mut self, bits: &mut BitReader<'_>) -> Result<(), Flaw> {
        self.delta = self.delta.wrapping_add(varbit_int(bits)?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }

    pub(super) fn put(&mut self, out: &mut BitWriter, value: i64) {
        let delta = value.wrapping_sub(self.value);
        put_varbit_int(out, delta.wrapping_sub(self.delta));
        self.delta = delta;
        self.value = value;
    }

    /// Goes on as before: what a stale marker says.
    pub(super) fn put_nothing_new(&mut self, out: &mut BitWriter) {
        put_varbit_int(out, 0);
        self.value = self.value.wrapping_add(self.delta);
    }
}

/// A float, told by which bits change.
#[derive(Debug, Clone, Copy)]
pub(super) struct FloatLane {
    value: u64,
    leading: u32,
    significant: u32,
}

impl FloatLane {
    /// Reads the 64 bits of the first sample.
    pub(super) fn first(bits: &mut BitReader<'_>) -> Result<Self, Flaw> {
        Ok(Self {
            value: bits.bits(64)?,
            leading: 0,
            significant: 64,
        })
    }

    #[inline]
    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.value)
    }

    #[inline]
    pub(super) fn take(&mut self, bits: &mut BitReader<'_>) -> Result<(), Flaw> {
        if !bits.bit()? {
            return Ok(());
        }
        if bits.bit()? {
            (self.leading, self.significant) = read_window(bits)?;
        }
        let diff = bits.bits(self.significant)?;
        self.value ^= diff << (64 - self.leading - self.significant);
        Ok(())
    }
}

/// Mirror of [`FloatLane`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FloatLaneWriter {
    value: u64,
    window: Option<Window>,
}

impl FloatLaneWriter {
    pub(super) fn first(out: &mut BitWriter, value: f64) -> Self {
        out.put(value.to_bits(), 64);
        Self {
            value: value.to_bits(),
            window: None,
        }
    }

    pub(super) fn put(&mut self, out: &mut BitWriter, value: f64) {
        let diff = value.to_bits() ^ self.value;
        self.value = value.to_bits();
        if diff == 0 {
            out.put(0, 1);
        } else {
            put_diff(out, diff, &mut self.window, XOR_PREFIXES);
        }
    }
}
