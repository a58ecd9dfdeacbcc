//! The one writer of the local database: cuts and compacts blocks, syncs the log, applies retention, deletes on demand.

use std::time::Duration;

use actix::prelude::*;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::panics_on_demand;
use crate::actors::released::ReleasedBlocks;
use crate::foundation::pool::{Pool, PoolPanic};
use crate::model::{BlockId, Interval, Matcher};
use crate::tsdb::{Tsdb, TsdbError};

/// A block was cut from the head; told to the shipper.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct BlockCut {
    /// The new blocks, oldest first.
    pub blocks: Vec<BlockId>,
}

/// Looks now whether a block is due, rather than at the next tick.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LookNow;

/// What an operator asks for.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<String>, String>")]
pub enum Administer {
    /// Samples of series that match any of the sets are deleted.
    DeleteSeries {
        /// Each set is met by a series that matches all of it.
        matcher_sets: Vec<Vec<Matcher>>,
        /// Times deleted.
        interval: Interval,
    },
    /// Deleted samples leave the disk.
    CleanTombstones,
    /// A snapshot is made; answered with its name.
    Snapshot {
        /// Without what is not in a block yet.
        skip_head: bool,
    },
}

/// When things are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadKeeperSettings {
    /// How often it is looked whether a block is due.
    pub look_every: Duration,
    /// How often the log is synced; `None` leaves it to the operating system, or to every commit.
    pub sync_every: Option<Duration>,
    /// Local blocks are made fewer and longer. Not where blocks are shipped: the bucket's are compacted there.
    pub compacts: bool,
}

/// Whom the head keeper works with.
#[derive(Debug, Clone)]
pub struct HeadKeeperPorts {
    /// The database.
    pub tsdb: Tsdb,
    /// Where cutting runs.
    pub bulk: Pool,
    /// Told of new blocks.
    pub shipper: Recipient<BlockCut>,
    /// Told how the duties stand.
    pub steward: Recipient<DutyReport>,
    /// Blocks whose local copy may go; `None` where nothing is shipped and every copy may.
    pub released: Option<ReleasedBlocks>,
}

/// How the head keeper is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadKeeperState {
    /// A cut is running.
    pub is_cutting: bool,
    /// Blocks cut in this life.
    pub n_cut: u64,
    /// What the last pass failed with.
    pub last_error: Option<String>,
}

/// Decides when the head is cut. State that cannot be rebuilt lives in the database, not here.
#[derive(Debug)]
pub struct HeadKeeper {
    settings: HeadKeeperSettings,
    ports: HeadKeeperPorts,
    state: HeadKeeperState,
    is_syncing: bool,
}

/// What one pass in the `bulk` pool did.
struct Pass {
    cut: Vec<BlockId>,
    compacted: Vec<BlockId>,
    deleted: Vec<BlockId>,
    error: Option<TsdbError>,
}

impl HeadKeeper {
    /// Ready to be kept.
    pub fn new(settings: HeadKeeperSettings, ports: HeadKeeperPorts) -> Self {
        Self {
            settings,
            ports,
            state: HeadKeeperState::default(),
            is_syncing: false,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.state.is_cutting {
            return;
        }
        let (tsdb, released) = (self.ports.tsdb.clone(), self.ports.released.clone());
        let compacts = self.settings.compacts;
        let run = move || pass(&tsdb, released.as_ref(), compacts);
        let Ok(pass) = self.ports.bulk.run(run) else {
            // The pool has more urgent work: the next tick looks again.
            return;
        };
        self.state.is_cutting = true;
        ctx.spawn(
            pass.into_actor(self)
                .map(|pass, keeper, _| keeper.note(pass)),
        );
    }

    fn note(&mut self, pass: Result<Pass, PoolPanic>) {
        self.state.is_cutting = false;
        let state = match pass {
            Ok(pass) => self.note_pass(pass),
            Err(panic) => {
                tracing::error!(
                    error = &panic as &dyn std::error::Error,
                    "cutting a block panicked"
                );
                self.state.last_error = Some(panic.to_string());
                DutyState::Behind {
                    reason: panic.to_string(),
                }
            }
        };
        self.report(
            "cut blocks",
            state,
            self.settings.look_every.saturating_mul(4),
        );
        self.report(
            "take samples",
            taking(&self.ports.tsdb),
            self.settings.look_every.saturating_mul(4),
        );
    }

    fn note_pass(&mut self, pass: Pass) -> DutyState {
        self.state.n_cut += pass.cut.len() as u64;
        if !pass.cut.is_empty() {
            tracing::info!(blocks = ?pass.cut, "cut blocks from the head");
            // A shipper that is being restarted looks at the directory itself when it is back.
            self.ports
                .shipper
                .try_send(BlockCut { blocks: pass.cut })
                .ok();
        }
        if !pass.compacted.is_empty() {
            tracing::info!(blocks = ?pass.compacted, "compacted local blocks");
        }
        if !pass.deleted.is_empty() {
            tracing::info!(blocks = ?pass.deleted, "deleted local blocks beyond the retention");
        }
        match pass.error {
            None => {
                self.state.last_error = None;
                DutyState::Ok
            }
            Some(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cut or compact blocks"
                );
                let reason = error.to_string();
                self.state.last_error = Some(reason.clone());
                let what_to_do =
                    "make room or repair the disk; it is tried again by itself".to_owned();
                DutyState::Blocked { reason, what_to_do }
            }
        }
    }

    fn sync(&mut self, ctx: &mut Context<Self>) {
        if self.is_syncing {
            return;
        }
        self.is_syncing = true;
        let tsdb = self.ports.tsdb.clone();
        let synced = tokio::task::spawn_blocking(move || tsdb.sync());
        ctx.spawn(synced.into_actor(self).map(|synced, keeper, _| {
            keeper.is_syncing = false;
            let error = match synced {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic.to_string()),
            };
            let state = match error {
                None => DutyState::Ok,
                Some(reason) => DutyState::Blocked {
                    reason,
                    what_to_do: "the log takes no more samples: repair the disk and restart"
                        .to_owned(),
                },
            };
            let within = keeper
                .settings
                .sync_every
                .unwrap_or_default()
                .saturating_mul(30);
            keeper.report("sync the log", state, within);
        }));
    }

    fn report(&self, duty: &'static str, state: DutyState, within: Duration) {
        let next_within_ms = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        self.ports
            .steward
            .try_send(DutyReport {
                duty,
                state,
                next_within_ms,
            })
            .ok();
    }
}

/// Whether the head takes samples.
fn taking(tsdb: &Tsdb) -> DutyState {
    if let Some(reason) = tsdb.head().poisoned() {
        return DutyState::Blocked {
            reason,
            what_to_do: "the log takes no more samples: repair the disk and restart".to_owned(),
        };
    }
    if tsdb.head().is_full() {
        return DutyState::Blocked {
            reason: format!("the disk that holds {} is full", tsdb.dir().display()),
            what_to_do: "make room; samples are taken again by themselves".to_owned(),
        };
    }
    DutyState::Ok
}

/// Cuts everything that is due, then compacts until the next cut is, then deletes what retention allows.
fn pass(tsdb: &Tsdb, released: Option<&ReleasedBlocks>, compacts: bool) -> Pass {
    let mut pass = Pass {
        cut: Vec::new(),
        compacted: Vec::new(),
        deleted: Vec::new(),
        error: None,
    };
    if tsdb.is_replaying() {
        // Everything else needs what the log holds.
        return pass;
    }
    while tsdb.cut_due().is_some() {
        match tsdb.cut() {
            Ok(Some(meta)) => pass.cut.push(meta.ulid),
            Ok(None) => (),
            Err(error) => {
                pass.error = Some(error);
                break;
            }
        }
    }
    if pass.error.is_none() {
        match tsdb.evict_stale() {
            Ok(metas) => pass.cut.extend(metas.iter().map(|meta| meta.ulid)),
            Err(error) => pass.error = Some(error),
        }
    }
    if let Err(error) = tsdb.note_redo_point() {
        // Without it the next start takes longer, and finds the same.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "note from where on the next start reads the log"
        );
    }
    while compacts && pass.error.is_none() && tsdb.cut_due().is_none() {
        match tsdb.compact() {
            Ok(Some(done)) => pass.compacted.extend(done.block.map(|meta| meta.ulid)),
            Ok(None) => break,
            Err(error) => pass.error = Some(error),
        }
    }
    if !pass.cut.is_empty() && pass.error.is_none() {
        match tsdb.cut_out_of_order() {
            Ok(late) => pass.cut.extend(late.iter().map(|meta| meta.ulid)),
            Err(error) => pass.error = Some(error),
        }
    }
    // Without a bucket every block is the only copy.
    let made = released.map(|released| tsdb.make_room(&|meta| released.contains(meta.ulid)));
    match made.unwrap_or_else(|| tsdb.make_room(&|_| false)) {
        Ok(deleted) => pass.deleted = deleted,
        Err(error) => pass.error = pass.error.or(Some(error)),
    }
    let is_released = |id| released.is_none_or(|released| released.contains(id));
    match tsdb.apply_retention(&|meta| is_released(meta.ulid)) {
        Ok(deleted) => pass.deleted.extend(deleted),
        Err(error) => pass.error = pass.error.or(Some(error)),
    }
    // The process is about to end, and the next start does it.
    pass.error = pass.error.filter(|error| !error.is_canceled());
    pass
}

impl Actor for HeadKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(self.settings.look_every, Self::look);
        if let Some(every) = self.settings.sync_every {
            ctx.run_interval(every, Self::sync);
        }
        self.look(ctx);
    }
}

impl Supervised for HeadKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = HeadKeeperState::default();
        self.is_syncing = false;
    }
}

impl Handler<LookNow> for HeadKeeper {
    type Result = ();

    fn handle(&mut self, _: LookNow, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Administer> for HeadKeeper {
    type Result = ResponseFuture<Result<Option<String>, String>>;

    fn handle(&mut self, wish: Administer, _: &mut Context<Self>) -> Self::Result {
        let tsdb = self.ports.tsdb.clone();
        let run = self.ports.bulk.run(move || administer(&tsdb, &wish));
        Box::pin(async move {
            let done = run.map_err(|busy| busy.to_string())?.await;
            let done = done.map_err(|panic| panic.to_string())?;
            done.map_err(|error| error.to_string())
        })
    }
}

fn administer(tsdb: &Tsdb, wish: &Administer) -> Result<Option<String>, TsdbError> {
    match wish {
        Administer::DeleteSeries {
            matcher_sets,
            interval,
        } => {
            for matchers in matcher_sets {
                tsdb.delete_series(matchers, *interval)?;
            }
            Ok(None)
        }
        Administer::CleanTombstones => tsdb.clean_tombstones().map(|_| None),
        Administer::Snapshot { skip_head } => tsdb.snapshot(*skip_head).map(Some),
    }
}

impl Handler<Observe<HeadKeeperState>> for HeadKeeper {
    type Result = MessageResult<Observe<HeadKeeperState>>;

    fn handle(&mut self, _: Observe<HeadKeeperState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.clone())
    }
}

panics_on_demand!(HeadKeeper);
