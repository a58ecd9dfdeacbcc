//! `[compactor]`: what becomes of the bucket's blocks.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::compactor::{Deduplication, RetentionSettings};
use crate::config::appliance::keys::Keys;

/// `[compactor]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactorKeys {
    /// Anything is done at all.
    pub is_enabled: bool,
    /// How often the bucket is looked at.
    pub interval: Duration,
    /// Groups and blocks at once.
    pub concurrency: usize,
    /// Coarser resolutions are made.
    pub downsamples: bool,
    /// How long each resolution is kept.
    pub retention: RetentionSettings,
    /// Between mark and deletion.
    pub delete_delay: Duration,
    /// Before blocks of others are touched.
    pub consistency_delay: Duration,
    /// External labels in which replicas differ.
    pub replica_labels: BTreeSet<String>,
    /// How replicas become one.
    pub deduplication: Deduplication,
}

pub(super) fn read_compactor(keys: &mut Keys) -> CompactorKeys {
    let kept = |keys: &mut Keys, key: &str| {
        let kept = keys.duration_or_none(key)?;
        i64::try_from(kept.as_millis()).ok()
    };
    let retention = RetentionSettings {
        raw_ms: kept(keys, "compactor.retention_raw"),
        five_minutes_ms: kept(keys, "compactor.retention_five_minutes"),
        one_hour_ms: kept(keys, "compactor.retention_one_hour"),
    };
    let is_enabled = keys.flag("compactor.enabled");
    let downsamples = keys.flag("compactor.downsample");
    for (resolution, problem) in retention.flaws(downsamples && is_enabled) {
        keys.complain(&format!("compactor.retention_{resolution}"), &problem);
    }
    let labels = keys.text("compactor.replica_labels");
    let labels = labels
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let replica_labels: BTreeSet<String> = labels.map(str::to_owned).collect();
    let choices = [
        ("one-to-one", Deduplication::OneToOne),
        ("penalty", Deduplication::Penalty),
    ];
    let deduplication = keys
        .choice("compactor.deduplication", &choices)
        .unwrap_or_default();
    if deduplication == Deduplication::Penalty && replica_labels.is_empty() {
        let problem = "penalty is for replicas; name the labels in which they differ in compactor.replica_labels";
        keys.complain("compactor.deduplication", problem);
    }
    CompactorKeys {
        is_enabled,
        interval: keys.duration("compactor.interval"),
        concurrency: keys.count("compactor.concurrency"),
        downsamples,
        retention,
        delete_delay: keys
            .duration_or_none("compactor.delete_delay")
            .unwrap_or_default(),
        consistency_delay: keys
            .duration_or_none("compactor.consistency_delay")
            .unwrap_or_default(),
        replica_labels,
        deduplication,
    }
}
