//! What an input was made of: the numbers that the dice gave.

use std::fs;
use std::path::Path;

use crate::dice::Dice;

const NUMBER_BYTES: usize = size_of::<u64>();

/// Gives one input, always the same. Behind its last number the dice goes on as in a round of a seed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choices {
    pub(crate) seed: u64,
    pub(crate) round: u64,
    pub(crate) numbers: Vec<u64>,
}

impl Choices {
    pub(crate) fn dice(&self) -> Dice {
        Dice::told(self.seed, self.round, self.numbers.clone())
    }

    /// How many numbers there are, seed, round, and the numbers.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = [self.numbers.len() as u64, self.seed, self.round];
        let all = head.iter().chain(&self.numbers);
        all.flat_map(|number| number.to_le_bytes()).collect()
    }

    /// The choices that lie behind each other in a file. Whoever wrote them may have been killed at the last.
    pub(crate) fn decode_all(bytes: &[u8]) -> Vec<Self> {
        let whole = bytes.chunks_exact(NUMBER_BYTES);
        let mut left = whole.map(|number| u64::from_le_bytes(number.try_into().unwrap()));
        let mut all = Vec::new();
        while let (Some(n), Some(seed), Some(round)) = (left.next(), left.next(), left.next()) {
            let Some(n) = usize::try_from(n).ok().filter(|n| *n <= left.len()) else {
                break;
            };
            all.push(Self {
                seed,
                round,
                numbers: left.by_ref().take(n).collect(),
            });
        }
        all
    }

    pub(crate) fn read_one(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut all = Self::decode_all(&bytes);
        assert!(!all.is_empty(), "{}: no choices", path.display());
        all.swap_remove(0)
    }
}

/// One change or several of a sequence of numbers; `other` gives numbers and tails.
pub(crate) fn changed(dice: &mut Dice, numbers: &[u64], other: &[u64]) -> Vec<u64> {
    let mut numbers = numbers.to_vec();
    // Long sequences need many changes at times.
    let one_more = [50, 50, 80, 95][dice.below(4)];
    loop {
        if numbers.is_empty() {
            numbers.push(dice.next());
        }
        let at = dice.below(numbers.len());
        let end = (at + 1 + dice.below(4)).min(numbers.len());
        match dice.below(10) {
            0 => numbers[at] = dice.next(),
            1 | 2 => numbers[at] ^= 1 << dice.below(64),
            3 => {
                // Of one thing that the number says, as a rule.
                let mask = 0xff << (8 * dice.below(8));
                numbers[at] ^= dice.next() & mask;
            }
            4 => {
                let near = dice.next() % 17;
                numbers[at] = numbers[at].wrapping_add(near).wrapping_sub(8);
            }
            5 => numbers.insert(at, dice.next()),
            6 => {
                let piece = numbers[at..end].to_vec();
                let to = dice.below(numbers.len() + 1);
                numbers.splice(to..to, piece);
            }
            7 => {
                numbers.drain(at..end);
            }
            8 => {
                let from = dice.below(other.len());
                let to = (from + 1 + dice.below(4)).min(other.len());
                numbers.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                // Numbers at one place mostly say the same kind of thing.
                numbers.truncate(at);
                numbers.extend(other.iter().skip(at));
            }
        }
        if !dice.chance(one_more) {
            return numbers;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Choices, changed};
    use crate::dice::Dice;
    use crate::mutate::broken;

    fn choices(numbers: &[u64]) -> Choices {
        Choices {
            seed: 3,
            round: 14,
            numbers: numbers.to_vec(),
        }
    }

    #[test]
    fn what_a_dice_gave_makes_the_same_input_again() {
        let seed = [7; 300];
        for round in 0..200 {
            let mut dice = Dice::told(1, round, vec![9, 8, 7]);
            let input = (dice.below(5), broken(&mut dice, &seed, &seed), dice.next());
            let given = dice.into_given();
            assert_eq!(given[0], 9, "told first");
            let mut again = choices(&given).dice();
            let repeated = (
                again.below(5),
                broken(&mut again, &seed, &seed),
                again.next(),
            );
            assert_eq!(repeated, input);
            assert_eq!(again.into_given(), given);
        }
    }

    #[test]
    fn a_dice_forgets_what_it_was_told_and_nobody_asked_for() {
        let mut dice = Dice::told(1, 2, vec![9, 8, 7]);
        assert_eq!([dice.next(), dice.next()], [9, 8]);
        assert_eq!(dice.into_given(), [9, 8]);
    }

    #[test]
    fn behind_its_last_number_the_dice_goes_on_as_the_round_of_the_seed() {
        let mut fresh = Dice::new(3, 14);
        let mut told = choices(&[5]).dice();
        assert_eq!(told.next(), 5);
        assert_eq!([told.next(), told.next()], [fresh.next(), fresh.next()]);
    }

    #[test]
    fn choices_are_read_as_written_up_to_where_a_writer_was_killed() {
        let all = [choices(&[1, u64::MAX]), choices(&[]), choices(&[5, 6, 7])];
        let bytes = all.iter().flat_map(Choices::encode).collect::<Vec<u8>>();
        assert_eq!(Choices::decode_all(&bytes), all);
        for cut in 1..=6 * 8 {
            let left = Choices::decode_all(&bytes[..bytes.len() - cut]);
            assert_eq!(left, all[..2], "{cut} bytes less");
        }
    }

    #[test]
    fn a_sequence_changes_the_same_way_twice_and_in_all_ways_there_are() {
        let (numbers, other) = ([10, 20, 30, 40], [1, 2, 3, 4, 5, 6, 7, 8]);
        let change = |round| changed(&mut Dice::new(1, round), &numbers, &other);
        let all: Vec<Vec<u64>> = (0..20_000).map(change).collect();
        let twice: Vec<Vec<u64>> = (0..20_000).map(change).collect();
        assert_eq!(all, twice);
        let ways = [
            ("a bit", vec![10, 20, 30 ^ 1 << 40, 40]),
            ("a little more", vec![10, 20, 33, 40]),
            ("dropped", vec![10, 40]),
            ("twice", vec![10, 20, 30, 20, 30, 40]),
            ("a piece of another", vec![10, 4, 5, 6, 20, 30, 40]),
            ("the tail of another", vec![10, 20, 3, 4, 5, 6, 7, 8]),
        ];
        for (way, expected) in ways {
            assert!(all.contains(&expected), "{way}");
        }
        let is_put_in = |one: &Vec<u64>| one.len() == 5 && one[2..] == [20, 30, 40];
        assert!(all.iter().any(is_put_in), "put in");
        let n_same = all.iter().filter(|one| **one == numbers).count();
        assert!(n_same < 1_000, "{n_same} of 20000 did not change");
    }
}
