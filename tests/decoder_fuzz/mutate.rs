//! Good bytes, broken at random.

use crate::dice::Dice;

/// Numbers that lengths and counts break on.
pub(crate) const NUMBERS: [&[u8]; 9] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0x00],
    &[0x7f],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff],
];

/// One change of any kind or several, as often one more as not; `other` gives pieces.
///
/// Each is all in one number, so that whoever changes a sequence of numbers puts in, drops or moves a whole change, or
/// turns one thing about it.
pub(crate) fn broken(dice: &mut Dice, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    loop {
        let change = Change::new(dice.next());
        change.make(&mut bytes, other);
        if change.is_last {
            return bytes;
        }
    }
}

/// What one number says.
#[derive(Debug)]
struct Change {
    /// Where it is as a share of the length, so that it stays there when the length changes a little.
    at: u64,
    n_bytes: usize,
    kind: u64,
    is_last: bool,
    /// The bit, byte or number that is put in, or the share of the other bytes that a piece begins at.
    what: u64,
    n_other_bytes: usize,
}

/// Bits of a number that are a share.
const AT_BITS: u32 = 24;
const WHAT_BITS: u32 = 20;

fn share(of: usize, part: u64, n_bits: u32) -> usize {
    usize::try_from((of as u64 * part) >> n_bits).unwrap()
}

impl Change {
    fn new(mut number: u64) -> Self {
        let mut next = |n_bits: u32| {
            let low = number & ((1 << n_bits) - 1);
            number >>= n_bits;
            low
        };
        Self {
            kind: next(3),
            is_last: next(1) == 0,
            n_bytes: usize::try_from(next(8) % 24).unwrap(),
            n_other_bytes: usize::try_from(next(8) % 48).unwrap(),
            what: next(WHAT_BITS),
            at: next(AT_BITS),
        }
    }

    fn make(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = share(bytes.len(), self.at, AT_BITS);
        let end = (at + self.n_bytes).min(bytes.len());
        match self.kind {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (self.what % 8),
            2 => bytes[at] = self.what.to_le_bytes()[0],
            3 => {
                bytes.drain(at..end);
            }
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let number = NUMBERS[share(NUMBERS.len(), self.what, WHAT_BITS)];
                bytes.splice(at..end, number.iter().copied());
            }
            6 => {
                let from = share(other.len(), self.what, WHAT_BITS);
                let to = (from + self.n_other_bytes).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
}

/// The same for a stream of bits: some are taken out or put in behind byte `from`, so that all that follow move.
pub(crate) fn shifted(dice: &mut Dice, seed: &[u8], from: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = seed
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte & (0x80 >> bit) != 0))
        .collect();
    let first = (from * 8).min(bits.len());
    let at = first + dice.below(bits.len() - first);
    let end = (at + 1 + dice.below(16)).min(bits.len());
    match dice.below(3) {
        0 => {
            bits.drain(at.min(end)..end);
        }
        1 => {
            let (n, is_set) = (1 + dice.below(70), dice.chance(60));
            bits.splice(at.min(end)..at.min(end), (0..n).map(|_| is_set));
        }
        _ => {
            let n = 1 + dice.below(16);
            let new: Vec<bool> = (0..n).map(|_| dice.chance(50)).collect();
            bits.splice(at.min(end)..end, new);
        }
    }
    bits.chunks(8)
        .map(|bits| {
            let byte = bits
                .iter()
                .fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
            byte << (8 - bits.len())
        })
        .collect()
}

/// An integer of the kind that breaks things: small, near a power of two, or any.
pub(crate) fn odd_number(dice: &mut Dice) -> u64 {
    match dice.below(4) {
        0 => dice.next() % 16,
        1 => (1u64 << dice.below(64)).wrapping_add(dice.next() % 3),
        2 => (1u64 << dice.below(64)).wrapping_sub(1 + dice.next() % 3),
        _ => dice.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, broken};
    use crate::dice::Dice;

    #[test]
    fn a_number_is_a_change_and_half_of_them_are_the_last() {
        let n_given = |round| {
            let mut dice = Dice::new(1, round);
            broken(&mut dice, &[7; 100], &[8; 100]);
            dice.into_given().len()
        };
        let n_changes: usize = (0..10_000).map(n_given).sum();
        assert!((19_000..21_000).contains(&n_changes), "{n_changes}");
    }

    #[test]
    fn a_change_stays_where_it_is_when_the_length_changes_a_little() {
        let byte = 2;
        for number in (0..2_000).map(|round| Dice::new(1, round).next()) {
            let mut change = Change::new(number);
            (change.kind, change.what) = (byte, 9);
            let place = |len: usize| {
                let mut bytes = vec![7; len];
                change.make(&mut bytes, &[]);
                bytes.iter().position(|byte| *byte == 9).unwrap()
            };
            let (short, long) = (place(1_000), place(1_003));
            assert!((short..=short + 3).contains(&long), "{short} {long}");
        }
    }
}
