//! The set of bucket blocks that are served.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::panics_on_demand;
use crate::actors::released::ReleasedBlocks;
use crate::actors::shipper::BlockShipped;
use crate::gateway::Gateway;
use crate::model::{BlockId, TimestampMs};
use crate::tsdb::Tsdb;

/// Lists the bucket no more; answered when the sync that runs is over.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopSyncing;

/// Whom the store gateway works with.
#[derive(Debug, Clone)]
pub struct StoreGatewayPorts {
    /// What does the work.
    pub gateway: Arc<Gateway>,
    /// Whose timeline is extended by the bucket.
    pub tsdb: Tsdb,
    /// Blocks whose local copy may go.
    pub released: ReleasedBlocks,
    /// Told how the duty stands.
    pub steward: Recipient<DutyReport>,
}

/// How the store gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreGatewayState {
    /// A sync is running.
    pub is_syncing: bool,
    /// Another one was asked for meanwhile.
    pub is_asked_again: bool,
    /// Syncs done in this life.
    pub n_synced: u64,
    /// Blocks that are served.
    pub n_served: usize,
    /// When the last sync ended, whatever came of it.
    pub synced_ms: Option<TimestampMs>,
    /// What the last sync failed with.
    pub last_error: Option<String>,
}

/// Blocks of the bucket came, changed or went through this process: the store gateway looks at them now.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct BucketChanged {
    /// Which.
    pub blocks: Vec<BlockId>,
}

/// How often blocks that nobody asks are closed.
const CLOSE_EVERY: Duration = Duration::from_secs(30);
/// When a look at the bucket that failed is repeated at first; twice as long after every other failure.
const RETRY_FIRST: Duration = Duration::from_secs(5);

/// Decides when the bucket is listed, which takes as many requests as it is large; blocks that come or go through this
/// process are looked at one by one meanwhile.
#[derive(Debug)]
pub struct StoreGateway {
    every: Duration,
    ports: StoreGatewayPorts,
    state: StoreGatewayState,
    is_over: bool,
    /// The next listing of everything.
    next: Option<SpawnHandle>,
    /// Blocks that somebody said have changed.
    changed: BTreeSet<BlockId>,
    /// Looks that failed since one worked.
    n_failed: u32,
    /// Dropped when the running sync is over.
    waiting: Vec<oneshot::Sender<()>>,
}

impl StoreGateway {
    /// Lists the bucket every `every`, less often where that takes too many requests.
    pub fn new(every: Duration, ports: StoreGatewayPorts) -> Self {
        Self {
            every,
            ports,
            state: StoreGatewayState::default(),
            is_over: false,
            next: None,
            changed: BTreeSet::new(),
            n_failed: 0,
            waiting: Vec::new(),
        }
    }

    /// Looks at everything, or only at what has changed.
    fn look(&mut self, is_all: bool, ctx: &mut Context<Self>) {
        if self.is_over {
            return;
        }
        if self.state.is_syncing {
            self.state.is_asked_again |= is_all;
            return;
        }
        self.state.is_syncing = true;
        let changed = std::mem::take(&mut self.changed);
        let gateway = Arc::clone(&self.ports.gateway);
        let looked = tokio::spawn(async move {
            let answer = if is_all {
                gateway.sync().await
            } else {
                let changed: Vec<_> = changed.iter().copied().collect();
                gateway.look_at(&changed).await
            };
            (answer, changed)
        });
        ctx.spawn(looked.into_actor(self).map(move |looked, actor, ctx| {
            actor.state.is_syncing = false;
            actor.waiting.clear();
            actor.state.n_synced += 1;
            actor.state.synced_ms = Some(actor.ports.tsdb.clock().now_ms());
            match looked {
                Ok((Ok(_report), _)) => {
                    actor.serve(ctx);
                    if is_all {
                        let pause = actor.ports.gateway.sync_pause_min().max(actor.every);
                        actor.look_later(pause, ctx);
                    }
                }
                Ok((Err(error), changed)) => {
                    actor.changed.extend(changed);
                    actor.fail(error.to_string(), ctx);
                }
                Err(panic) => actor.fail(panic.to_string(), ctx),
            }
            if std::mem::take(&mut actor.state.is_asked_again) {
                actor.look(true, ctx);
            } else if actor.n_failed == 0 && !actor.changed.is_empty() {
                actor.look(false, ctx);
            }
        }));
    }

    /// Lists everything after `pause`, and not before.
    fn look_later(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.next.take() {
            ctx.cancel_future(earlier);
        }
        self.next = Some(ctx.run_later(pause, |actor, ctx| {
            actor.next = None;
            actor.look(true, ctx);
        }));
    }

    fn serve(&mut self, ctx: &mut Context<Self>) {
        let snapshot = self.ports.gateway.snapshot();
        self.state.n_served = snapshot.blocks().len();
        self.state.last_error = None;
        self.n_failed = 0;
        // First every timeline reads the bucket, then the local copies may go: in this order no query has a gap.
        self.ports.tsdb.set_bucket(snapshot);
        let local = self.ports.tsdb.blocks();
        let local = local.iter().map(|block| block.meta().ulid).collect();
        let gateway = Arc::clone(&self.ports.gateway);
        let released = self.ports.released.clone();
        // What opens here has arrived whole.
        let released = async move { released.set(gateway.verified(local).await) };
        ctx.spawn(released.into_actor(self));
        let gateway = Arc::clone(&self.ports.gateway);
        tokio::spawn(async move { gateway.fetch_headers().await });
        self.report(DutyState::Ok);
    }

    fn fail(&mut self, reason: String, ctx: &mut Context<Self>) {
        tracing::warn!(
            reason,
            "the bucket is not listed; what was served before is served on"
        );
        self.state.last_error = Some(reason.clone());
        let pause = RETRY_FIRST.saturating_mul(1 << self.n_failed.min(16));
        self.n_failed += 1;
        self.look_later(pause.min(self.every.max(RETRY_FIRST)), ctx);
        let what_to_do = "see that the bucket can be reached; it is tried again by itself";
        self.report(DutyState::Blocked {
            reason,
            what_to_do: what_to_do.to_owned(),
        });
    }

    fn report(&self, state: DutyState) {
        let within = self.every.max(self.ports.gateway.sync_pause_min());
        let within = within.saturating_mul(4);
        let next_within_ms = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let report = DutyReport {
            duty: "serve the bucket",
            state,
            next_within_ms,
        };
        self.ports.steward.try_send(report).ok();
    }
}

impl Actor for StoreGateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(CLOSE_EVERY, |actor, _| actor.ports.gateway.close_idle());
        self.look(true, ctx);
    }
}

impl Supervised for StoreGateway {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = StoreGatewayState::default();
        self.next = None;
        self.waiting.clear();
    }
}

impl Handler<BlockShipped> for StoreGateway {
    type Result = ();

    fn handle(&mut self, shipped: BlockShipped, ctx: &mut Context<Self>) {
        self.changed.extend(shipped.blocks);
        self.look(false, ctx);
    }
}

impl Handler<BucketChanged> for StoreGateway {
    type Result = ();

    fn handle(&mut self, changed: BucketChanged, ctx: &mut Context<Self>) {
        self.changed.extend(changed.blocks);
        self.look(false, ctx);
    }
}

impl Handler<StopSyncing> for StoreGateway {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopSyncing, _: &mut Context<Self>) -> Self::Result {
        self.is_over = true;
        let (waiting, over) = oneshot::channel();
        if self.state.is_syncing {
            self.waiting.push(waiting);
        }
        Box::pin(async move {
            // Never sent, only dropped.
            over.await.ok();
        })
    }
}

impl Handler<Observe<StoreGatewayState>> for StoreGateway {
    type Result = MessageResult<Observe<StoreGatewayState>>;

    fn handle(&mut self, _: Observe<StoreGatewayState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.clone())
    }
}

panics_on_demand!(StoreGateway);
