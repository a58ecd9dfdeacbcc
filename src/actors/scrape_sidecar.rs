//! Scraping: what is scraped, and from when on.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::panics_on_demand;
use crate::scrape::{ScrapeManager, Settings};

/// How often it is said that scraping goes on.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Scrape this from now on. Unchanged jobs keep their targets, caches and timing.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ApplyConfig(pub Arc<Settings>);

/// Stop scraping; the answer comes when the last scrape has ended, or after the deadline.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopScraping(pub Duration);

/// How scraping is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrapeSidecarState {
    /// Configurations applied in this life.
    pub n_applied: u64,
    /// Jobs of the newest one.
    pub n_jobs: usize,
}

/// Owns what is scraped. Pools and their caches live in the manager and survive a restart of the actor.
#[derive(Debug)]
pub struct ScrapeSidecar {
    manager: Arc<ScrapeManager>,
    steward: Recipient<DutyReport>,
    state: ScrapeSidecarState,
}

impl ScrapeSidecar {
    /// Scrapes nothing until the first [`ApplyConfig`].
    pub fn new(manager: Arc<ScrapeManager>, steward: Recipient<DutyReport>) -> Self {
        Self {
            manager,
            steward,
            state: ScrapeSidecarState::default(),
        }
    }

    fn report(&self) {
        let within = REPORT_EVERY.saturating_mul(4);
        let report = DutyReport {
            duty: "scrape targets",
            state: DutyState::Ok,
            next_within_ms: i64::try_from(within.as_millis()).unwrap_or(i64::MAX),
        };
        self.steward.try_send(report).ok();
    }
}

impl Actor for ScrapeSidecar {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.report();
        ctx.run_interval(REPORT_EVERY, |actor, _| actor.report());
    }
}

impl Supervised for ScrapeSidecar {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = ScrapeSidecarState::default();
    }
}

impl Handler<ApplyConfig> for ScrapeSidecar {
    type Result = ();

    fn handle(&mut self, ApplyConfig(settings): ApplyConfig, _: &mut Context<Self>) {
        self.state.n_applied += 1;
        self.state.n_jobs = settings.jobs.len();
        self.manager.apply((*settings).clone());
    }
}

impl Handler<StopScraping> for ScrapeSidecar {
    type Result = ResponseFuture<()>;

    fn handle(
        &mut self,
        StopScraping(deadline): StopScraping,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let manager = Arc::clone(&self.manager);
        Box::pin(async move {
            if let Err(late) = manager.stop(deadline).await {
                tracing::warn!(
                    error = &late as &dyn std::error::Error,
                    "scraping is cut off"
                );
            }
        })
    }
}

impl Handler<Observe<ScrapeSidecarState>> for ScrapeSidecar {
    type Result = MessageResult<Observe<ScrapeSidecarState>>;

    fn handle(&mut self, _: Observe<ScrapeSidecarState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.clone())
    }
}

panics_on_demand!(ScrapeSidecar);
