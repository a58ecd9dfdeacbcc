//! Shards of uneven shares, for tables that double when they are full.
//!
//! Shards that get equally much are full at the same number of entries: all of them double then, which leaves all of them
//! half empty, and whoever brings the next thousand series waits for all of it. Shares from one to nearly two, each larger
//! than the one before by the same factor, are full one after the other.

/// Bits of a hash that choose its shard.
const TOP_BITS: u32 = 10;

/// Says which shard a hash belongs to.
pub(crate) struct UnevenShards {
    /// By the top bits of the hash.
    shards: Box<[u8; 1 << TOP_BITS]>,
}

impl UnevenShards {
    /// So many shards, at most 255.
    pub(crate) fn new(n_shards: usize) -> Self {
        let n_shards = u8::try_from(n_shards).unwrap_or(u8::MAX).max(1);
        let n = f64::from(n_shards);
        let begins: Vec<f64> = (1..n_shards).map(|at| (f64::from(at) / n).exp2()).collect();
        let mut shards = Box::new([0; 1 << TOP_BITS]);
        let width = 1.0 / f64::from(1u32 << TOP_BITS);
        let mut x = 1.0;
        for shard in shards.iter_mut() {
            let at = begins.partition_point(|begin| *begin <= x);
            *shard = u8::try_from(at).unwrap_or_default();
            x += width;
        }
        Self { shards }
    }

    /// Below the number of shards.
    #[inline]
    pub(crate) fn of(&self, hash: u64) -> usize {
        let top = usize::try_from(hash >> (u64::BITS - TOP_BITS)).unwrap_or_default();
        self.shards.get(top).copied().map_or(0, usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_its_share_and_the_last_nearly_twice_that_of_the_first() {
        for n in [1u8, 2, 16, 64] {
            let shards = UnevenShards::new(usize::from(n));
            let mut shares = vec![0u32; usize::from(n)];
            for top in 0..1u64 << TOP_BITS {
                let shard = shards.of(top << (u64::BITS - TOP_BITS) | 12345);
                shares[shard] += 1;
            }
            let n = f64::from(n);
            for (at, share) in (0u8..).zip(&shares) {
                let at = f64::from(at);
                let expect = (((at + 1.0) / n).exp2() - (at / n).exp2()) * 1024.0;
                assert!(
                    (f64::from(*share) - expect).abs() <= 1.0,
                    "{at} of {n}: {share}, not {expect}"
                );
            }
        }
    }
}
