//! Duties: every background job has an owner, a deadline and a state.

use actix::prelude::*;

use crate::model::TimestampMs;

/// How a duty stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DutyState {
    /// Done in time.
    Ok,
    /// It works, but it is late.
    Behind {
        /// With what.
        reason: String,
    },
    /// It does not get on without help or another try.
    Blocked {
        /// Why.
        reason: String,
        /// What would help.
        what_to_do: String,
    },
}

impl DutyState {
    /// As logs and pages write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Behind { .. } => "behind",
            Self::Blocked { .. } => "blocked",
        }
    }
}

/// An owner says how its duty stands; also the sign that it is alive.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct DutyReport {
    /// Which duty; one name has one owner.
    pub duty: &'static str,
    /// How it stands.
    pub state: DutyState,
    /// The next report comes within this time, or the duty counts as behind.
    pub next_within_ms: i64,
}

/// What the steward knows of one duty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub state: DutyState,
    /// Since when it stands so.
    pub since_ms: TimestampMs,
    /// When the next report is due.
    pub due_ms: TimestampMs,
}

/// The state at `now_ms`: a duty that is silent past its deadline is behind, whatever it last said.
pub fn judge(duty: &Duty, now_ms: TimestampMs) -> DutyState {
    if duty.state == DutyState::Ok && duty.due_ms < now_ms {
        let late_s = (now_ms - duty.due_ms) / 1000;
        return DutyState::Behind {
            reason: format!("no report for {late_s} s after its deadline"),
        };
    }
    duty.state.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duty(state: DutyState) -> Duty {
        Duty {
            name: "cut blocks",
            state,
            since_ms: 0,
            due_ms: 10_000,
        }
    }

    #[test]
    fn a_silent_duty_is_behind() {
        assert_eq!(judge(&duty(DutyState::Ok), 10_000), DutyState::Ok);
        let late = judge(&duty(DutyState::Ok), 15_000);
        assert_eq!(
            late,
            DutyState::Behind {
                reason: "no report for 5 s after its deadline".to_owned()
            }
        );
    }

    #[test]
    fn a_blocked_duty_stays_blocked_however_late_it_is() {
        let blocked = DutyState::Blocked {
            reason: "disk full".to_owned(),
            what_to_do: "make room".to_owned(),
        };
        assert_eq!(judge(&duty(blocked.clone()), 99_000), blocked);
    }
}
