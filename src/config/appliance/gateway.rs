//! `[gateway]`: how the bucket is served, and which part of it.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::config::appliance::keys::Keys;
use crate::config::relabel::parse_relabel;
use crate::gateway::{Partition, QueryLimits, Selector, TimeBound};
use crate::model::duration::parse_duration_ms;

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayKeys {
    /// Bytes of pages in memory.
    pub memory_max: u64,
    /// Bytes of pages and index headers on the disk.
    pub disk_max: u64,
    /// A block that nobody has asked for so long is closed.
    pub idle_timeout: Duration,
    /// Range reads in flight.
    pub requests_max: usize,
    /// What one selector may take.
    pub limits: QueryLimits,
    /// Which blocks are served.
    pub partition: Partition,
    /// A block marked for deletion is served for so long.
    pub mark_delay: Duration,
}

pub(super) fn read_gateway(keys: &mut Keys) -> GatewayKeys {
    let delay = keys.duration_or_none("gateway.consistency_delay");
    let partition = Partition {
        min_time: read_time(keys, "gateway.min_time"),
        max_time: read_time(keys, "gateway.max_time"),
        selector: read_selector(keys),
        consistency_delay_ms: delay.map_or(0, millis),
    };
    if let (Some(TimeBound::At(min)), Some(TimeBound::At(max)))
    | (Some(TimeBound::FromNow(min)), Some(TimeBound::FromNow(max))) =
        (partition.min_time, partition.max_time)
        && max < min
    {
        keys.complain(
            "gateway.min_time",
            "expected a time before gateway.max_time",
        );
    }
    let mark_delay = keys.duration_or_none("gateway.ignore_deletion_marks_delay");
    GatewayKeys {
        memory_max: keys.size("gateway.memory"),
        disk_max: keys.size("gateway.disk"),
        idle_timeout: keys.duration("gateway.idle_timeout"),
        requests_max: keys.count("gateway.requests"),
        limits: QueryLimits {
            series_max: keys
                .count_or_none("gateway.series_max")
                .map(NonZeroU64::get),
            samples_max: keys
                .count_or_none("gateway.samples_max")
                .map(NonZeroU64::get),
            bytes_max: keys.size_or_none("gateway.bytes_max").map(NonZeroU64::get),
        },
        partition,
        mark_delay: mark_delay.unwrap_or_default(),
    }
}

/// RFC 3339, or a duration from now with a sign in front where it is in the past.
fn read_time(keys: &mut Keys, key: &str) -> Option<TimeBound> {
    let text = keys.text(key);
    if text.is_empty() {
        return None;
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(TimeBound::At(at.as_millisecond()));
    }
    let (is_past, length) = match text.strip_prefix('-') {
        Some(length) => (true, length),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    if let Ok(ms) = parse_duration_ms(length) {
        return Some(TimeBound::FromNow(if is_past { -ms } else { ms }));
    }
    let problem =
        "expected a time such as 2026-01-31T00:00:00Z, a duration from now such as -6w, or nothing";
    keys.complain(key, problem);
    None
}

fn read_selector(keys: &mut Keys) -> Selector {
    const KEY: &str = "gateway.selector";
    let text = keys.text(KEY);
    if text.trim().is_empty() {
        return Selector::default();
    }
    let rules = match parse_relabel(KEY, &text) {
        Ok(rules) => rules,
        Err(complaints) => {
            for complaint in complaints {
                keys.complain(KEY, &complaint.to_string());
            }
            return Selector::default();
        }
    };
    Selector::new(rules).unwrap_or_else(|action| {
        let problem = format!("expected the actions keep, drop and hashmod only, not {action}");
        keys.complain(KEY, &problem);
        Selector::default()
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
