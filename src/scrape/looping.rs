//! One task per target: wait, fetch, append, again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::exposition::{MediaType, accept_header, choose_media_type};
use crate::foundation::Clock;
use crate::model::number::format_f;
use crate::scrape::client::{HttpClient, Request};
use crate::scrape::counters::ScrapeCounters;
use crate::scrape::error::ScrapeError;
use crate::scrape::ingest::{Ingest, Ingested, Scraped};
use crate::scrape::metadata::MetadataStore;
use crate::scrape::settings::{IngestSettings, JobSettings};
use crate::scrape::target::{Target, first_scrape_in_ms};
use crate::scrape::tick::Grid;
use crate::scrape::view::{Health, TargetStatus};
use crate::storage::Appendable;

static SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Bodies of that many scrapes are kept to be filled again.
const SPARE_BODIES_MAX: usize = 16;
/// A larger body is given back to the allocator.
const SPARE_BODY_BYTES_MAX: usize = 4 << 20;

/// What every loop shares.
pub(super) struct Context {
    pub(super) appendable: Arc<dyn Appendable>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<ScrapeCounters>,
    /// The appliance stops: no markers, no further scrape.
    pub(super) stop: CancellationToken,
    /// Spreads the targets of different servers differently.
    pub(super) seed: u64,
    bodies: Mutex<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(appendable: Arc<dyn Appendable>, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            appendable,
            clock,
            counters: Arc::default(),
            stop: CancellationToken::new(),
            seed,
            bodies: Mutex::default(),
        }
    }

    fn take_body(&self) -> Vec<u8> {
        self.bodies.lock().pop().unwrap_or_default()
    }

    fn give_body(&self, body: Vec<u8>) {
        let mut bodies = self.bodies.lock();
        if bodies.len() < SPARE_BODIES_MAX && body.capacity() <= SPARE_BODY_BYTES_MAX {
            bodies.push(body);
        }
    }
}

/// A job as its loops see it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) settings: JobSettings,
    pub(super) client: Arc<HttpClient>,
    accept: HeaderValue,
}

impl Job {
    pub(super) fn new(settings: JobSettings) -> Self {
        let client = HttpClient::new(settings.http.clone(), settings.request.compression);
        let accept = accept_header(&settings.request.protocols, settings.request.escaping);
        Self {
            client: Arc::new(client),
            // The header is made of names we know: there is nothing in it that a header may not hold.
            accept: HeaderValue::from_str(&accept).unwrap_or(HeaderValue::from_static("*/*")),
            settings,
        }
    }

    fn headers(&self, target: &Target) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, self.accept.clone());
        let seconds = format_f(seconds(target.timeout_ms));
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            headers.insert(SCRAPE_TIMEOUT.clone(), value);
        }
        headers
    }
}

/// What a loop works with until told otherwise.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) target: Arc<Target>,
    pub(super) job: Arc<Job>,
    /// Every scrape fails with this.
    pub(super) forced_error: Option<ScrapeError>,
}

/// A loop from the outside.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) order: watch::Sender<Order>,
    /// The target is gone.
    pub(super) stop: CancellationToken,
    /// The target is back under another loop: write no markers.
    pub(super) forgo_markers: CancellationToken,
    pub(super) status: Arc<Mutex<TargetStatus>>,
    pub(super) metadata: Arc<Mutex<MetadataStore>>,
}

/// The loop of one target.
#[derive(Debug)]
pub(super) struct ScrapeLoop {
    context: Arc<Context>,
    order: watch::Receiver<Order>,
    client: Arc<HttpClient>,
    stop: CancellationToken,
    forgo_markers: CancellationToken,
    status: Arc<Mutex<TargetStatus>>,
    metadata: Arc<Mutex<MetadataStore>>,
    ingest: Ingest,
    grid: Grid,
    has_scraped: bool,
}

/// Makes a loop and its outside; [`ScrapeLoop::run`] is the task.
pub(super) fn new_loop(context: &Arc<Context>, order: Order) -> (ScrapeLoop, Running) {
    let client = client_of(&order.job);
    let (sender, receiver) = watch::channel(order);
    let status = Arc::new(Mutex::new(TargetStatus::default()));
    let metadata = Arc::new(Mutex::new(MetadataStore::default()));
    let running = Running {
        order: sender,
        stop: CancellationToken::new(),
        forgo_markers: CancellationToken::new(),
        status: Arc::clone(&status),
        metadata: Arc::clone(&metadata),
    };
    let ingest = Ingest::new(
        Arc::clone(&context.appendable),
        Arc::clone(&context.counters),
        Arc::clone(&metadata),
    );
    let scrape_loop = ScrapeLoop {
        context: Arc::clone(context),
        order: receiver,
        client,
        stop: running.stop.clone(),
        forgo_markers: running.forgo_markers.clone(),
        status,
        metadata,
        ingest,
        grid: Grid::new(0, 1),
        has_scraped: false,
    };
    (scrape_loop, running)
}

/// Targets share a client unless its names are per target.
fn client_of(job: &Job) -> Arc<HttpClient> {
    if job.client.is_per_target() {
        Arc::new(job.client.fresh())
    } else {
        Arc::clone(&job.client)
    }
}

enum Wake {
    Due,
    Changed,
    TargetGone,
    Stopped,
}

impl ScrapeLoop {
    /// Scrapes until the target is gone or the appliance stops.
    pub(super) async fn run(mut self) {
        let mut order = self.order.borrow_and_update().clone();
        let mut ticks = self.start_ticks(&order.target);
        loop {
            match self.wait(&mut ticks).await {
                Wake::Due => {
                    if !self.scrape_unless_stopped(&order).await {
                        continue;
                    }
                }
                Wake::Changed => {
                    let new = self.order.borrow_and_update().clone();
                    if self.take_order(&order, &new) {
                        ticks = self.start_ticks(&new.target);
                    }
                    order = new;
                }
                Wake::TargetGone => break,
                Wake::Stopped => return,
            }
        }
        if self.has_scraped {
            self.end(&order, ticks).await;
        }
    }

    async fn wait(&mut self, ticks: &mut Interval) -> Wake {
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => Wake::Stopped,
            () = self.stop.cancelled() => Wake::TargetGone,
            changed = self.order.changed() => match changed {
                Ok(()) => Wake::Changed,
                // Nobody is left who could tell us to stop.
                Err(_closed) => Wake::TargetGone,
            },
            _ = ticks.tick() => Wake::Due,
        }
    }

    /// Ticks at the target's place in every interval.
    fn start_ticks(&mut self, target: &Target) -> Interval {
        let now_ms = self.context.clock.now_ms();
        let wait_ms = first_scrape_in_ms(target, self.context.seed, now_ms);
        self.grid = Grid::new(now_ms + wait_ms, target.interval_ms);
        let start = Instant::now() + millis(wait_ms);
        let mut ticks = tokio::time::interval_at(start, millis(target.interval_ms.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    }

    /// Takes what is new over; true when the target is to be scraped at other times.
    fn take_order(&mut self, old: &Order, new: &Order) -> bool {
        if !Arc::ptr_eq(&old.job, &new.job) {
            self.client = client_of(&new.job);
            if old.target.histograms != new.target.histograms
                || !gives_same_series(&old.job.settings.ingest, &new.job.settings.ingest)
            {
                self.ingest.forget_texts();
            }
        }
        old.target.interval_ms != new.target.interval_ms
    }

    /// True when the scrape was done, false when somebody wanted the loop to stop meanwhile.
    async fn scrape_unless_stopped(&mut self, order: &Order) -> bool {
        let now_ms = self.context.clock.now_ms();
        let t = self.grid.timestamp(now_ms);
        let started = Instant::now();
        let mut body = self.context.take_body();
        let fetched = {
            let (server_stop, stop) = (self.context.stop.clone(), self.stop.clone());
            tokio::select! {
                biased;
                () = server_stop.cancelled() => None,
                () = stop.cancelled() => None,
                fetched = self.fetch(order, &mut body) => Some(fetched),
            }
        };
        let Some(fetched) = fetched else {
            self.context.give_body(body);
            return false;
        };
        let duration_seconds = started.elapsed().as_secs_f64();
        if order.job.settings.only_while_it_answers && fetched.is_err() {
            self.context.give_body(body);
            self.hide(order, t).await;
            return true;
        }
        let work = Work {
            order: order.clone(),
            body,
            fetched,
            times: (t, now_ms, duration_seconds),
        };
        let ingested = self.ingest(work).await;
        self.has_scraped = true;
        self.tell(&ingested, t, duration_seconds);
        true
    }

    async fn fetch(&self, order: &Order, body: &mut Vec<u8>) -> Result<MediaType, ScrapeError> {
        let Order {
            target,
            job,
            forced_error,
        } = order;
        if let Some(error) = forced_error {
            return Err(error.clone());
        }
        let request = Request {
            url: &target.url,
            headers: job.headers(target),
            timeout: millis(target.timeout_ms),
            body_bytes_max: job
                .settings
                .request
                .body_bytes_max
                .map(std::num::NonZero::get),
        };
        let fetched = self.client.fetch(request, body).await?;
        let fallback = job.settings.request.fallback_protocol;
        let (media_type, warning) = choose_media_type(&fetched.content_type, fallback)?;
        if let Some(warning) = warning {
            tracing::debug!(url = %target.url, warning = %warning, "used the fallback protocol");
        }
        Ok(media_type)
    }

    /// Appends on a thread that may block: the log is written there.
    async fn ingest(&mut self, work: Work) -> Ingested {
        let fresh = self.fresh_ingest();
        let ingest = std::mem::replace(&mut self.ingest, fresh);
        let done = tokio::task::spawn_blocking(move || work.run(ingest)).await;
        match done {
            Ok((ingest, body, ingested)) => {
                self.ingest = ingest;
                self.context.give_body(body);
                ingested
            }
            Err(_panicked) => Ingested {
                error: Some(ScrapeError::Panicked),
                ..Ingested::default()
            },
        }
    }

    fn fresh_ingest(&self) -> Ingest {
        Ingest::new(
            Arc::clone(&self.context.appendable),
            Arc::clone(&self.context.counters),
            Arc::clone(&self.metadata),
        )
    }

    fn tell(&self, ingested: &Ingested, t: i64, duration_seconds: f64) {
        let mut status = self.status.lock();
        status.health = if ingested.error.is_none() {
            Health::Up
        } else {
            Health::Down
        };
        status.last_error = ingested.error.as_ref().map(ToString::to_string);
        status.last_scrape_ms = Some(t);
        status.last_duration_seconds = duration_seconds;
    }

    /// A target that exists only while it answers does not answer: it is as if it had been removed.
    async fn hide(&mut self, order: &Order, t: i64) {
        *self.status.lock() = TargetStatus::default();
        if std::mem::take(&mut self.has_scraped) {
            self.append_end(order, t).await;
        }
    }

    /// Waits two intervals and a tenth, in case the target comes back, then ends its series at the time of the first
    /// scrape that did not happen.
    async fn end(mut self, order: &Order, mut ticks: Interval) {
        let mut t = None;
        for _ in 0..2 {
            if !self.wait_for_end(ticks.tick()).await {
                return;
            }
            t.get_or_insert_with(|| self.context.clock.now_ms());
        }
        let tenth = millis(order.target.interval_ms / 10);
        if !self.wait_for_end(tokio::time::sleep(tenth)).await {
            return;
        }
        if let Some(t) = t {
            self.append_end(order, t).await;
        }
    }

    /// False when there is to be no end after all.
    async fn wait_for_end<T>(&self, wait: impl Future<Output = T>) -> bool {
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => false,
            () = self.forgo_markers.cancelled() => false,
            _ = wait => true,
        }
    }

    async fn append_end(&mut self, order: &Order, t: i64) {
        let fresh = self.fresh_ingest();
        let mut ingest = std::mem::replace(&mut self.ingest, fresh);
        let target = Arc::clone(&order.target);
        let done = tokio::task::spawn_blocking(move || ingest.end(&target, t)).await;
        if done.is_err() {
            tracing::warn!("stale markers of a removed target were lost");
        }
    }
}

/// What goes to the blocking thread.
struct Work {
    order: Order,
    body: Vec<u8>,
    fetched: Result<MediaType, ScrapeError>,
    times: (i64, i64, f64),
}

impl Work {
    fn run(self, mut ingest: Ingest) -> (Ingest, Vec<u8>, Ingested) {
        let (t, now_ms, duration_seconds) = self.times;
        let scraped = Scraped {
            target: &self.order.target,
            settings: &self.order.job.settings.ingest,
            body: self
                .fetched
                .map(|media_type| (self.body.as_slice(), media_type)),
            t,
            now_ms,
            duration_seconds,
        };
        let ingested = ingest.run(&scraped);
        (ingest, self.body, ingested)
    }
}

/// Does the same text stand for the same series under both settings?
fn gives_same_series(old: &IngestSettings, new: &IngestSettings) -> bool {
    let IngestSettings {
        honor,
        metric_relabel,
        limits,
        extra_metrics: _,
        legacy_names,
        histograms: _,
        start_times: _,
    } = old;
    let without_samples =
        |limits: &crate::scrape::settings::Limits| crate::scrape::settings::Limits {
            samples: None,
            ..*limits
        };
    *honor == new.honor
        && *metric_relabel == new.metric_relabel
        && without_samples(limits) == without_samples(&new.limits)
        && *legacy_names == new.legacy_names
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a timeout is far below 2^53 milliseconds"
)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
