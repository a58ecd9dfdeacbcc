//! When the bucket's blocks are compacted, downsampled, retired and cleaned up: four duties, none of which waits for
//! another.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Mutex;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::panics_on_demand;
use crate::actors::shipper::BlockShipped;
use crate::compactor::{Compactor, CompactorError, Duty};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::model::BlockId;

/// How often the log is told how far the duties are that run.
const TELL_EVERY: Duration = Duration::from_mins(5);

/// Begins nothing from now on; answered when what runs has let go.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopCompacting;

/// Whom the compactor works with.
#[derive(Debug, Clone)]
pub struct CompactorPorts {
    /// What does the work.
    pub compactor: Compactor,
    /// Raised at the end.
    pub cancel: Cancel,
    /// One run of each duty at a time, whichever life of the actor began it.
    pub running: Arc<[Mutex<()>; 4]>,
    /// Told what arrived.
    pub gateway: Recipient<BlockShipped>,
    /// Told how the duties stand.
    pub steward: Recipient<DutyReport>,
}

/// What a run of a duty came to.
#[derive(Debug, Default)]
struct Outcome {
    /// Blocks that are new in the bucket.
    made: Vec<BlockId>,
    /// What did not work out, and what would help.
    trouble: Option<(String, String)>,
}

/// How the compactor is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactorState {
    /// Duties that run now.
    pub running: Vec<&'static str>,
    /// Runs that ended in this life.
    pub n_runs: u64,
    /// Runs that failed in this life.
    pub n_failed: u64,
    /// Blocks made in this life.
    pub n_made: u64,
}

/// Decides when; the four duties run beside each other.
#[derive(Debug)]
pub struct CompactorActor {
    /// `None` does nothing.
    every: Option<Duration>,
    ports: CompactorPorts,
    state: CompactorState,
}

impl CompactorActor {
    /// Looks every `every`; `None` does nothing.
    pub fn new(every: Option<Duration>, ports: CompactorPorts) -> Self {
        Self {
            every,
            ports,
            state: CompactorState::default(),
        }
    }

    fn begin(&mut self, task: Duty, every: Duration, ctx: &mut Context<Self>) {
        if self.state.running.contains(&task.name()) {
            // Still alive: it may take hours.
            self.report(task, DutyState::Ok, every);
            return;
        }
        if self.ports.cancel.reason().is_some() {
            return;
        }
        self.state.running.push(task.name());
        let (compactor, cancel) = (self.ports.compactor.clone(), self.ports.cancel.clone());
        let running = Arc::clone(&self.ports.running);
        // On the socket runtime: the actor that asked may be restarted, the run goes on and the next one waits for it.
        let run = tokio::spawn(async move {
            let turn = running.get(task.number());
            let _one_at_a_time = match turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            run(task, &compactor, &cancel).await
        });
        ctx.spawn(run.into_actor(self).map(move |ended, actor, _| {
            actor.state.running.retain(|name| *name != task.name());
            actor.state.n_runs += 1;
            match ended {
                Ok(Ok(outcome)) => actor.note(task, outcome, every),
                Ok(Err(CompactorError::Canceled)) => (),
                Ok(Err(error)) => actor.fail(task, error.to_string(), every),
                Err(panic) => actor.fail(task, panic.to_string(), every),
            }
        }));
    }

    fn note(&mut self, task: Duty, outcome: Outcome, every: Duration) {
        if !outcome.made.is_empty() {
            tracing::info!(duty = task.name(), blocks = ?outcome.made, "made blocks");
            self.state.n_made += outcome.made.len() as u64;
            let blocks = outcome.made;
            // A gateway that is being restarted syncs with the bucket itself when it is back.
            self.ports.gateway.try_send(BlockShipped { blocks }).ok();
        }
        let state = match outcome.trouble {
            None => DutyState::Ok,
            Some((reason, what_to_do)) => DutyState::Blocked { reason, what_to_do },
        };
        self.report(task, state, every);
    }

    fn fail(&mut self, task: Duty, reason: String, every: Duration) {
        self.state.n_failed += 1;
        tracing::warn!(duty = task.name(), reason, "it is tried again");
        let what_to_do =
            "see that the bucket can be reached and written, and that there is room in the data directory; it is tried again by itself"
                .to_owned();
        self.report(task, DutyState::Blocked { reason, what_to_do }, every);
    }

    fn report(&self, task: Duty, state: DutyState, every: Duration) {
        let within = every.saturating_mul(4);
        let next_within_ms = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let report = DutyReport {
            duty: task.name(),
            state,
            next_within_ms,
        };
        self.ports.steward.try_send(report).ok();
    }
}

async fn run(
    task: Duty,
    compactor: &Compactor,
    cancel: &Cancel,
) -> Result<Outcome, CompactorError> {
    let again = "it is tried again by itself; if it stays so, see the log".to_owned();
    match task {
        Duty::Compact => {
            let report = compactor.compact(cancel).await?;
            let new = report
                .made
                .iter()
                .filter_map(|made| Some(made.block.as_ref()?.ulid));
            let new = new.chain(report.repaired.iter().map(|(_, block)| *block));
            let aside = compactor.status().aside;
            let trouble = match (aside.first_key_value(), report.failed.first()) {
                (Some((block, first)), _) => {
                    let n = aside.len();
                    let reason = format!("{n} block(s) are left out; {block}: {}", first.reason);
                    Some((reason, first.what_to_do.clone()))
                }
                (None, Some((group, reason))) => Some((format!("group {group}: {reason}"), again)),
                (None, None) => None,
            };
            Ok(Outcome {
                made: new.collect(),
                trouble,
            })
        }
        Duty::Downsample => {
            let report = compactor.downsample(cancel).await?;
            let aside = compactor.status().aside_coarser;
            let trouble = match (aside.first_key_value(), report.failed.first()) {
                (Some((block, first)), _) => {
                    let n = aside.len();
                    let reason = format!(
                        "{n} block(s) stay as fine as they are; {block}: {}",
                        first.reason
                    );
                    Some((reason, first.what_to_do.clone()))
                }
                (None, Some((block, reason))) => Some((format!("block {block}: {reason}"), again)),
                (None, None) => None,
            };
            let made = report
                .made
                .into_iter()
                .filter_map(|(_, made)| made)
                .collect();
            Ok(Outcome { made, trouble })
        }
        Duty::Retire => {
            compactor.retire().await?;
            Ok(Outcome::default())
        }
        Duty::Clean => {
            let report = compactor.clean(cancel).await?;
            let first = report.failed.first();
            let trouble = first.map(|(block, reason)| (format!("block {block}: {reason}"), again));
            Ok(Outcome {
                made: Vec::new(),
                trouble,
            })
        }
    }
}

impl Actor for CompactorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(every) = self.every else {
            return;
        };
        for task in Duty::ALL {
            ctx.run_interval(every, move |actor, ctx| actor.begin(task, every, ctx));
            self.begin(task, every, ctx);
        }
        ctx.run_interval(TELL_EVERY, |actor, _| {
            for task in Duty::ALL {
                actor.ports.compactor.progress(task).tell();
            }
        });
    }
}

impl Supervised for CompactorActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = CompactorState::default();
    }
}

impl Handler<StopCompacting> for CompactorActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopCompacting, _: &mut Context<Self>) -> Self::Result {
        self.every = None;
        self.ports.cancel.cancel(CancelReason::Canceled);
        let running = Arc::clone(&self.ports.running);
        Box::pin(async move {
            for turn in running.iter() {
                drop(turn.lock().await);
            }
        })
    }
}

impl Handler<Observe<CompactorState>> for CompactorActor {
    type Result = MessageResult<Observe<CompactorState>>;

    fn handle(&mut self, _: Observe<CompactorState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.clone())
    }
}

panics_on_demand!(CompactorActor);
