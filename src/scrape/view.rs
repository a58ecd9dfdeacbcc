//! Targets as the API shows them.

use std::collections::BTreeMap;

use crate::model::{Labels, Metadata, TimestampMs};

/// Does it answer?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape was good.
    Up,
    /// The last scrape failed.
    Down,
}

impl Health {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// How the last scrape went.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TargetStatus {
    pub(super) health: Health,
    pub(super) last_error: Option<String>,
    pub(super) last_scrape_ms: Option<TimestampMs>,
    pub(super) last_duration_seconds: f64,
}

/// A target that is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetView {
    /// Name of its pool, which is its job's.
    pub scrape_pool: String,
    /// Before relabelling.
    pub discovered: Labels,
    /// The labels of its series.
    pub labels: Labels,
    /// Where it is fetched.
    pub scrape_url: String,
    /// Does it answer?
    pub health: Health,
    /// Why the last scrape failed; empty when it did not.
    pub last_error: String,
    /// When it was scraped last.
    pub last_scrape_ms: Option<TimestampMs>,
    /// How long that took.
    pub last_duration_seconds: f64,
    /// From one scrape to the next.
    pub interval_ms: i64,
    /// For one scrape.
    pub timeout_ms: i64,
}

/// An address that relabelling dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTarget {
    /// Name of the pool.
    pub scrape_pool: String,
    /// Before relabelling.
    pub discovered: Labels,
}

/// All targets at one time, pools in name order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TargetsView {
    /// Scraped ones.
    pub active: Vec<TargetView>,
    /// Dropped ones, as many as are kept.
    pub dropped: Vec<DroppedTarget>,
    /// How many each pool dropped, kept or not.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// What one target says about one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMetadata {
    /// The labels of the target.
    pub target: Labels,
    /// Name of the metric family.
    pub metric: String,
    /// Type, help and unit.
    pub metadata: Metadata,
}
