//! The log to the bucket, every few seconds.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::panics_on_demand;
use crate::shipper::{LogReport, LogShipper, LogView, ShipError, Upkeep};
use crate::tsdb::{LogEnds, Tsdb};
use crate::wal::LogEnd;

/// Ships what is left and nothing more from then on; answered when it is there.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopShippingLog;

/// Whom the log shipper works with.
#[derive(Debug, Clone)]
pub struct LogShipperPorts {
    /// What does the work.
    pub shipper: Arc<LogShipper>,
    /// Whose log it is.
    pub tsdb: Tsdb,
    /// Told how the duty stands.
    pub steward: Recipient<DutyReport>,
}

/// How the log shipper is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogShipperState {
    /// Passes that are under way.
    pub n_under_way: usize,
    /// The log in the bucket is being brought in order.
    pub is_keeping: bool,
    /// Passes in this life.
    pub n_passes: u64,
    /// Since when some local block was not in the bucket.
    pub waits_since: Option<Instant>,
    /// What the last pass failed with.
    pub last_error: Option<String>,
    /// Why the log in the bucket is not in order.
    pub disorder: Option<String>,
}

/// A block is uploaded within this time; the log that waits longer for one is a matter for somebody.
const BLOCKS_WITHIN: Duration = Duration::from_mins(10);
/// Passes that may be under way at once: one whose upload takes long does not keep the next from its own.
const UNDER_WAY_MAX: usize = 4;
/// What is held back of the time that may be lost, for passes that take longer than those before: half of it, or this.
const MARGIN_MAX: Duration = Duration::from_secs(2);

/// Decides when the log is shipped. Nothing that writes the log waits for it.
#[derive(Debug)]
pub struct LogShipperActor {
    /// `None` ships nothing.
    every: Option<Duration>,
    /// How long a pass may take.
    slowest: Duration,
    /// A pass is due, and too many are under way.
    is_due: bool,
    exposure: Exposure,
    ports: LogShipperPorts,
    state: LogShipperState,
}

impl LogShipperActor {
    /// Ships so that what is not in the bucket is never older than `every`; `None` ships nothing.
    pub fn new(every: Option<Duration>, ports: LogShipperPorts) -> Self {
        Self {
            every,
            slowest: Duration::ZERO,
            is_due: false,
            exposure: Exposure::default(),
            ports,
            state: LogShipperState::default(),
        }
    }

    fn ship(&mut self, ctx: &mut Context<Self>) {
        let Some(every) = self.every else {
            return;
        };
        self.is_due = UNDER_WAY_MAX <= self.state.n_under_way;
        if self.is_due {
            return;
        }
        self.state.n_under_way += 1;
        ctx.run_later(pause(every, self.slowest), Self::ship);
        let began = Instant::now();
        // On the socket runtime: the actor that asked may be restarted, the pass goes on.
        let pass = tokio::spawn(pass(self.ports.clone()));
        ctx.spawn(pass.into_actor(self).map(move |pass, actor, ctx| {
            actor.state.n_under_way = actor.state.n_under_way.saturating_sub(1);
            actor.state.n_passes += 1;
            actor.slowest = slowest(actor.slowest, began.elapsed());
            match pass {
                Ok(report) => {
                    if report.failed.is_none() {
                        actor.exposure.passed(began, Instant::now(), every);
                    }
                    tracing::debug!(
                        took_ms = began.elapsed().as_millis(),
                        exposed_ms = actor.exposure.longest.as_millis(),
                        n_parts = report.n_parts,
                        n_bytes = report.n_bytes,
                        n_under_way = actor.state.n_under_way,
                        "pass over the log"
                    );
                    actor.note(report, ctx);
                }
                Err(panic) => actor.fail(&panic.to_string(), 0),
            }
            if actor.is_due {
                actor.ship(ctx);
            }
        }));
    }

    fn note(&mut self, report: LogReport, ctx: &mut Context<Self>) {
        let LogReport {
            backlog_bytes,
            upkeep,
            failed,
            ..
        } = report;
        match failed {
            None => {
                self.state.last_error = None;
                self.tell();
            }
            // The one before it has said more.
            Some(ShipError::LogBehind { .. }) if self.state.last_error.is_some() => (),
            Some(error) => self.fail(&error.to_string(), backlog_bytes),
        }
        if let (Some(upkeep), Some(_)) = (upkeep, self.every) {
            self.keep_up(upkeep, ctx);
        }
    }

    /// Beside the passes: it may take much longer than they may.
    fn keep_up(&mut self, upkeep: Upkeep, ctx: &mut Context<Self>) {
        if self.state.is_keeping {
            return;
        }
        self.state.is_keeping = true;
        let shipper = Arc::clone(&self.ports.shipper);
        let began = Instant::now();
        let kept = tokio::spawn(async move { shipper.keep_up(&upkeep).await });
        ctx.spawn(kept.into_actor(self).map(move |kept, actor, _| {
            actor.state.is_keeping = false;
            let took_ms = began.elapsed().as_millis();
            tracing::debug!(took_ms, "upkeep of the log in the bucket");
            let disorder = match kept {
                Ok(Ok(waits)) => {
                    let since = actor.state.waits_since.unwrap_or_else(Instant::now);
                    actor.state.waits_since = waits.then_some(since);
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic.to_string()),
            };
            if let Some(reason) = disorder
                .as_ref()
                .filter(|_| disorder != actor.state.disorder)
            {
                tracing::warn!(reason, "the log in the bucket is not in order");
            }
            actor.state.disorder = disorder;
        }));
    }

    /// How the duty stands after a pass that brought everything to the bucket.
    fn tell(&self) {
        if let Some(reason) = self.state.disorder.clone() {
            return self.report(blocked(reason));
        }
        let every = self.every.unwrap_or_default();
        let exposed = self.exposure.beyond(every);
        let waits = self
            .state
            .waits_since
            .filter(|since| BLOCKS_WITHIN < since.elapsed());
        let waits = waits.map(|_| {
            "not all local blocks are in the bucket yet, so the log of what they hold stays there"
                .to_owned()
        });
        let behind = exposed.or(waits);
        let behind = behind.map(|reason| DutyState::Behind { reason });
        self.report(behind.unwrap_or(DutyState::Ok));
    }

    fn fail(&mut self, reason: &str, backlog_bytes: u64) {
        if self.state.last_error.as_deref() != Some(reason) {
            tracing::warn!(reason, backlog_bytes, "shipping the log waits");
        }
        self.state.last_error = Some(reason.to_owned());
        self.report(blocked(format!(
            "{reason}; {backlog_bytes} bytes of the log are on this host only"
        )));
    }

    fn report(&self, state: DutyState) {
        let within = self.every.unwrap_or_default().saturating_mul(6);
        let within = within.max(Duration::from_secs(30));
        let next_within_ms = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        self.ports
            .steward
            .try_send(DutyReport {
                duty: "ship the log",
                state,
                next_within_ms,
            })
            .ok();
    }
}

fn blocked(reason: String) -> DutyState {
    let what_to_do =
        "see that the bucket can be reached and written; it is tried again by itself".to_owned();
    DutyState::Blocked { reason, what_to_do }
}

/// What a lost host would lose: all that came since the last pass began that has ended.
#[derive(Debug, Default)]
struct Exposure {
    last_began: Option<Instant>,
    /// The most of it, which is just before a pass ends.
    longest: Duration,
    /// Passes in a row with more of it than there is to be.
    n_beyond: u32,
}

impl Exposure {
    /// As many passes in a row are no chance.
    const N_BEYOND: u32 = 8;

    fn passed(&mut self, began: Instant, ended: Instant, every: Duration) {
        if self.last_began.is_some_and(|last_began| began < last_began) {
            return;
        }
        if let Some(last_began) = self.last_began.replace(began) {
            self.longest = ended - last_began;
            self.n_beyond = match every < self.longest {
                true => self.n_beyond.saturating_add(1),
                false => 0,
            };
        }
    }

    /// Why the promise is not kept, if for some time it was not.
    fn beyond(&self, every: Duration) -> Option<String> {
        (Self::N_BEYOND <= self.n_beyond).then(|| {
            format!(
                "passes take so long that a lost host loses up to {:.1?} and not {every:.1?}: raise bucket.wal_interval, \
                 or give the host or the bucket more speed",
                self.longest
            )
        })
    }
}

/// How long a pass may be expected to take: as long as the slowest of late did, which is forgotten bit by bit.
fn slowest(before: Duration, took: Duration) -> Duration {
    took.max(before - before / 8)
}

/// How long after the beginning of a pass the next one begins, where one takes so long. Until that has ended a lost host
/// loses what came since the first of them began, which is to be less than `every` by a margin: passes are slowest when
/// there is most to lose.
fn pause(every: Duration, takes: Duration) -> Duration {
    let margin = (every / 2).min(MARGIN_MAX);
    let within = every.saturating_sub(margin);
    within.saturating_sub(takes).max(every / 10)
}

async fn pass(ports: LogShipperPorts) -> LogReport {
    let LogShipperPorts { shipper, tsdb, .. } = ports;
    // Waits for a commit that is being written.
    match tokio::task::spawn_blocking(move || view(&tsdb)).await {
        Ok(view) => shipper.pass(&view).await,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it this.
            Err(_cancelled) => LogReport::default(),
        },
    }
}

/// What the database says of its logs, under the names that they have in the data directory.
fn view(tsdb: &Tsdb) -> LogView {
    let at_ms = tsdb.clock().now_ms();
    let floor_ms = tsdb.blocks_end();
    let (root, (wal, wbl), is_replaying) = match tsdb.log_ends() {
        LogEnds::Replayed(ends) => ("", ends, false),
        LogEnds::Young(ends) => ("head-young/", ends, true),
    };
    let mut ends: Vec<(String, LogEnd)> = vec![(format!("{root}wal"), wal)];
    ends.extend(wbl.map(|wbl| (format!("{root}wbl"), wbl)));
    LogView {
        ends,
        is_replaying,
        floor_ms,
        at_ms,
    }
}

impl Actor for LogShipperActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.every.is_some() {
            self.ship(ctx);
        }
    }
}

impl Supervised for LogShipperActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // Passes and upkeep go on, but nobody is told of their end; those that begin now take turns with them.
        self.state = LogShipperState::default();
        self.is_due = false;
    }
}

impl Handler<StopShippingLog> for LogShipperActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopShippingLog, _: &mut Context<Self>) -> Self::Result {
        let ships = self.every.take().is_some();
        let ports = self.ports.clone();
        Box::pin(async move {
            if !ships {
                return;
            }
            let shipper = Arc::clone(&ports.shipper);
            let report = pass(ports).await;
            if let Some(error) = report.failed {
                tracing::warn!(%error, backlog_bytes = report.backlog_bytes, "the end of the log is on this host only");
            }
            if let Some(upkeep) = report.upkeep
                && let Err(error) = shipper.keep_up(&upkeep).await
            {
                tracing::warn!(%error, "the log in the bucket is not in order");
            }
        })
    }
}

impl Handler<Observe<LogShipperState>> for LogShipperActor {
    type Result = MessageResult<Observe<LogShipperState>>;

    fn handle(&mut self, _: Observe<LogShipperState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.clone())
    }
}

panics_on_demand!(LogShipperActor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pass_takes_is_taken_off_the_pause_and_a_margin() {
        let ms = Duration::from_millis;
        for (every, took, expect) in [
            (10_000, 0, 8_000),
            (10_000, 300, 7_700),
            (10_000, 4_000, 4_000),
            (10_000, 60_000, 1_000),
            (1_000, 0, 500),
            (1_000, 200, 300),
            (1_000, 700, 100),
        ] {
            let paused = pause(ms(every), ms(took));
            assert_eq!(paused, ms(expect), "{took} of {every} ms");
        }
    }

    #[test]
    fn a_promise_that_passes_are_too_slow_for_is_said_to_be_broken() {
        let ms = Duration::from_millis;
        let mut exposure = Exposure::default();
        let mut began = Instant::now();
        let mut pass = |exposure: &mut Exposure, takes: u64| {
            exposure.passed(began, began + ms(takes), ms(1000));
            began += ms(takes + 100);
            exposure.beyond(ms(1000))
        };
        // The second ends 1,300 ms after the first began, and so on: eight in a row, and not before.
        for n in 0..8 {
            assert_eq!(pass(&mut exposure, 600), None, "pass {n}");
        }
        let said = pass(&mut exposure, 600).unwrap();
        assert!(said.contains("up to 1.3s and not 1.0s"), "{said}");
        assert!(pass(&mut exposure, 100).is_none());
    }

    #[test]
    fn a_slow_pass_is_expected_again_for_a_while() {
        let ms = Duration::from_millis;
        assert_eq!(slowest(ms(100), ms(400)), ms(400));
        assert_eq!(slowest(ms(400), ms(100)), ms(350));
        let mut takes = ms(400);
        for _ in 0..16 {
            takes = slowest(takes, ms(100));
        }
        assert_eq!(takes, ms(100));
    }
}
