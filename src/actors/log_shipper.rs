//! The log to the bucket, every few seconds.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::panics_on_demand;
use crate::shipper::{LogReport, LogShipper, LogView};
use crate::tsdb::{LogEnds, Tsdb};
use crate::wal::LogEnd;

/// Ships what is left and nothing more from then on; answered when it is there.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopShippingLog;

/// Whom the log shipper works with.
#[derive(Debug, Clone)]
pub struct LogShipperPorts {
    /// What does the work; one pass at a time.
    pub shipper: Arc<Mutex<LogShipper>>,
    /// Whose log it is.
    pub tsdb: Tsdb,
    /// Told how the duty stands.
    pub steward: Recipient<DutyReport>,
}

/// How the log shipper is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogShipperState {
    /// A pass is running.
    pub is_shipping: bool,
    /// Passes in this life.
    pub n_passes: u64,
    /// Passes in a row after which some local block was not in the bucket.
    pub n_waiting: u32,
    /// What the last pass failed with.
    pub last_error: Option<String>,
}

/// A block is uploaded within this time; the log that waits longer for one is a matter for somebody.
const BLOCKS_WITHIN: Duration = Duration::from_mins(10);

/// Decides when the log is shipped. Nothing that writes the log waits for it.
#[derive(Debug)]
pub struct LogShipperActor {
    /// `None` ships nothing.
    every: Option<Duration>,
    /// How long a pass may take.
    slowest: Duration,
    exposure: Exposure,
    ports: LogShipperPorts,
    state: LogShipperState,
}

impl LogShipperActor {
    /// Ships every `every`; `None` ships nothing.
    pub fn new(every: Option<Duration>, ports: LogShipperPorts) -> Self {
        Self {
            every,
            slowest: Duration::ZERO,
            exposure: Exposure::default(),
            ports,
            state: LogShipperState::default(),
        }
    }

    fn ship(&mut self, ctx: &mut Context<Self>) {
        if self.every.is_none() || self.state.is_shipping {
            return;
        }
        self.state.is_shipping = true;
        let began = Instant::now();
        // On the socket runtime: the actor that asked may be restarted, the pass goes on and the next one waits for it.
        let pass = tokio::spawn(pass(self.ports.clone()));
        ctx.spawn(pass.into_actor(self).map(move |pass, actor, ctx| {
            actor.state.is_shipping = false;
            actor.state.n_passes += 1;
            match pass {
                Ok(report) => {
                    if let (Some(every), None) = (actor.every, &report.failed) {
                        actor.exposure.passed(began, Instant::now(), every);
                    }
                    actor.note(report);
                }
                Err(panic) => actor.fail(&panic.to_string(), 0),
            }
            if let Some(every) = actor.every {
                actor.slowest = slowest(actor.slowest, began.elapsed());
                ctx.run_later(pause(every, actor.slowest), Self::ship);
            }
        }));
    }

    fn note(&mut self, report: LogReport) {
        let LogReport {
            backlog_bytes,
            waits_for_blocks,
            failed,
            ..
        } = report;
        match failed {
            None => {
                self.state.last_error = None;
                self.state.n_waiting = match waits_for_blocks {
                    true => self.state.n_waiting.saturating_add(1),
                    false => 0,
                };
                let every = self.every.unwrap_or_default();
                let exposed = self
                    .exposure
                    .beyond(every)
                    .map(|reason| DutyState::Behind { reason });
                let waits = BLOCKS_WITHIN < every * self.state.n_waiting;
                let waits = waits.then(|| DutyState::Behind {
                    reason: "not all local blocks are in the bucket yet, so the log of what they hold stays there"
                        .to_owned(),
                });
                self.report(exposed.or(waits).unwrap_or(DutyState::Ok));
            }
            Some(error) => self.fail(&error.to_string(), backlog_bytes),
        }
    }

    fn fail(&mut self, reason: &str, backlog_bytes: u64) {
        if self.state.last_error.as_deref() != Some(reason) {
            tracing::warn!(reason, backlog_bytes, "shipping the log waits");
        }
        self.state.last_error = Some(reason.to_owned());
        let reason = format!("{reason}; {backlog_bytes} bytes of the log are on this host only");
        let what_to_do =
            "see that the bucket can be reached and written; it is tried again by itself"
                .to_owned();
        self.report(DutyState::Blocked { reason, what_to_do });
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

/// How long to wait before the next pass, where one takes so long. Until the next one has ended a lost host loses what came
/// since the last one began: that is not to be more than `every`, as long as passes take less than half of it.
fn pause(every: Duration, takes: Duration) -> Duration {
    every
        .saturating_sub(takes.saturating_mul(2))
        .max(every / 10)
}

async fn pass(ports: LogShipperPorts) -> LogReport {
    let mut shipper = ports.shipper.lock().await;
    let tsdb = ports.tsdb;
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
        self.state = LogShipperState::default();
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
            let report = pass(ports).await;
            if let Some(error) = report.failed {
                tracing::warn!(%error, backlog_bytes = report.backlog_bytes, "the end of the log is on this host only");
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
    fn what_a_pass_takes_is_taken_off_the_pause() {
        let ms = Duration::from_millis;
        for (took, expect) in [(0, 10_000), (300, 9_400), (4_000, 2_000), (60_000, 1_000)] {
            assert_eq!(pause(ms(10_000), ms(took)), ms(expect), "{took} ms");
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
