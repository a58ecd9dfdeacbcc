//! Knows how every duty stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;

use crate::actors::Observe;
use crate::actors::duty::{Duty, DutyReport, DutyState, judge};
use crate::actors::panics_on_demand;
use crate::foundation::Clock;

/// How often it is looked for duties that went silent, and the service manager is told that the appliance lives.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Duties and how they stand, as judged now.
pub type Duties = Vec<Duty>;

/// Where everybody reads how the duties stand, without asking the steward.
pub type DutyBoard = Arc<ArcSwap<Duties>>;

/// Hears reports and notices silence. What it knows is rebuilt from the reports that follow a restart.
#[derive(Debug)]
pub struct Steward {
    clock: Arc<dyn Clock>,
    board: DutyBoard,
    duties: BTreeMap<&'static str, Duty>,
    told: BTreeMap<&'static str, DutyState>,
}

impl Steward {
    /// Knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>, board: DutyBoard) -> Self {
        Self {
            clock,
            board,
            duties: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn look(&mut self) {
        let judged = self.judged();
        self.board.store(Arc::new(judged.clone()));
        for duty in judged {
            let before = self.told.insert(duty.name, duty.state.clone());
            let is_news = before.as_ref().map(DutyState::as_str) != Some(duty.state.as_str());
            match &duty.state {
                DutyState::Ok if is_news && before.is_some() => {
                    tracing::info!(duty = duty.name, "duty is done in time again");
                }
                DutyState::Behind { reason } if is_news => {
                    tracing::warn!(duty = duty.name, reason, "duty is behind");
                }
                DutyState::Blocked { reason, what_to_do } if is_news => {
                    tracing::error!(duty = duty.name, reason, what_to_do, "duty is blocked");
                }
                DutyState::Ok | DutyState::Behind { .. } | DutyState::Blocked { .. } => (),
            }
        }
        sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
    }

    fn judged(&self) -> Duties {
        let now_ms = self.clock.now_ms();
        let judged = self.duties.values().map(|duty| Duty {
            state: judge(duty, now_ms),
            ..duty.clone()
        });
        judged.collect()
    }
}

impl Actor for Steward {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(LOOK_EVERY, |steward, _| steward.look());
    }
}

impl Supervised for Steward {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.duties.clear();
        self.told.clear();
    }
}

impl Handler<DutyReport> for Steward {
    type Result = ();

    fn handle(&mut self, report: DutyReport, _: &mut Context<Self>) {
        let now_ms = self.clock.now_ms();
        let since_ms = match self.duties.get(report.duty) {
            Some(before) if before.state.as_str() == report.state.as_str() => before.since_ms,
            Some(_) | None => now_ms,
        };
        let due_ms = now_ms.saturating_add(report.next_within_ms);
        self.duties.insert(
            report.duty,
            Duty {
                name: report.duty,
                state: report.state,
                since_ms,
                due_ms,
            },
        );
        self.board.store(Arc::new(self.judged()));
    }
}

impl Handler<Observe<Duties>> for Steward {
    type Result = MessageResult<Observe<Duties>>;

    fn handle(&mut self, _: Observe<Duties>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.judged())
    }
}

panics_on_demand!(Steward);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::ManualClock;

    #[actix::test]
    async fn a_duty_that_goes_silent_is_found_behind() {
        let clock = ManualClock::new(0);
        let steward = Steward::new(Arc::new(clock.clone()), DutyBoard::default()).start();
        let report = DutyReport {
            duty: "ship blocks",
            state: DutyState::Ok,
            next_within_ms: 1000,
        };
        steward.send(report).await.unwrap();
        clock.set(1000);
        assert_eq!(
            steward.send(Observe::<Duties>::default()).await.unwrap()[0].state,
            DutyState::Ok
        );
        clock.set(4000);
        let duties = steward.send(Observe::<Duties>::default()).await.unwrap();
        assert_eq!(duties[0].state.as_str(), "behind");
    }

    #[actix::test]
    async fn a_state_keeps_its_beginning_while_it_lasts() {
        let clock = ManualClock::new(10);
        let steward = Steward::new(Arc::new(clock.clone()), DutyBoard::default()).start();
        let blocked = DutyState::Blocked {
            reason: "no bucket".to_owned(),
            what_to_do: "wait".to_owned(),
        };
        let report = DutyReport {
            duty: "ship blocks",
            state: blocked,
            next_within_ms: 1000,
        };
        steward.send(report.clone()).await.unwrap();
        clock.set(500);
        steward.send(report).await.unwrap();
        assert_eq!(
            steward.send(Observe::<Duties>::default()).await.unwrap()[0].since_ms,
            10
        );
    }
}
