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

/// One to three changes of any kind; `other` gives pieces.
pub(crate) fn broken(dice: &mut Dice, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = dice.below(bytes.len());
        let end = (at + dice.below(24)).min(bytes.len());
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = dice.next().to_le_bytes()[0],
            3 => {
                bytes.drain(at..end);
            }
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                bytes.splice(at..end, NUMBERS[dice.below(NUMBERS.len())].iter().copied());
            }
            6 => {
                let from = dice.below(other.len());
                let to = (from + dice.below(48)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes
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
