//! How the bucket is served.

use std::path::PathBuf;
use std::time::Duration;

use crate::gateway::limits::QueryLimits;
use crate::gateway::partition::Partition;
use crate::model::ExternalLabels;

/// How the bucket is served.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Labels of this appliance: blocks that carry exactly these are its own.
    pub external: ExternalLabels,
    /// A block marked for deletion is served for so long; less than the time after which it is deleted.
    pub mark_delay_ms: i64,
    /// Metas and marks read at once.
    pub fetch_concurrency: usize,
    /// Where index headers and pages of remote blocks are kept.
    pub cache_directory: PathBuf,
    /// How many bytes of index headers and pages.
    pub cache_bytes_max: u64,
    /// How many bytes of pages in memory.
    pub memory_bytes_max: u64,
    /// Range reads in flight, of all queries together.
    pub requests_max: usize,
    /// A block that nobody has asked for so long is closed.
    pub idle_timeout: Duration,
    /// What one selector may take.
    pub limits: QueryLimits,
    /// Which blocks.
    pub partition: Partition,
    /// Requests an hour that listing the whole bucket may take.
    pub list_requests_per_hour_max: u32,
}

impl GatewaySettings {
    /// Everything in the bucket, within the bounds that `appliance.toml` ships with.
    pub fn new(external: ExternalLabels, cache_directory: PathBuf) -> Self {
        Self {
            external,
            mark_delay_ms: 24 * 3_600_000,
            fetch_concurrency: 32,
            cache_directory,
            cache_bytes_max: 10 << 30,
            memory_bytes_max: 128 << 20,
            requests_max: 32,
            idle_timeout: Duration::from_mins(5),
            limits: QueryLimits::default(),
            partition: Partition::default(),
            list_requests_per_hour_max: 80,
        }
    }
}
