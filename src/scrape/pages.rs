//! Pages of one target, by whoever has them: what a scrape does once it has its answer.

use std::sync::Arc;

use crate::exposition::{HistogramOptions, MediaType};
use crate::model::{Labels, TimestampMs};
use crate::scrape::counters::ScrapeCounters;
use crate::scrape::error::ScrapeError;
use crate::scrape::ingest::{Ingest, Scraped};
use crate::scrape::manager::default_job;
use crate::scrape::settings::IngestSettings;
use crate::scrape::target::Target;
use crate::storage::Appendable;

/// Brings pages of one target into a database, with the default settings of a job.
#[derive(Debug)]
pub struct PageIngest {
    ingest: Ingest,
    target: Target,
    settings: IngestSettings,
}

impl PageIngest {
    /// Nothing was scraped yet; `labels` are those of the target.
    pub fn new(appendable: Arc<dyn Appendable>, labels: Labels) -> Self {
        let counters = Arc::<ScrapeCounters>::default();
        let job = default_job("pages", "pages");
        let hash = labels.prometheus_hash();
        Self {
            ingest: Ingest::new(appendable, counters, Arc::default()),
            target: Target {
                discovered: labels.clone(),
                labels,
                url: String::new(),
                interval_ms: job.request.interval_ms,
                timeout_ms: job.request.timeout_ms,
                histograms: HistogramOptions::default(),
                hash,
                identity: hash,
            },
            settings: job.ingest,
        }
    }

    /// Takes one page as scraped at `t`; how many samples were on it.
    pub fn take(
        &mut self,
        page: &[u8],
        media_type: MediaType,
        t: TimestampMs,
    ) -> Result<usize, ScrapeError> {
        let ingested = self.ingest.run(&Scraped {
            target: &self.target,
            settings: &self.settings,
            body: Ok((page, media_type)),
            t,
            now_ms: t,
            duration_seconds: 0.0,
        });
        match ingested.error {
            Some(error) => Err(error),
            None => Ok(ingested.n_scraped),
        }
    }
}
