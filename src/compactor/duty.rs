//! How far each duty is, for whoever looks on: in the log when one begins and ends, in numbers all the while.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::compactor::watched::Progress;
use crate::foundation::Clock;
use crate::model::TimestampMs;
use crate::model::duration::format_duration;

/// What is done to the blocks of the bucket; none of them waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Blocks become fewer.
    Compact,
    /// Blocks become coarser.
    Downsample,
    /// Blocks whose time is over are marked.
    Retire,
    /// Marked blocks and leftovers go.
    Clean,
}

impl Duty {
    /// In the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Compact, Self::Downsample, Self::Retire, Self::Clean];

    /// As logs and pages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact bucket blocks",
            Self::Downsample => "downsample bucket blocks",
            Self::Retire => "retire bucket blocks",
            Self::Clean => "clean the bucket",
        }
    }

    /// Its place in [`Self::ALL`].
    pub fn number(self) -> usize {
        match self {
            Self::Compact => 0,
            Self::Downsample => 1,
            Self::Retire => 2,
            Self::Clean => 3,
        }
    }
}

/// One piece of work that goes on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// On what.
    pub what: String,
    /// Bytes that have been read of those that will be.
    pub n_bytes_done: u64,
    /// Bytes that will be read.
    pub n_bytes: u64,
}

/// How far a duty is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DutyProgress {
    /// Which.
    pub duty: Duty,
    /// Since when it runs, if it does.
    pub since_ms: Option<TimestampMs>,
    /// What it works on.
    pub works: Vec<Work>,
    /// Blocks that are done in this run.
    pub n_blocks_done: u64,
    /// Blocks that are left, as the last look at the bucket told.
    pub n_blocks_left: u64,
    /// Bytes of those that are done.
    pub n_bytes_done: u64,
    /// Bytes of those that are left.
    pub n_bytes_left: u64,
    /// How long the rest will take at the pace of this run, once that can be told.
    pub eta_ms: Option<u64>,
    /// When the last run ended, and how long it took.
    pub last: Option<(TimestampMs, i64)>,
}

#[derive(Debug, Default)]
struct Run {
    since_ms: Option<TimestampMs>,
    /// The log knows that there is something to do.
    is_told: bool,
    works: Vec<(u64, String, Arc<Progress>)>,
    n_begun: u64,
    n_blocks_done: u64,
    n_blocks_left: u64,
    n_bytes_done: u64,
    n_bytes_left: u64,
    last: Option<(TimestampMs, i64)>,
}

/// What is known of all four.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Arc<dyn Clock>,
    runs: [Mutex<Run>; 4],
}

impl Ledger {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            runs: Default::default(),
        }
    }

    fn run(&self, duty: Duty) -> parking_lot::MutexGuard<'_, Run> {
        let [compact, downsample, retire, clean] = &self.runs;
        match duty {
            Duty::Compact => compact.lock(),
            Duty::Downsample => downsample.lock(),
            Duty::Retire => retire.lock(),
            Duty::Clean => clean.lock(),
        }
    }

    /// It runs until what is returned is dropped.
    pub(crate) fn begin(&self, duty: Duty) -> Running<'_> {
        let mut run = self.run(duty);
        *run = Run {
            since_ms: Some(self.clock.now_ms()),
            n_blocks_left: run.n_blocks_left,
            n_bytes_left: run.n_bytes_left,
            last: run.last,
            ..Run::default()
        };
        drop(run);
        Running { ledger: self, duty }
    }

    /// So much is left, as the bucket was just found. The first time in a run that it is anything, the log is told.
    pub(crate) fn leave(&self, duty: Duty, n_blocks: u64, n_bytes: u64) {
        let mut run = self.run(duty);
        (run.n_blocks_left, run.n_bytes_left) = (n_blocks, n_bytes);
        if run.since_ms.is_some() && !run.is_told && 0 < n_blocks {
            run.is_told = true;
            drop(run);
            tracing::info!(duty = duty.name(), n_blocks, n_bytes, "duty begins");
        }
    }

    /// Of what is left, so much is done.
    pub(crate) fn done(&self, duty: Duty, n_blocks: u64, n_bytes: u64) {
        let mut run = self.run(duty);
        run.n_blocks_done += n_blocks;
        run.n_bytes_done = run.n_bytes_done.saturating_add(n_bytes);
        run.n_blocks_left = run.n_blocks_left.saturating_sub(n_blocks);
        run.n_bytes_left = run.n_bytes_left.saturating_sub(n_bytes);
    }

    /// Work goes on until what is returned is dropped.
    pub(crate) fn work(&self, duty: Duty, what: String) -> Working<'_> {
        let progress = Arc::new(Progress::default());
        let mut run = self.run(duty);
        let number = run.n_begun;
        run.n_begun += 1;
        run.works.push((number, what, Arc::clone(&progress)));
        drop(run);
        Working {
            ledger: self,
            duty,
            number,
            progress,
        }
    }

    pub(crate) fn progress(&self, duty: Duty) -> DutyProgress {
        let run = self.run(duty);
        let works: Vec<Work> = run
            .works
            .iter()
            .map(|(_, what, progress)| Work {
                what: what.clone(),
                n_bytes_done: progress.n_bytes_done.load(Ordering::Relaxed),
                n_bytes: progress.n_bytes.load(Ordering::Relaxed),
            })
            .collect();
        let read: u64 = works.iter().map(|work| work.n_bytes_done).sum();
        let n_bytes_done = run.n_bytes_done.saturating_add(read);
        let n_bytes_left = run.n_bytes_left.saturating_sub(read);
        let passed = run
            .since_ms
            .map(|since_ms| self.clock.now_ms().saturating_sub(since_ms));
        let passed = passed.and_then(|passed| u64::try_from(passed).ok());
        let eta_ms = passed.and_then(|passed| {
            let whole = u128::from(passed) * u128::from(n_bytes_left);
            u64::try_from(whole.checked_div(u128::from(n_bytes_done))?).ok()
        });
        DutyProgress {
            duty,
            since_ms: run.since_ms,
            works,
            n_blocks_done: run.n_blocks_done,
            n_blocks_left: run.n_blocks_left,
            n_bytes_done,
            n_bytes_left,
            eta_ms,
            last: run.last,
        }
    }
}

impl DutyProgress {
    /// A line in the log, where there is something to say.
    pub fn tell(&self) {
        if self.since_ms.is_none() || (self.works.is_empty() && self.n_blocks_left == 0) {
            return;
        }
        let works_on: Vec<&str> = self.works.iter().map(|work| work.what.as_str()).collect();
        let eta = self.eta_ms.and_then(|ms| i64::try_from(ms).ok());
        let eta = eta.map_or_else(
            || "unknown".to_owned(),
            |ms| format_duration(ms - ms % 1_000),
        );
        tracing::info!(
            duty = self.duty.name(),
            works_on = works_on.join("; "),
            n_blocks_done = self.n_blocks_done,
            n_blocks_left = self.n_blocks_left,
            n_bytes_done = self.n_bytes_done,
            n_bytes_left = self.n_bytes_left,
            eta,
            "duty goes on"
        );
    }
}

/// A run of a duty.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    ledger: &'a Ledger,
    duty: Duty,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let now_ms = self.ledger.clock.now_ms();
        let mut run = self.ledger.run(self.duty);
        let took_ms = now_ms.saturating_sub(run.since_ms.take().unwrap_or(now_ms));
        run.last = Some((now_ms, took_ms));
        let (n_done, n_left) = (run.n_blocks_done, run.n_blocks_left);
        let (n_bytes, is_told) = (run.n_bytes_done, run.is_told);
        drop(run);
        if is_told {
            tracing::info!(
                duty = self.duty.name(),
                n_blocks_done = n_done,
                n_blocks_left = n_left,
                n_bytes_done = n_bytes,
                took_ms,
                "duty ends"
            );
        }
    }
}

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Working<'a> {
    ledger: &'a Ledger,
    duty: Duty,
    number: u64,
    pub(crate) progress: Arc<Progress>,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut run = self.ledger.run(self.duty);
        run.works.retain(|(number, ..)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::ManualClock;

    #[test]
    fn what_is_left_goes_down_as_it_is_read_and_the_rest_is_estimated_from_that() {
        let clock = ManualClock::new(1_000);
        let ledger = Ledger::new(Arc::new(clock.clone()));
        assert_eq!(ledger.progress(Duty::Compact).since_ms, None);
        let running = ledger.begin(Duty::Compact);
        ledger.leave(Duty::Compact, 10, 1_000);
        assert_eq!(ledger.progress(Duty::Compact).eta_ms, None);
        let working = ledger.work(Duty::Compact, "two blocks".to_owned());
        working.progress.n_bytes.store(180, Ordering::Relaxed);
        working.progress.n_bytes_done.store(100, Ordering::Relaxed);
        clock.set(3_000);
        let at = ledger.progress(Duty::Compact);
        assert_eq!(at.since_ms, Some(1_000));
        let work = Work {
            what: "two blocks".to_owned(),
            n_bytes_done: 100,
            n_bytes: 180,
        };
        assert_eq!(at.works, [work]);
        assert_eq!((at.n_bytes_done, at.n_bytes_left), (100, 900));
        assert_eq!(at.eta_ms, Some(18_000), "2 s took a tenth");
        drop(working);
        // With what is not chunks.
        ledger.done(Duty::Compact, 2, 200);
        let at = ledger.progress(Duty::Compact);
        assert_eq!((at.n_blocks_done, at.n_blocks_left), (2, 8));
        assert_eq!((at.n_bytes_left, at.works.len()), (800, 0));
        drop(running);
        let at = ledger.progress(Duty::Compact);
        assert_eq!((at.since_ms, at.eta_ms), (None, None));
        assert_eq!(at.last, Some((3_000, 2_000)));
        assert_eq!(at.n_blocks_left, 8, "what is left is still known");
        let other = ledger.progress(Duty::Clean);
        assert_eq!((other.n_blocks_left, other.last), (0, None));
    }
}
