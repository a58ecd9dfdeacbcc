//! The bits that say at which steps of a series there is anything.
#![expect(
    clippy::indexing_slicing,
    reason = "rows have a value and a bit per step, and steps that are set lie within them"
)]

use std::ops::Range;

/// Bits of one word of a presence bitmap.
pub(crate) const WORD_BITS: usize = u64::BITS as usize;

/// Floats being written into an empty row in ascending order: bits of presence are written by the word.
#[derive(Debug)]
pub(crate) struct Floats<'a> {
    pub(super) values: &'a mut [f64],
    pub(super) present: &'a mut [u64],
    pub(super) word: usize,
    pub(super) bits: u64,
}

impl Floats<'_> {
    /// Gives step `i` a float.
    #[inline]
    pub(crate) fn set(&mut self, i: usize, v: f64) {
        if i / WORD_BITS != self.word {
            self.present[self.word] |= self.bits;
            self.word = i / WORD_BITS;
            self.bits = 0;
        }
        self.values[i] = v;
        self.bits |= 1 << (i % WORD_BITS);
    }
}

impl Drop for Floats<'_> {
    fn drop(&mut self) {
        if let Some(word) = self.present.get_mut(self.word) {
            *word |= self.bits;
        }
    }
}

/// Sets the bits at these positions.
pub(super) fn set_bits(words: &mut [u64], positions: Range<usize>) {
    if positions.is_empty() {
        return;
    }
    let (first, last) = (positions.start / WORD_BITS, (positions.end - 1) / WORD_BITS);
    let behind_start = u64::MAX << (positions.start % WORD_BITS);
    let before_end = u64::MAX >> (WORD_BITS - 1 - (positions.end - 1) % WORD_BITS);
    for (at, word) in words.iter_mut().enumerate().take(last + 1).skip(first) {
        let from = if at == first { behind_start } else { u64::MAX };
        let to = if at == last { before_end } else { u64::MAX };
        *word |= from & to;
    }
}

/// Positions of set bits.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(position, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest.checked_sub(1)?;
            Some(position * WORD_BITS + bit)
        })
    })
}

/// How many bits are set.
pub(crate) fn count_ones(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// Words for `n_steps` bits.
pub(crate) fn words_for(n_steps: usize) -> usize {
    n_steps.div_ceil(WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_from_the_first_to_the_last_position_and_no_others() {
        for start in 0..140 {
            for end in start..=140 {
                let mut words = [0; 3];
                set_bits(&mut words, start..end);
                assert!(ones(&words).eq(start..end), "{start}..{end}");
            }
        }
    }
}
