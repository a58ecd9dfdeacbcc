//! Which local blocks are in the bucket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Mutex;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::head_keeper::BlockCut;
use crate::actors::panics_on_demand;
use crate::model::BlockId;
use crate::shipper::{ShipReport, Shipper, SkipReason};

/// Blocks are in the bucket, each with its `meta.json`; told to the store gateway.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct BlockShipped {
    /// Which.
    pub blocks: Vec<BlockId>,
}

/// Ships nothing from now on; answered when the pass that runs is over.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopShipping;

/// Whom the shipper works with.
#[derive(Debug, Clone)]
pub struct ShipperPorts {
    /// What does the work; one pass at a time.
    pub shipper: Arc<Mutex<Shipper>>,
    /// The same for blocks of an attached Prometheus.
    pub foreign: Option<Arc<Mutex<Shipper>>>,
    /// Told what arrived.
    pub gateway: Recipient<BlockShipped>,
    /// Told how the duty stands.
    pub steward: Recipient<DutyReport>,
}

/// How the shipper is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShipperState {
    /// A pass is running.
    pub is_shipping: bool,
    /// Another pass was asked for meanwhile.
    pub is_asked_again: bool,
    /// Blocks shipped in this life.
    pub n_shipped: u64,
    /// Bytes uploaded in this life.
    pub n_bytes: u64,
    /// Passes that failed in this life.
    pub n_failed: u64,
    /// What the last pass failed with.
    pub last_error: Option<String>,
}

/// Decides when local blocks are shipped: when one was cut, and every so often.
#[derive(Debug)]
pub struct ShipperActor {
    /// `None` ships nothing.
    every: Option<Duration>,
    ports: ShipperPorts,
    state: ShipperState,
}

impl ShipperActor {
    /// Looks every `every`, and whenever a block was cut; `None` ships nothing.
    pub fn new(every: Option<Duration>, ports: ShipperPorts) -> Self {
        Self {
            every,
            ports,
            state: ShipperState::default(),
        }
    }

    fn ship(&mut self, ctx: &mut Context<Self>) {
        let Some(every) = self.every else {
            return;
        };
        if self.state.is_shipping {
            self.state.is_asked_again = true;
            return;
        }
        self.state.is_shipping = true;
        let shipper = Arc::clone(&self.ports.shipper);
        let foreign = self.ports.foreign.clone();
        // On the socket runtime: the actor that asked may be restarted, the pass goes on and the next one waits for it.
        let pass = tokio::spawn(async move {
            let mut shipper = shipper.lock().await;
            let mut report = shipper.sync().await;
            let uploaded = shipper.uploaded().clone();
            drop(shipper);
            if let Some(foreign) = foreign {
                report.add(foreign.lock().await.sync().await);
            }
            (report, uploaded)
        });
        ctx.spawn(pass.into_actor(self).map(move |pass, actor, ctx| {
            actor.state.is_shipping = false;
            match pass {
                Ok((report, uploaded)) => actor.note(report, &uploaded, every, ctx),
                Err(panic) => actor.fail(panic.to_string(), (every, every), ctx),
            }
            if std::mem::take(&mut actor.state.is_asked_again) {
                actor.ship(ctx);
            }
        }));
    }

    fn note(
        &mut self,
        report: ShipReport,
        uploaded: &BTreeSet<BlockId>,
        every: Duration,
        ctx: &mut Context<Self>,
    ) {
        self.state.n_shipped += report.shipped.len() as u64;
        self.state.n_bytes += report.n_bytes;
        for (path, reason) in &report.damaged {
            tracing::warn!(path = %path.display(), reason, "local block is not shipped");
        }
        for (block, reason) in &report.skipped {
            if let SkipReason::Overlaps(other) = reason {
                tracing::warn!(%block, %other, "compacted block is not shipped: the bucket has a block of its times");
            }
        }
        if !report.shipped.is_empty() {
            tracing::info!(blocks = ?report.shipped, bytes = report.n_bytes, n_in_bucket = uploaded.len(), "shipped blocks");
            // A gateway that is being restarted syncs with the bucket itself when it is back.
            self.ports
                .gateway
                .try_send(BlockShipped {
                    blocks: report.shipped,
                })
                .ok();
        }
        match report.failed {
            None => {
                self.state.last_error = None;
                self.report(DutyState::Ok, every);
            }
            Some(error) => self.fail(
                error.to_string(),
                (report.retry_after.unwrap_or(every), every),
                ctx,
            ),
        }
    }

    fn fail(
        &mut self,
        reason: String,
        (retry_after, every): (Duration, Duration),
        ctx: &mut Context<Self>,
    ) {
        self.state.n_failed += 1;
        tracing::warn!(
            reason,
            retry_after_s = retry_after.as_secs(),
            "shipping waits"
        );
        self.state.last_error = Some(reason.clone());
        let what_to_do =
            "see that the bucket can be reached and written; it is tried again by itself"
                .to_owned();
        self.report(DutyState::Blocked { reason, what_to_do }, every);
        if retry_after < every {
            ctx.run_later(retry_after, Self::ship);
        }
    }

    fn report(&self, state: DutyState, every: Duration) {
        let within = every.saturating_mul(4);
        let next_within_ms = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        self.ports
            .steward
            .try_send(DutyReport {
                duty: "ship blocks",
                state,
                next_within_ms,
            })
            .ok();
    }
}

impl Actor for ShipperActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(every) = self.every {
            ctx.run_interval(every, Self::ship);
            self.ship(ctx);
        }
    }
}

impl Supervised for ShipperActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = ShipperState::default();
    }
}

impl Handler<BlockCut> for ShipperActor {
    type Result = ();

    fn handle(&mut self, _: BlockCut, ctx: &mut Context<Self>) {
        self.ship(ctx);
    }
}

impl Handler<StopShipping> for ShipperActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopShipping, _: &mut Context<Self>) -> Self::Result {
        self.every = None;
        let shipper = Arc::clone(&self.ports.shipper);
        let foreign = self.ports.foreign.clone();
        Box::pin(async move {
            drop(shipper.lock().await);
            if let Some(foreign) = foreign {
                drop(foreign.lock().await);
            }
        })
    }
}

impl Handler<Observe<ShipperState>> for ShipperActor {
    type Result = MessageResult<Observe<ShipperState>>;

    fn handle(&mut self, _: Observe<ShipperState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.clone())
    }
}

panics_on_demand!(ShipperActor);
