//! XOR chunks into columns: the hottest loop of every query.
//!
//! The only state is a bit position: every sample loads the 64 bits from there anew, which are at least 57 good ones, so
//! the loop has no buffer to keep and no exits for damage. Reading past the end gives zeros; whether that happened is
//! asked once, at the end.

use crate::model::TimestampMs;

/// The bytes of a chunk of at least eight bytes.
pub(super) struct Words<'a> {
    data: &'a [u8],
    /// The last eight bytes.
    last: u64,
}

impl<'a> Words<'a> {
    pub(super) fn new(data: &'a [u8]) -> Option<Self> {
        let last = u64::from_be_bytes(*data.last_chunk::<8>()?);
        Some(Self { data, last })
    }

    /// The bits from `position` on, at the top; zeros behind the end.
    #[inline(always)]
    fn at(&self, position: usize) -> u64 {
        let byte = position >> 3;
        let bit = position & 7;
        match self
            .data
            .get(byte..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            Some(word) => u64::from_be_bytes(*word) << bit,
            None => self.at_end(byte, bit),
        }
    }

    #[inline(always)]
    fn at_end(&self, byte: usize, bit: usize) -> u64 {
        let n_bits = byte
            .wrapping_add(8)
            .wrapping_sub(self.data.len())
            .wrapping_mul(8);
        // Far behind the end the shift exceeds any width and leaves zero.
        let shift = u32::try_from(n_bits.wrapping_add(bit)).unwrap_or(u32::MAX);
        self.last.unbounded_shl(shift)
    }

    /// `n` bits from `position`, 1 to 64.
    #[inline(always)]
    fn bits(&self, position: usize, n: u32) -> u64 {
        let word = self.at(position);
        if n <= 57 {
            return word >> (64u32.wrapping_sub(n) & 63);
        }
        let low = self.at(position.wrapping_add(32)) >> 32;
        ((word >> 32) << 32 | low) >> (64u32.wrapping_sub(n) & 63)
    }
}

/// Where the loop stands between two samples.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) position: usize,
    pub(super) t: TimestampMs,
    pub(super) delta: i64,
    pub(super) v_bits: u64,
    pub(super) leading: u32,
    pub(super) significant: u32,
}

/// The delta-of-delta in the top `N` bits of `word`: the smallest value stands for its negation.
#[inline(always)]
fn dod<const N: u32>(word: u64) -> i64 {
    let raw = word >> (64 - N);
    let borrow = if 1 << (N - 1) < raw { 1 << N } else { 0 };
    raw.wrapping_sub(borrow).cast_signed()
}

/// Decodes a sample (not one of the first two) into every pair of slots. False when the bytes ended too early or a
/// window made no sense: then the slots hold nothing to be believed.
pub(super) fn fill(
    words: &Words<'_>,
    stand: &mut State,
    slots_t: &mut [TimestampMs],
    slots_v: &mut [f64],
) -> bool {
    let mut is_sane = true;
    let mut state = *stand;
    for (slot_t, slot_v) in slots_t.iter_mut().zip(slots_v) {
        let mut word = words.at(state.position);
        // A branch for each class, although a table would do: a class that is guessed right makes the next position
        // known before this word has come.
        let n_bits = if word >> 63 == 0 {
            1
        } else if word >> 62 == 0b10 {
            state.delta = state.delta.wrapping_add(dod::<14>(word << 2));
            16
        } else if word >> 61 == 0b110 {
            state.delta = state.delta.wrapping_add(dod::<17>(word << 3));
            20
        } else if word >> 60 == 0b1110 {
            state.delta = state.delta.wrapping_add(dod::<20>(word << 4));
            24
        } else {
            let dod = words.bits(state.position.wrapping_add(4), 64);
            state.delta = state.delta.wrapping_add(dod.cast_signed());
            state.position = state.position.wrapping_add(68);
            word = words.at(state.position);
            0
        };
        word <<= n_bits;
        state.position = state.position.wrapping_add(n_bits);
        state.t = state.t.wrapping_add(state.delta);
        // At most 24 of the 57 good bits are gone; the longest header takes 13.
        if word >> 63 == 0 {
            state.position = state.position.wrapping_add(1);
        } else {
            let n_header_bits = if word >> 62 == 0b11 {
                state.leading = (word >> 57) as u32 & 0x1f;
                state.significant = (((word >> 51) as u32).wrapping_sub(1) & 0x3f).wrapping_add(1);
                is_sane &= state.leading.wrapping_add(state.significant) <= 64;
                13
            } else {
                2
            };
            state.position = state.position.wrapping_add(n_header_bits);
            // Nearly always they are among the good bits that are here already.
            let n_used = n_header_bits.wrapping_add(state.significant as usize);
            let diff = if n_used.wrapping_add(n_bits) <= 57 {
                (word << n_header_bits) >> (64u32.wrapping_sub(state.significant) & 63)
            } else {
                words.bits(state.position, state.significant)
            };
            let trailing = 64u32
                .wrapping_sub(state.leading)
                .wrapping_sub(state.significant);
            state.v_bits ^= diff << (trailing & 63);
            state.position = state.position.wrapping_add(state.significant as usize);
        }
        *slot_t = state.t;
        *slot_v = f64::from_bits(state.v_bits);
    }
    *stand = state;
    is_sane && state.position <= words.data.len().wrapping_mul(8)
}
