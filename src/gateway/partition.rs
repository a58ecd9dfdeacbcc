//! Which part of the bucket this gateway serves: times, and a shard of the producers. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::block::{BlockMeta, ThanosMeta};
use crate::gateway::plan::ExcludeReason;
use crate::inventory::KnownBlock;
use crate::model::{BlockId, LabelsBuilder, TimestampMs};
use crate::relabel::{RelabelAction, RelabelRule, apply};

/// The label by which rules see a block's name.
const BLOCK_ID_LABEL: &str = "__block_id";

/// Makers of blocks that hold nothing new: they are whole when they appear.
const SETTLED_SOURCES: [&str; 3] = ["bucket.repair", "compactor", "compactor.repair"];

/// A point in time, fixed or so far from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeBound {
    /// Milliseconds since the epoch.
    At(TimestampMs),
    /// Milliseconds from now; in the past below zero.
    FromNow(i64),
}

impl TimeBound {
    /// When that is.
    pub fn resolve(self, now_ms: TimestampMs) -> TimestampMs {
        match self {
            Self::At(at_ms) => at_ms,
            Self::FromNow(ms) => now_ms.saturating_add(ms),
        }
    }
}

/// Rules over external labels and `__block_id` that keep a block or drop it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<RelabelRule>);

impl Selector {
    /// Takes `keep`, `drop` and `hashmod`; the error names the first other action.
    pub fn new(rules: Vec<RelabelRule>) -> Result<Self, RelabelAction> {
        let allowed = [
            RelabelAction::Keep,
            RelabelAction::Drop,
            RelabelAction::HashMod,
        ];
        let mut actions = rules.iter().map(|rule| rule.settings().action);
        match actions.find(|action| !allowed.contains(&action.unwrap_or_default())) {
            Some(other) => Err(other.unwrap_or_default()),
            None => Ok(Self(rules)),
        }
    }

    fn keeps(&self, meta: &BlockMeta) -> bool {
        let mut labels = LabelsBuilder::new();
        for (name, value) in meta.thanos.iter().flat_map(|thanos| &thanos.labels) {
            labels.set(name, value);
        }
        labels.set(BLOCK_ID_LABEL, &meta.ulid.to_string());
        self.0.is_empty() || apply(&self.0, &mut labels)
    }
}

/// What is served of all that is in the bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// Blocks that end before are left to others.
    pub min_time: Option<TimeBound>,
    /// Blocks that begin after are left to others.
    pub max_time: Option<TimeBound>,
    /// Which producers' blocks.
    pub selector: Selector,
    /// A block is served only when it is so old, unless it holds nothing new.
    pub consistency_delay_ms: i64,
}

impl Partition {
    /// Why a block is not served here.
    fn excludes(&self, meta: &BlockMeta, now_ms: TimestampMs) -> Option<ExcludeReason> {
        let min = self.min_time.map(|bound| bound.resolve(now_ms));
        let max = self.max_time.map(|bound| bound.resolve(now_ms));
        let is_before = min.is_some_and(|min| meta.max_time < min);
        let is_after = max.is_some_and(|max| max < meta.min_time);
        if is_before || is_after {
            return Some(ExcludeReason::OutsideOfTime);
        }
        if !self.selector.keeps(meta) {
            return Some(ExcludeReason::OtherShard);
        }
        if 0 < self.consistency_delay_ms
            && !is_settled(meta)
            && now_ms < uploaded_ms(meta).saturating_add(self.consistency_delay_ms)
        {
            return Some(ExcludeReason::TooFresh);
        }
        None
    }

    /// The blocks that are not served here, and why.
    pub(crate) fn excluded(
        &self,
        blocks: &[KnownBlock],
        now_ms: TimestampMs,
    ) -> BTreeMap<BlockId, ExcludeReason> {
        if *self == Self::default() {
            return BTreeMap::new();
        }
        let reason = |known: &KnownBlock| {
            let reason = self.excludes(&known.meta, now_ms)?;
            Some((known.meta.ulid, reason))
        };
        blocks.iter().filter_map(reason).collect()
    }
}

fn is_settled(meta: &BlockMeta) -> bool {
    let source = meta.thanos.as_ref().map(|thanos| thanos.source.as_str());
    source.is_some_and(|source| SETTLED_SOURCES.contains(&source))
}

/// When its upload ended, as far as it says; else when its name was made.
fn uploaded_ms(meta: &BlockMeta) -> TimestampMs {
    let said = |thanos: &ThanosMeta| {
        let Value::String(text) = thanos.other.get("upload_time")? else {
            return None;
        };
        let at: jiff::Timestamp = text.parse().ok()?;
        // Go's zero time is how nothing is written.
        Some(at.as_millisecond()).filter(|at_ms| 0 < *at_ms)
    };
    let created_ms = || i64::try_from(meta.ulid.created_ms()).unwrap_or(i64::MAX);
    meta.thanos
        .as_ref()
        .and_then(said)
        .unwrap_or_else(created_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::RelabelSettings;

    const NOW_MS: i64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn known(n: u128, thanos: &Value) -> KnownBlock {
        let json = serde_json::json!({
            "version": 1, "ulid": BlockId::from_parts(NOW_MS.cast_unsigned(), n),
            "minTime": NOW_MS - 4 * HOUR_MS, "maxTime": NOW_MS - 2 * HOUR_MS, "thanos": thanos,
        });
        KnownBlock::new(BlockMeta::decode(json.to_string().as_bytes()).unwrap())
    }

    fn rule(action: &str, sources: &[&str], regex: &str) -> RelabelSettings {
        RelabelSettings {
            source_labels: Some(sources.iter().map(|name| (*name).to_owned()).collect()),
            regex: Some(regex.to_owned()),
            action: Some(action.parse().unwrap()),
            ..RelabelSettings::default()
        }
    }

    fn selector(rules: Vec<RelabelSettings>) -> Result<Selector, RelabelAction> {
        let rules = rules.into_iter().map(RelabelRule::new);
        Selector::new(rules.collect::<Result<_, _>>().unwrap())
    }

    #[track_caller]
    fn check(partition: &Partition, block: &KnownBlock, expect: Option<ExcludeReason>) {
        assert_eq!(partition.excludes(&block.meta, NOW_MS), expect);
    }

    #[test]
    fn times_bound_what_is_served_also_relative_ones() {
        let block = known(1, &serde_json::json!({}));
        let at = |hours: i64| Some(TimeBound::At(NOW_MS - hours * HOUR_MS));
        let ago = |hours: i64| Some(TimeBound::FromNow(-hours * HOUR_MS));
        let outside = Some(ExcludeReason::OutsideOfTime);
        for (min_time, max_time, expect) in [
            (None, None, None),
            (at(3), None, None),
            (at(2), None, None),
            (at(1), None, outside),
            (ago(2), None, None),
            (ago(1), None, outside),
            (None, at(4), None),
            (None, at(5), outside),
            (None, ago(3), None),
            (None, ago(5), outside),
        ] {
            let partition = Partition {
                min_time,
                max_time,
                ..Partition::default()
            };
            check(&partition, &block, expect);
        }
    }

    #[test]
    fn rules_see_external_labels_and_the_name_of_the_block() {
        let block = known(
            1,
            &serde_json::json!({"labels": {"cluster": "a", "replica": "0"}}),
        );
        let other = Some(ExcludeReason::OtherShard);
        let name = block.meta.ulid.to_string();
        for (rules, expect) in [
            (vec![rule("keep", &["cluster"], "a|b")], None),
            (vec![rule("keep", &["cluster"], "b")], other),
            (vec![rule("drop", &["cluster", "replica"], "a;0")], other),
            (vec![rule("keep", &["__block_id"], &name)], None),
            (vec![rule("drop", &["__block_id"], &name)], other),
            (vec![rule("keep", &["nothing"], ".+")], other),
        ] {
            let partition = Partition {
                selector: selector(rules).unwrap(),
                ..Partition::default()
            };
            check(&partition, &block, expect);
        }
    }

    #[test]
    fn rules_that_rewrite_labels_are_refused() {
        for action in ["replace", "labelmap", "labeldrop", "labelkeep", "lowercase"] {
            let mut settings = RelabelSettings {
                regex: Some("(.*)".to_owned()),
                action: Some(action.parse().unwrap()),
                ..RelabelSettings::default()
            };
            if ["replace", "lowercase"].contains(&action) {
                settings.target_label = Some("x".to_owned());
            }
            assert_eq!(selector(vec![settings]).unwrap_err().as_str(), action);
        }
        let unnamed = RelabelSettings {
            target_label: Some("x".to_owned()),
            ..RelabelSettings::default()
        };
        assert_eq!(selector(vec![unnamed]), Err(RelabelAction::Replace));
    }

    #[test]
    fn shards_by_hash_have_every_block_once() {
        let blocks: Vec<_> = (0..200).map(|n| known(n, &serde_json::json!({}))).collect();
        let mut n_served = 0;
        for shard in 0..3 {
            let mut hash = rule("hashmod", &["__block_id"], "(.*)");
            hash.modulus = Some(3);
            hash.target_label = Some("shard".to_owned());
            let keep = rule("keep", &["shard"], &shard.to_string());
            let partition = Partition {
                selector: selector(vec![hash, keep]).unwrap(),
                ..Partition::default()
            };
            let n = blocks.len() - partition.excluded(&blocks, NOW_MS).len();
            assert!((40..100).contains(&n), "{n}");
            n_served += n;
        }
        assert_eq!(n_served, blocks.len());
    }

    #[test]
    fn a_young_block_waits_unless_it_holds_nothing_new() {
        let partition = Partition {
            consistency_delay_ms: HOUR_MS,
            ..Partition::default()
        };
        let fresh = Some(ExcludeReason::TooFresh);
        check(
            &partition,
            &known(1, &serde_json::json!({"source": "sidecar"})),
            fresh,
        );
        for source in SETTLED_SOURCES {
            check(
                &partition,
                &known(1, &serde_json::json!({"source": source})),
                None,
            );
        }
        // 1,700,000,000 is 22:13:20.
        for (upload_time, expect) in [
            ("2023-11-14T21:13:20Z", None),
            ("2023-11-14T21:13:21Z", fresh),
            ("2023-11-14T22:13:20+01:00", None),
            ("0001-01-01T00:00:00Z", fresh),
            ("yesterday", fresh),
        ] {
            let thanos = serde_json::json!({"source": "sidecar", "upload_time": upload_time});
            check(&partition, &known(1, &thanos), expect);
        }
    }
}
