//! The bits that say at which steps of a series there is anything.
#![expect(
    clippy::indexing_slicing,
    reason = "rows have a value and a bit per step, and steps that are set lie within them"
)]

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
