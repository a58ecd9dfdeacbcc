//! All pools: what the scrape-sidecar actor holds.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::exposition::{DEFAULT_SCRAPE_PROTOCOLS, Escaping};
use crate::foundation::Clock;
use crate::model::{ExternalLabels, Labels};
use crate::scrape::counters::ScrapeCounters;
use crate::scrape::looping::Context;
use crate::scrape::pool::{ScrapePool, Tasks};
use crate::scrape::settings::{
    DiscoverySettings, HistogramSettings, Honor, HttpSettings, IngestSettings, JobSettings, Limits,
    RequestSettings, Settings, StartTimes, TargetGroup,
};
use crate::scrape::view::{TargetMetadata, TargetsView};
use crate::storage::Appendable;

/// Where a node exporter listens unless told otherwise.
const NODE_EXPORTER: &str = "localhost:9100";

/// Starts, changes and stops scraping.
#[derive(Debug)]
pub struct ScrapeManager {
    context: Arc<Context>,
    tasks: Tasks,
    pools: Mutex<BTreeMap<String, Arc<ScrapePool>>>,
}

/// Some loops had to be left alone at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{n_tasks} scrape tasks were still at work at the deadline")]
pub struct StopTimedOut {
    /// How many.
    pub n_tasks: usize,
}

impl ScrapeManager {
    /// Scrapes nothing yet. Samples go to `appendable`; `seed` spreads the scrapes of several servers differently.
    pub fn new(
        appendable: Arc<dyn Appendable>,
        clock: Arc<dyn Clock>,
        handle: Handle,
        seed: u64,
    ) -> Self {
        Self {
            context: Arc::new(Context::new(appendable, clock, seed)),
            tasks: Tasks {
                handle,
                tracker: TaskTracker::new(),
            },
            pools: Mutex::default(),
        }
    }

    /// Applies what differs: pools that stay the same keep their targets, caches and pace.
    pub fn apply(&self, settings: Settings) {
        // The labels of this appliance are no business of local series.
        let Settings {
            external_labels: _,
            jobs,
        } = settings;
        let mut pools = self.pools.lock();
        let gone: Vec<String> = pools
            .keys()
            .filter(|name| !jobs.iter().any(|job| job.job_name == **name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(pool) = pools.remove(&name) {
                pool.remove();
            }
        }
        for job in jobs {
            match pools.get(&job.job_name) {
                Some(pool) => pool.reload(job),
                None => {
                    let name = job.job_name.clone();
                    let pool = ScrapePool::start(job, &self.context, self.tasks.clone());
                    pools.insert(name, pool);
                }
            }
        }
    }

    /// Every target, pools in name order.
    pub fn targets(&self) -> TargetsView {
        let mut view = TargetsView::default();
        for pool in self.pools.lock().values() {
            pool.view(&mut view);
        }
        view
    }

    /// The names of all pools.
    pub fn scrape_pools(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }

    /// What all targets say about their metrics.
    pub fn metadata(&self) -> Vec<TargetMetadata> {
        let mut metadata = Vec::new();
        for pool in self.pools.lock().values() {
            pool.metadata(&mut metadata);
        }
        metadata
    }

    /// How many targets each pool scrapes.
    pub fn n_targets(&self) -> BTreeMap<String, usize> {
        self.pools
            .lock()
            .iter()
            .map(|(name, pool)| (name.clone(), pool.n_targets()))
            .collect()
    }

    /// Counts over all pools.
    pub fn counters(&self) -> Arc<ScrapeCounters> {
        Arc::clone(&self.context.counters)
    }

    /// Ends every loop without stale markers, because scraping goes on after the restart; what is being appended is
    /// finished. Waits until `deadline` from now.
    pub async fn stop(&self, deadline: Duration) -> Result<(), StopTimedOut> {
        self.context.stop.cancel();
        self.tasks.tracker.close();
        match tokio::time::timeout(deadline, self.tasks.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(StopTimedOut {
                n_tasks: self.tasks.tracker.len(),
            }),
        }
    }
}

impl Drop for ScrapeManager {
    /// Whoever forgets to stop scraping does not leave loops behind.
    fn drop(&mut self) {
        self.context.stop.cancel();
    }
}

/// What is scraped when nobody said anything: this appliance, and a node exporter for as long as one answers.
pub fn default_settings(own_http_addr: &str) -> Settings {
    let own = default_job("gauntlet", own_http_addr);
    let mut node = default_job("node", NODE_EXPORTER);
    node.only_while_it_answers = true;
    Settings {
        external_labels: ExternalLabels::default(),
        jobs: vec![own, node],
    }
}

pub(super) fn default_job(job_name: &str, address: &str) -> JobSettings {
    JobSettings {
        job_name: job_name.to_owned(),
        discovery: vec![DiscoverySettings::Static(vec![TargetGroup {
            addresses: vec![address.to_owned()],
            labels: Labels::empty(),
        }])],
        relabel: Vec::new(),
        request: RequestSettings {
            interval_ms: 15_000,
            timeout_ms: 10_000,
            scheme: "http".to_owned(),
            metrics_path: "/metrics".to_owned(),
            params: Vec::new(),
            protocols: DEFAULT_SCRAPE_PROTOCOLS.to_vec(),
            fallback_protocol: None,
            escaping: Escaping::AllowUtf8,
            compression: true,
            body_bytes_max: None,
        },
        http: HttpSettings::default(),
        ingest: IngestSettings {
            honor: Honor {
                labels: false,
                timestamps: true,
                track_timestamps_staleness: false,
            },
            metric_relabel: Vec::new(),
            limits: Limits::default(),
            extra_metrics: false,
            legacy_names: false,
            histograms: HistogramSettings::default(),
            start_times: StartTimes::Ignore,
        },
        target_limit: None,
        keep_dropped_targets: NonZeroUsize::new(100),
        only_while_it_answers: false,
    }
}
