//! Which blocks belong to one producer at one resolution. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use xxhash_rust::xxh64::Xxh64;

use crate::block::BlockMeta;
use crate::model::duration::format_duration;

/// Blocks with the same key may become one: the same external labels but for those of replicas, the same resolution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Milliseconds between samples; zero as scraped.
    pub resolution_ms: i64,
    /// External labels without those of replicas.
    pub labels: BTreeMap<String, String>,
}

impl GroupKey {
    /// The group of a block.
    pub fn of(meta: &BlockMeta, replica_labels: &BTreeSet<String>) -> Self {
        let Some(thanos) = &meta.thanos else {
            return Self {
                resolution_ms: 0,
                labels: BTreeMap::new(),
            };
        };
        let labels = thanos.labels.iter();
        let kept = labels.filter(|(name, _)| !replica_labels.contains(*name));
        Self {
            resolution_ms: thanos.downsample.resolution,
            labels: kept
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

/// As Thanos writes it in logs and metrics: `<resolution>@<hash of the labels>`.
impl GroupKey {
    /// The labels, and the resolution where it is not that of the samples, as people read them.
    pub(crate) fn write_labels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (n, (name, value)) in self.labels.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")?;
        if self.resolution_ms != 0 {
            write!(f, " at {}", format_duration(self.resolution_ms))?;
        }
        Ok(())
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hash = Xxh64::new(0);
        for (name, value) in &self.labels {
            hash.update(name.as_bytes());
            hash.update(&[0xff]);
            hash.update(value.as_bytes());
            hash.update(&[0xff]);
        }
        write!(f, "{}@{}", self.resolution_ms, hash.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compactor::testing::block;

    #[track_caller]
    fn check(resolution_ms: i64, labels: &[(&str, &str)], expect: &str) {
        let labels = labels.iter();
        let key = GroupKey {
            resolution_ms,
            labels: labels
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        assert_eq!(key.to_string(), expect);
    }

    #[test]
    fn keys_are_the_ones_thanos_computes() {
        check(0, &[], "0@17241709254077376921");
        let labels = [("foo", "bar"), ("foo1", "bar2")];
        check(0, &labels, "0@2124638872457683483");
        check(300_000, &labels, "300000@2124638872457683483");
        let value = "a_b_c/bar-something-a\\metric/a\\x";
        let labels = [("foo/some..thing/some.thing/../", value)];
        check(0, &labels, "0@16590761456214576373");
    }

    #[test]
    fn replicas_share_a_group_and_resolutions_do_not() {
        let replica_labels = BTreeSet::from(["replica".to_owned()]);
        let mut left = block(1, 0, 2);
        let mut right = block(2, 0, 2);
        for (meta, replica) in [(&mut left, "a"), (&mut right, "b")] {
            let labels = &mut meta.thanos.as_mut().unwrap().labels;
            labels.insert("replica".to_owned(), replica.to_owned());
        }
        let key = |meta: &BlockMeta| GroupKey::of(meta, &replica_labels);
        assert_eq!(key(&left), key(&right));
        assert_ne!(
            GroupKey::of(&left, &BTreeSet::new()),
            GroupKey::of(&right, &BTreeSet::new())
        );
        right.thanos.as_mut().unwrap().downsample.resolution = 300_000;
        assert_ne!(key(&left), key(&right));
    }
}
