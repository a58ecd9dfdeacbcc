//! The set of bucket blocks that are served.

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
    /// What the last sync failed with.
    pub last_error: Option<String>,
}

/// Decides when the bucket is listed: after an upload, and every so often.
#[derive(Debug)]
pub struct StoreGateway {
    every: Duration,
    ports: StoreGatewayPorts,
    state: StoreGatewayState,
    is_over: bool,
    /// Dropped when the running sync is over.
    waiting: Vec<oneshot::Sender<()>>,
}

impl StoreGateway {
    /// Lists the bucket every `every`, and whenever a block was shipped.
    pub fn new(every: Duration, ports: StoreGatewayPorts) -> Self {
        Self {
            every,
            ports,
            state: StoreGatewayState::default(),
            is_over: false,
            waiting: Vec::new(),
        }
    }

    fn sync(&mut self, ctx: &mut Context<Self>) {
        if self.is_over {
            return;
        }
        if self.state.is_syncing {
            self.state.is_asked_again = true;
            return;
        }
        self.state.is_syncing = true;
        let gateway = Arc::clone(&self.ports.gateway);
        let synced = tokio::spawn(async move { gateway.sync().await });
        ctx.spawn(synced.into_actor(self).map(|synced, actor, ctx| {
            actor.state.is_syncing = false;
            actor.waiting.clear();
            actor.state.n_synced += 1;
            match synced {
                Ok(Ok(_report)) => actor.serve(),
                Ok(Err(error)) => actor.fail(error.to_string()),
                Err(panic) => actor.fail(panic.to_string()),
            }
            if std::mem::take(&mut actor.state.is_asked_again) {
                actor.sync(ctx);
            }
        }));
    }

    fn serve(&mut self) {
        let snapshot = self.ports.gateway.snapshot();
        // First every timeline reads the bucket, then the local copies may go: in this order no query has a gap.
        self.ports.tsdb.set_bucket(Arc::clone(&snapshot));
        let own = snapshot.blocks().iter().filter(|block| block.is_own);
        self.ports.released.set(own.map(|block| block.id).collect());
        self.state.n_served = snapshot.blocks().len();
        self.state.last_error = None;
        self.report(DutyState::Ok);
    }

    fn fail(&mut self, reason: String) {
        tracing::warn!(
            reason,
            "the bucket is not listed; what was served before is served on"
        );
        self.state.last_error = Some(reason.clone());
        let what_to_do = "see that the bucket can be reached; it is tried again by itself";
        self.report(DutyState::Blocked {
            reason,
            what_to_do: what_to_do.to_owned(),
        });
    }

    fn report(&self, state: DutyState) {
        let within = self.every.saturating_mul(4);
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
        ctx.run_interval(self.every, Self::sync);
        self.sync(ctx);
    }
}

impl Supervised for StoreGateway {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = StoreGatewayState::default();
        self.waiting.clear();
    }
}

impl Handler<BlockShipped> for StoreGateway {
    type Result = ();

    fn handle(&mut self, _: BlockShipped, ctx: &mut Context<Self>) {
        self.sync(ctx);
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
