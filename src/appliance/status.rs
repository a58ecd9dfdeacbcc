//! What the appliance says about itself over HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actors::duty::Duty;
use crate::api::http::{
    ActiveTarget, Answer, ApiError, BlocksView, BuildInfo, DroppedTarget, ErrorType, NamedCount,
    Readiness, RuntimeInfo, StatusPort, TargetHealth, TargetMetadata, TargetsPort, TargetsView,
    TsdbStatus, WalReplay,
};
use crate::appliance::features::features;
use crate::appliance::ports::Ports;
use crate::appliance::reload::reload;
use crate::appliance::replay::wal_replay;
use crate::compactor::{self, DutyProgress};
use crate::foundation::metrics::Accepted;
use crate::foundation::process::memory_bytes;
use crate::model::duration::format_duration;

use crate::scrape::{Health, ScrapeManager};
use crate::tsdb::NamedCount as TsdbCount;

/// The Prometheus whose API this answers like: clients switch features on by this number.
const API_VERSION: &str = "3.14.0";

/// A handle on the ports that can be cloned into futures.
#[derive(Debug, Clone)]
pub(crate) struct Status(pub(crate) Arc<Ports>);

impl StatusPort for Status {
    fn readiness(&self) -> Readiness {
        if self.0.is_stopping.load(Ordering::SeqCst) {
            Readiness::Stopping
        } else {
            match self.0.opened.get() {
                None => Readiness::Starting,
                Some(opened) if opened.tsdb.is_replaying() => Readiness::Replaying,
                Some(_) => Readiness::Ready,
            }
        }
    }

    fn config_yaml(&self) -> String {
        self.0.config_text.load().to_string()
    }

    fn flags(&self) -> Vec<(String, String)> {
        self.0.settings.flags.clone()
    }

    fn runtime(&self) -> RuntimeInfo {
        let ports = &self.0;
        let stats = ports
            .opened
            .get()
            .map(|opened| opened.tsdb.stats())
            .unwrap_or_default();
        RuntimeInfo {
            start_ms: ports.settings.started_ms,
            cwd: std::env::current_dir()
                .map(|dir| dir.display().to_string())
                .unwrap_or_default(),
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            reload_succeeded: ports.reload_succeeded.load(Ordering::SeqCst),
            last_config_ms: ports.last_config_ms.load(Ordering::SeqCst),
            corruption_count: stats.head.wal_corruptions_total,
            n_actors: ports
                .opened
                .get()
                .map_or(0, |opened| opened.actors.records.len() as u64),
            n_threads: (ports.settings.query_threads + ports.settings.bulk_threads) as u64,
            memory_limit_bytes: memory_bytes(),
            storage_retention: ports.settings.retention_text.clone(),
        }
    }

    fn build(&self) -> BuildInfo {
        BuildInfo {
            version: API_VERSION.to_owned(),
            revision: format!("gauntlet-{}", env!("CARGO_PKG_VERSION")),
            compiler_version: concat!("rust ", env!("CARGO_PKG_RUST_VERSION")).to_owned(),
            ..BuildInfo::default()
        }
    }

    fn tsdb(&self, limit: usize) -> Answer<Result<TsdbStatus, ApiError>> {
        let ports = Arc::clone(&self.0);
        Box::pin(async move {
            // The tables walk the whole head.
            let made = tokio::task::spawn_blocking(move || {
                Some(ports.opened()?.tsdb.head().status(limit))
            })
            .await;
            let status =
                made.map_err(|panic| ApiError::new(ErrorType::Internal, panic.to_string()))?;
            let status =
                status.ok_or_else(|| ApiError::new(ErrorType::Unavailable, "TSDB not ready"))?;
            Ok(TsdbStatus {
                n_series: status.n_series,
                n_label_pairs: status.n_label_pairs,
                n_chunks: status.n_chunks,
                min_t: status.min_t,
                max_t: status.max_t,
                series_by_metric: counts(status.series_by_metric),
                values_by_label: counts(status.values_by_label),
                memory_by_label: counts(status.bytes_by_label),
                series_by_pair: counts(status.series_by_pair),
            })
        })
    }

    fn blocks(&self, is_loaded: bool) -> Answer<Result<BlocksView, ApiError>> {
        self.0.view_blocks(is_loaded)
    }

    fn duties(&self) -> Vec<(Duty, Option<DutyProgress>)> {
        let Some(opened) = self.0.opened.get() else {
            return Vec::new();
        };
        let board = opened.actors.duties.load();
        let of = |duty: &Duty| {
            let own = compactor::Duty::ALL.into_iter();
            let mut own = own.filter(|own| own.name() == duty.name);
            own.next().map(|own| opened.compactor.progress(own))
        };
        board.iter().map(|duty| (duty.clone(), of(duty))).collect()
    }

    fn wal_replay(&self) -> WalReplay {
        wal_replay(&self.0)
    }

    fn features(&self) -> Vec<(String, Vec<(String, bool)>)> {
        let settings = &self.0.settings;
        let mut head = settings.tsdb.head;
        if let Some(opened) = self.0.opened() {
            head.exemplars_max = opened.tsdb.head().exemplar_stats().n_max;
        }
        features(
            settings.http_settings.has_admin,
            settings.start_times,
            &head,
        )
    }

    fn metrics(&self, accept: &str) -> (String, String) {
        let accepted = Accepted::of(accept);
        (
            self.0.metrics.exposition(accepted.form),
            accepted.content_type(),
        )
    }

    fn reload(&self) -> Answer<Result<(), String>> {
        let ports = Arc::clone(&self.0);
        Box::pin(async move { reload(&ports).await })
    }
}

fn counts(rows: Vec<TsdbCount>) -> Vec<NamedCount> {
    rows.into_iter()
        .map(|row| NamedCount {
            name: row.name,
            value: row.value,
        })
        .collect()
}

impl TargetsPort for Status {
    fn targets(&self) -> Answer<TargetsView> {
        let view = self
            .0
            .opened
            .get()
            .map(|opened| targets_view(&opened.scrape))
            .unwrap_or_default();
        Box::pin(std::future::ready(view))
    }

    fn metadata(&self) -> Answer<Vec<TargetMetadata>> {
        let metadata = self
            .0
            .opened
            .get()
            .map(|opened| opened.scrape.metadata())
            .unwrap_or_default();
        let metadata = metadata.into_iter().map(|one| TargetMetadata {
            target: one.target,
            metric: one.metric,
            metadata: one.metadata,
        });
        let metadata = metadata.collect();
        Box::pin(std::future::ready(metadata))
    }
}

fn targets_view(scrape: &ScrapeManager) -> TargetsView {
    let view = scrape.targets();
    let active = view.active.into_iter().map(|target| ActiveTarget {
        discovered_labels: target.discovered,
        labels: target.labels,
        scrape_pool: target.scrape_pool,
        global_url: target.scrape_url.clone(),
        scrape_url: target.scrape_url,
        last_error: target.last_error,
        last_scrape_ms: target.last_scrape_ms,
        last_scrape_duration_seconds: target.last_duration_seconds,
        health: match target.health {
            Health::Unknown => TargetHealth::Unknown,
            Health::Up => TargetHealth::Up,
            Health::Down => TargetHealth::Down,
        },
        scrape_interval: format_duration(target.interval_ms),
        scrape_timeout: format_duration(target.timeout_ms),
    });
    let dropped = view.dropped.into_iter().map(|target| DroppedTarget {
        discovered_labels: target.discovered,
        scrape_pool: target.scrape_pool,
    });
    TargetsView {
        pools: scrape.scrape_pools(),
        active: active.collect(),
        dropped: dropped.collect(),
        dropped_counts: view
            .dropped_counts
            .into_iter()
            .map(|(pool, n)| (pool, n as u64))
            .collect(),
    }
}
