//! Chance that can be repeated.

/// Numbers without a pattern, the same in every run (SplitMix64), behind those that it was told to give first.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
    /// What it gave, and behind that what it was told and has not given yet.
    numbers: Vec<u64>,
    n_given: usize,
}

impl Dice {
    /// The numbers of one of many rounds of a seed, so that a round can be repeated without those before it.
    pub(crate) fn new(seed: u64, round: u64) -> Self {
        Self::told(seed, round, Vec::new())
    }

    /// The same behind `numbers`.
    pub(crate) fn told(seed: u64, round: u64, numbers: Vec<u64>) -> Self {
        let mut dice = Self {
            state: seed ^ round.wrapping_mul(0xd6e8_feb8_6659_fd93),
            numbers,
            n_given: 0,
        };
        dice.fresh();
        dice
    }

    /// All that it gave: who is told these gives them again.
    pub(crate) fn into_given(mut self) -> Vec<u64> {
        self.numbers.truncate(self.n_given);
        self.numbers
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        if self.n_given == self.numbers.len() {
            let number = self.fresh();
            self.numbers.push(number);
        }
        self.n_given += 1;
        self.numbers[self.n_given - 1]
    }

    fn fresh(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap();
        usize::try_from(self.next() % n).unwrap()
    }

    /// A number from `min` to `max`, both inclusive.
    pub(crate) fn between(&mut self, min: i64, max: i64) -> i64 {
        let width = usize::try_from(max - min).unwrap();
        min + i64::try_from(self.below(width + 1)).unwrap()
    }

    /// One of `choices`.
    pub(crate) fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Some of `choices`, in a chance order, each at most once.
    pub(crate) fn some<'a>(&mut self, choices: &[&'a str], n_max: usize) -> Vec<&'a str> {
        let mut left = choices.to_vec();
        let n = self.below(n_max.min(left.len()) + 1);
        (0..n)
            .map(|_| {
                let position = self.below(left.len());
                left.swap_remove(position)
            })
            .collect()
    }
}
