//! The targets of one job.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::Labels;
use crate::scrape::discovery::{Publish, Source, start};
use crate::scrape::error::ScrapeError;
use crate::scrape::looping::{Context, Job, Order, Running, new_loop};
use crate::scrape::settings::{DiscoverySettings, JobSettings, TargetGroup};
use crate::scrape::target::{Discovered, Target, targets_of};
use crate::scrape::view::{
    DroppedTarget, Health, TargetMetadata, TargetStatus, TargetView, TargetsView,
};

/// Where tasks run and who waits for them.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    pub(super) handle: Handle,
    pub(super) tracker: TaskTracker,
}

/// All targets of a job and where they come from.
#[derive(Debug)]
pub(super) struct ScrapePool {
    name: String,
    context: Arc<Context>,
    tasks: Tasks,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    job: Arc<Job>,
    sources: Vec<Origin>,
    running: BTreeMap<u64, Running>,
    /// Removed targets whose markers are still to come.
    ending: BTreeMap<u64, Ending>,
    dropped: Vec<Labels>,
    n_dropped: usize,
    is_over_limit: bool,
}

/// A removed target whose loop may still be there.
#[derive(Debug)]
struct Ending {
    forgo_markers: CancellationToken,
    /// Gone when the loop is.
    is_alive: Weak<Mutex<TargetStatus>>,
}

/// One discovery and what it said last; `None` until it said something.
#[derive(Debug)]
struct Origin {
    settings: DiscoverySettings,
    groups: Option<Vec<TargetGroup>>,
    source: Source,
}

impl ScrapePool {
    /// Starts discovery and the loops of what is known at once.
    pub(super) fn start(job: JobSettings, context: &Arc<Context>, tasks: Tasks) -> Arc<Self> {
        let name = job.job_name.clone();
        let discovery = job.discovery.clone();
        let pool = Arc::new(Self {
            name,
            context: Arc::clone(context),
            tasks,
            state: Mutex::new(State {
                job: Arc::new(Job::new(job)),
                sources: Vec::new(),
                running: BTreeMap::new(),
                ending: BTreeMap::new(),
                dropped: Vec::new(),
                n_dropped: 0,
                is_over_limit: false,
            }),
        });
        pool.discover(&mut pool.state.lock(), &discovery);
        pool
    }

    /// Applies what differs. Loops of targets that stay keep their caches.
    pub(super) fn reload(self: &Arc<Self>, job: JobSettings) {
        let mut state = self.state.lock();
        if state.job.settings == job {
            return;
        }
        let discovery = job.discovery.clone();
        state.job = Arc::new(Job::new(job));
        self.context.counters.pool_reloads.increment();
        self.discover(&mut state, &discovery);
    }

    /// Removes every target, with markers.
    pub(super) fn remove(&self) {
        let mut state = self.state.lock();
        for origin in state.sources.drain(..) {
            origin.source.stop();
        }
        for running in std::mem::take(&mut state.running).into_values() {
            running.stop.cancel();
        }
    }

    /// Adds the targets of this pool.
    pub(super) fn view(&self, out: &mut TargetsView) {
        let state = self.state.lock();
        let hides = state.job.settings.only_while_it_answers;
        for running in state.running.values() {
            let target = Arc::clone(&running.order.borrow().target);
            let status = running.status.lock().clone();
            if hides && status.health == Health::Unknown {
                continue;
            }
            out.active.push(TargetView {
                scrape_pool: self.name.clone(),
                discovered: target.discovered.clone(),
                labels: target.labels.clone(),
                scrape_url: target.url.clone(),
                health: status.health,
                last_error: status.last_error.unwrap_or_default(),
                last_scrape_ms: status.last_scrape_ms,
                last_duration_seconds: status.last_duration_seconds,
                interval_ms: target.interval_ms,
                timeout_ms: target.timeout_ms,
            });
        }
        out.dropped
            .extend(state.dropped.iter().map(|discovered| DroppedTarget {
                scrape_pool: self.name.clone(),
                discovered: discovered.clone(),
            }));
        out.dropped_counts
            .insert(self.name.clone(), state.n_dropped);
    }

    /// Everything the targets say about their metrics.
    pub(super) fn metadata(&self, out: &mut Vec<TargetMetadata>) {
        let state = self.state.lock();
        for running in state.running.values() {
            let target = running.order.borrow().target.labels.clone();
            for (metric, metadata) in running.metadata.lock().iter() {
                out.push(TargetMetadata {
                    target: target.clone(),
                    metric: metric.to_owned(),
                    metadata: metadata.clone(),
                });
            }
        }
    }

    /// How many targets are scraped.
    pub(super) fn n_targets(&self) -> usize {
        self.state.lock().running.len()
    }

    /// Keeps the sources that stay, starts the new ones, stops the others. A source with news waits for the lock
    /// meanwhile, so nothing it says is lost.
    fn discover(self: &Arc<Self>, state: &mut State, discovery: &[DiscoverySettings]) {
        let mut old = std::mem::take(&mut state.sources);
        let mut sources = Vec::with_capacity(discovery.len());
        for settings in discovery {
            let kept = old.iter().position(|origin| origin.settings == *settings);
            let origin = match kept {
                Some(position) => old.swap_remove(position),
                None => self.origin(settings),
            };
            sources.push(origin);
        }
        for origin in old {
            origin.source.stop();
        }
        state.sources = sources;
        self.sync(state);
    }

    fn origin(self: &Arc<Self>, settings: &DiscoverySettings) -> Origin {
        let pool = Arc::downgrade(self);
        let stop = self.context.stop.child_token();
        let publish: Publish = Box::new(move |id, groups| {
            if let Some(pool) = Weak::upgrade(&pool) {
                pool.publish(id, groups);
            }
        });
        let (source, groups) = start(settings, publish, stop, &self.tasks);
        Origin {
            settings: settings.clone(),
            groups,
            source,
        }
    }

    /// A source has news.
    fn publish(&self, id: u64, groups: Vec<TargetGroup>) {
        let mut state = self.state.lock();
        let Some(origin) = state
            .sources
            .iter_mut()
            .find(|origin| origin.source.id() == id)
        else {
            return;
        };
        if origin.groups.as_ref() == Some(&groups) {
            return;
        }
        origin.groups = Some(groups);
        self.sync(&mut state);
    }

    /// Makes the loops be those of the discovered targets.
    fn sync(&self, state: &mut State) {
        self.context.counters.pool_syncs.increment();
        let targets = self.targets(state);
        let settings = &state.job.settings;
        let limit = settings
            .target_limit
            .filter(|limit| limit.get() < targets.len());
        let forced_error = limit.map(|limit| ScrapeError::TargetLimit {
            n_targets: targets.len(),
            limit: limit.get(),
        });
        if forced_error.is_some() && !state.is_over_limit {
            self.context.counters.pool_targets_exceeded.increment();
        }
        state.is_over_limit = forced_error.is_some();
        state
            .ending
            .retain(|_, ending| ending.is_alive.strong_count() > 0);
        // As long as a source has not answered for the first time, a target that is missing may be one of its.
        if state.sources.iter().all(|origin| origin.groups.is_some()) {
            let gone: Vec<u64> = state
                .running
                .keys()
                .filter(|identity| !targets.contains_key(identity))
                .copied()
                .collect();
            for identity in gone {
                if let Some(running) = state.running.remove(&identity) {
                    running.stop.cancel();
                    let ending = Ending {
                        is_alive: Arc::downgrade(&running.status),
                        forgo_markers: running.forgo_markers,
                    };
                    state.ending.insert(identity, ending);
                }
            }
        }
        for (identity, target) in targets {
            let order = Order {
                target: Arc::new(target),
                job: Arc::clone(&state.job),
                forced_error: forced_error.clone(),
            };
            self.run_target(state, identity, order);
        }
    }

    fn run_target(&self, state: &mut State, identity: u64, order: Order) {
        if let Some(running) = state.running.get(&identity) {
            running.order.send_if_modified(|old| {
                let is_same = old.target == order.target
                    && Arc::ptr_eq(&old.job, &order.job)
                    && old.forced_error == order.forced_error;
                if !is_same {
                    *old = order;
                }
                !is_same
            });
            return;
        }
        if let Some(ending) = state.ending.remove(&identity) {
            ending.forgo_markers.cancel();
        }
        let (scrape_loop, running) = new_loop(&self.context, order);
        self.tasks
            .tracker
            .spawn_on(scrape_loop.run(), &self.tasks.handle);
        state.running.insert(identity, running);
    }

    /// The targets of all groups by identity; notes the dropped ones.
    fn targets(&self, state: &mut State) -> BTreeMap<u64, Target> {
        let settings = &state.job.settings;
        let mut targets = BTreeMap::new();
        let (mut dropped, mut n_dropped) = (Vec::new(), 0);
        let kept_max = settings
            .keep_dropped_targets
            .map_or(usize::MAX, std::num::NonZero::get);
        let groups = state
            .sources
            .iter()
            .filter_map(|origin| origin.groups.as_ref());
        for found in groups
            .flatten()
            .flat_map(|group| targets_of(group, settings))
        {
            match found {
                Discovered::Kept(target) => {
                    targets.entry(target.identity).or_insert(target);
                }
                Discovered::Dropped(labels) => {
                    n_dropped += 1;
                    if dropped.len() < kept_max {
                        dropped.push(labels);
                    }
                }
                Discovered::Refused(error) => {
                    tracing::warn!(pool = %self.name, error = %error, "skipped a discovered target");
                }
            }
        }
        state.dropped = dropped;
        state.n_dropped = n_dropped;
        targets
    }
}
