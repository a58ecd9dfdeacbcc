//! Which blocks have been kept long enough, by resolution. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::BlockMeta;
use crate::compactor::group::GroupKey;
use crate::downsample::{Coverage, FIVE_MINUTES_SPAN_MS_MIN, RAW_SPAN_MS_MIN};
use crate::model::duration::format_duration;
use crate::model::{BlockId, Resolution, TimestampMs};

/// How long each resolution is kept; `None` keeps it for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionSettings {
    /// Samples as scraped.
    pub raw_ms: Option<i64>,
    /// Aggregates of five minutes.
    pub five_minutes_ms: Option<i64>,
    /// Aggregates of an hour.
    pub one_hour_ms: Option<i64>,
}

impl RetentionSettings {
    /// How long blocks of `resolution` are kept.
    pub fn of(&self, resolution: Resolution) -> Option<i64> {
        match resolution {
            Resolution::Raw => self.raw_ms,
            Resolution::FiveMinutes => self.five_minutes_ms,
            Resolution::OneHour => self.one_hour_ms,
        }
    }

    /// What is wrong with these settings, key and sentence: data would go before anything coarser is made of it.
    pub fn flaws(&self, downsamples: bool) -> Vec<(&'static str, String)> {
        let mut flaws = Vec::new();
        if !downsamples {
            return flaws;
        }
        for (key, kept_ms, least_ms, next) in [
            ("raw", self.raw_ms, RAW_SPAN_MS_MIN, "five minutes"),
            (
                "five_minutes",
                self.five_minutes_ms,
                FIVE_MINUTES_SPAN_MS_MIN,
                "one hour",
            ),
        ] {
            if let Some(kept_ms) = kept_ms.filter(|kept_ms| *kept_ms < least_ms) {
                let (kept, least) = (format_duration(kept_ms), format_duration(least_ms));
                let text = format!(
                    "blocks go after {kept}, but only blocks of {least} are downsampled to {next}, so nothing would be left; \
                     keep them for {least} at least, or switch downsampling off if nothing coarser is wanted"
                );
                flaws.push((key, text));
            }
        }
        flaws
    }
}

/// What retention does now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPlan {
    /// To be marked for deletion, and why.
    pub retire: Vec<(BlockId, String)>,
    /// Kept beyond their time, because nothing coarser is there yet.
    pub held: Vec<BlockId>,
}

/// Which of `blocks` (whole, without deletion mark; `true`: may not be downsampled) end before their time.
///
/// While downsampling is on, a block goes only when all it was made of is in blocks of the next resolution too.
pub fn plan_retention<'a>(
    blocks: impl IntoIterator<Item = (&'a BlockMeta, bool)>,
    settings: &RetentionSettings,
    downsamples: bool,
    now_ms: TimestampMs,
) -> RetentionPlan {
    let blocks: Vec<_> = blocks.into_iter().collect();
    let mut by_producer: BTreeMap<GroupKey, Vec<&BlockMeta>> = BTreeMap::new();
    for (meta, _) in &blocks {
        by_producer.entry(producer_of(meta)).or_default().push(meta);
    }
    let coverage: BTreeMap<GroupKey, Coverage> = by_producer
        .into_iter()
        .map(|(producer, metas)| (producer, Coverage::of(metas)))
        .collect();
    let mut plan = RetentionPlan::default();
    for (meta, is_excluded) in blocks {
        let Some(resolution) = meta.resolution() else {
            continue;
        };
        let Some(kept_ms) = settings.of(resolution) else {
            continue;
        };
        if now_ms <= meta.max_time.saturating_add(kept_ms) {
            continue;
        }
        let coverage = coverage.get(&producer_of(meta));
        let is_covered = coverage.is_some_and(|coverage| coverage.covers(meta));
        if downsamples && !is_excluded && !is_covered {
            plan.held.push(meta.ulid);
            continue;
        }
        let details = format!("block exceeding retention of {}", format_duration(kept_ms));
        plan.retire.push((meta.ulid, details));
    }
    plan
}

/// Whose block it is, whatever its resolution: that of another producer is no substitute.
fn producer_of(meta: &BlockMeta) -> GroupKey {
    let mut key = GroupKey::of(meta, &BTreeSet::new());
    key.resolution_ms = 0;
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compactor::testing::{block, coarse, id, made_of};

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    fn settings(raw: i64, five_minutes: i64, one_hour: i64) -> RetentionSettings {
        let days = |n: i64| (n != 0).then_some(n * DAY_MS);
        RetentionSettings {
            raw_ms: days(raw),
            five_minutes_ms: days(five_minutes),
            one_hour_ms: days(one_hour),
        }
    }

    #[track_caller]
    fn check(blocks: &[BlockMeta], now_h: i64, retire: &[u64], held: &[u64]) {
        let settings = settings(10, 20, 30);
        let plan = plan_retention(
            blocks.iter().map(|meta| (meta, false)),
            &settings,
            true,
            now_h * HOUR_MS,
        );
        let retired: Vec<_> = plan.retire.iter().map(|(block, _)| *block).collect();
        let ids = |numbers: &[u64]| numbers.iter().map(|n| id(*n)).collect::<Vec<_>>();
        assert_eq!((retired, plan.held), (ids(retire), ids(held)));
    }

    #[test]
    fn a_block_goes_when_it_is_older_than_its_resolution_is_kept_and_the_next_is_there() {
        let blocks = [
            made_of(block(1, 0, 48), &[1, 2]),
            made_of(coarse(2, 0, 48, 300_000), &[1, 2]),
            made_of(coarse(3, 0, 48, 3_600_000), &[1, 2]),
        ];
        let days = |n: i64| 48 + n * 24;
        check(&blocks, days(10), &[], &[]);
        check(&blocks, days(10) + 1, &[1], &[]);
        check(&blocks, days(20) + 1, &[1, 2], &[]);
        check(&blocks, days(30) + 1, &[1, 2, 3], &[]);
    }

    #[test]
    fn a_block_is_held_until_all_of_it_is_in_the_next_resolution() {
        let raw = made_of(block(1, 0, 48), &[1, 2]);
        let now = 48 + 24 * 11;
        check(std::slice::from_ref(&raw), now, &[], &[1]);
        let part = made_of(coarse(2, 0, 24, 300_000), &[1]);
        check(&[raw.clone(), part.clone()], now, &[], &[1]);
        let other = made_of(coarse(3, 24, 48, 300_000), &[2]);
        check(&[raw.clone(), part.clone(), other.clone()], now, &[1], &[]);
        // That of another producer is no substitute.
        let mut foreign = other;
        foreign.thanos.as_mut().unwrap().labels.clear();
        check(&[raw, part, foreign], now, &[], &[1]);
    }

    #[test]
    fn without_downsampling_or_with_a_mark_against_it_nothing_is_waited_for() {
        let raw = block(1, 0, 48);
        for (is_excluded, downsamples) in [(true, true), (false, false)] {
            let plan = plan_retention(
                [(&raw, is_excluded)],
                &settings(10, 0, 0),
                downsamples,
                (48 + 24 * 11) * HOUR_MS,
            );
            assert_eq!(
                plan.retire,
                [(id(1), "block exceeding retention of 10d".to_owned())]
            );
        }
    }

    #[test]
    fn settings_that_would_lose_data_are_refused_with_the_reason() {
        assert_eq!(settings(0, 0, 0).flaws(true), []);
        assert_eq!(settings(2, 10, 1).flaws(true), []);
        assert_eq!(settings(1, 1, 1).flaws(false), []);
        let flaws = settings(1, 9, 0).flaws(true);
        let keys: Vec<_> = flaws.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["raw", "five_minutes"]);
        let text = &flaws.first().unwrap().1;
        assert!(
            text.starts_with("blocks go after 1d, but only blocks of 1d16h"),
            "{text}"
        );
    }

    #[test]
    fn a_resolution_that_does_not_exist_is_left_alone() {
        check(&[coarse(1, 0, 48, 7)], 10_000, &[], &[]);
    }
}
