//! The log is replayed while the appliance takes samples and answers: who waits for it, and what is said meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::api::http::{ReplayState, WalReplay};
use crate::appliance::error::StartError;
use crate::appliance::ports::Ports;
use crate::tsdb::{Opening, TakenOver, TsdbError};

/// How often the log says how far the replay is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a full disk is waited for before it is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(5);

/// Runs the opening to its end on a thread that may wait for the disk. A full disk is waited for.
pub(crate) async fn replay(ports: Arc<Ports>, mut opening: Opening) -> Result<(), StartError> {
    loop {
        #[cfg(debug_assertions)]
        held_back().await;
        let result;
        (opening, result) = told(&ports, opening).await?;
        match result {
            Ok(taken) => {
                log_end(&ports, taken);
                return Ok(());
            }
            Err(error) if error.is_full() || opening.is_full() => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the disk is full: the log is replayed, and what came meanwhile waits for room"
                );
                sleep(FULL_DISK_PAUSE).await;
            }
            Err(source) => return Err(ports.cannot_open(source)),
        }
    }
}

type Ran = (Opening, Result<TakenOver, TsdbError>);

/// One attempt, and a line every few seconds.
async fn told(ports: &Ports, mut opening: Opening) -> Result<Ran, StartError> {
    let mut running = tokio::task::spawn_blocking(move || {
        let result = opening.run();
        (opening, result)
    });
    let began = Instant::now();
    let mut ticks = interval_at(began + TELL_EVERY, TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ran = &mut running => {
                return ran.map_err(|panic| StartError::Threads(std::io::Error::other(panic)));
            }
            _ = ticks.tick() => tell(ports, began.elapsed()),
        }
    }
}

fn tell(ports: &Ports, elapsed: Duration) {
    let (n_done, n_total) = ports.replay.get();
    let eta = eta(elapsed, ports.replay.bytes());
    tracing::info!(
        segments = n_done,
        of = n_total,
        samples = ports.replay.n_samples(),
        eta = eta.map_or_else(|| "unknown".to_owned(), |eta| format!("{eta}s")),
        "replaying the log; samples are taken"
    );
}

/// Seconds to go, if it goes on as it went.
fn eta(elapsed: Duration, (n_done, n_total): (u64, u64)) -> Option<u64> {
    let left = n_total.saturating_sub(n_done);
    let ms = u64::try_from(elapsed.as_millis()).ok()?;
    Some(ms.checked_mul(left)?.checked_div(n_done)?.div_ceil(1000))
}

/// How far it is, for whoever asks.
pub(crate) fn wal_replay(ports: &Ports) -> WalReplay {
    let (n_read, n_segments) = ports.replay.get();
    let segments = ports.replay.segments();
    let opened = ports.opened.get();
    let is_done = opened.is_some_and(|opened| !opened.tsdb.is_replaying());
    WalReplay {
        min: u64::from(segments.min),
        max: u64::from(segments.max),
        current: u64::from(segments.current),
        n_read: u64::from(n_read),
        n_segments: u64::from(n_segments),
        state: match n_segments {
            _ if is_done => ReplayState::Done,
            0 => ReplayState::Waiting,
            _ => ReplayState::InProgress,
        },
    }
}

fn log_end(ports: &Ports, taken: TakenOver) {
    if let Some(opened) = ports.opened.get() {
        let replayed = opened.tsdb.replayed();
        tracing::info!(
            series = replayed.n_series,
            series_from_snapshot = replayed.n_restored,
            samples = replayed.n_samples,
            records_passed_over = replayed.n_records_redone,
            chunks_from_redo_point = replayed.n_chunks_redone,
            came_meanwhile = taken.n_samples,
            "replayed the log"
        );
    }
    if 0 < taken.n_refused {
        tracing::warn!(
            n_samples = taken.n_refused,
            "samples that came while the log was replayed do not fit to what it held, and are refused"
        );
    }
}

/// In test builds, whoever holds back a pipe holds back the replay: opening one waits for the other end.
#[cfg(debug_assertions)]
async fn held_back() {
    if let Some(pipe) = std::env::var_os("GAUNTLET_REPLAY_AFTER") {
        tokio::fs::read(pipe).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_go_is_that_of_the_segments_left() {
        let after = |s, done| eta(Duration::from_secs(s), done);
        assert_eq!(after(10, (5, 20)), Some(30));
        assert_eq!(after(1, (3, 4)), Some(1));
        assert_eq!(after(10, (20, 20)), Some(0));
        assert_eq!(after(10, (0, 20)), None);
    }
}
