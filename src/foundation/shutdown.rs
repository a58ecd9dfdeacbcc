//! The end as a list: stages in order, each with a deadline, and somebody who says who is pending.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

/// How often the log names who is pending.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// What a stage gets once somebody is in a hurry.
const HASTENED_DEADLINE: Duration = Duration::from_secs(1);

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// One step of the end: parts that stop side by side.
pub struct Stage {
    name: &'static str,
    deadline: Duration,
    is_durable: bool,
    parts: Vec<(&'static str, Work)>,
}

impl Stage {
    /// A stage that may take `deadline`.
    pub fn new(name: &'static str, deadline: Duration) -> Self {
        Self {
            name,
            deadline,
            is_durable: false,
            parts: Vec::new(),
        }
    }

    /// A stage that keeps its whole deadline even in a hurry, because data depends on it.
    pub fn durable(mut self) -> Self {
        self.is_durable = true;
        self
    }

    /// Adds one thing that has to end; nothing of it runs before the stages above are over.
    pub fn part(mut self, name: &'static str, work: impl Future<Output = ()> + 'static) -> Self {
        self.parts.push((name, Box::pin(work)));
        self
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("name", &self.name)
            .field("deadline", &self.deadline)
            .field("n_parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

/// What did not end in time, as `stage/part`.
pub type Unfinished = Vec<String>;

/// Runs the stages one after the other; raising `hasten` shortens the deadlines of all that are not durable.
pub async fn run(stages: Vec<Stage>, hasten: &CancellationToken) -> Unfinished {
    let mut unfinished = Vec::new();
    for stage in stages {
        let name = stage.name;
        let started = Instant::now();
        let late = run_stage(stage, hasten).await;
        let seconds = started.elapsed().as_secs_f64();
        if late.is_empty() {
            tracing::info!(stage = name, seconds, "stage stopped");
        } else {
            tracing::warn!(
                stage = name,
                seconds,
                pending = late.join(", "),
                "stage did not stop in time"
            );
        }
        unfinished.extend(late.into_iter().map(|part| format!("{name}/{part}")));
    }
    unfinished
}

/// Names of the parts that did not end in time.
async fn run_stage(stage: Stage, hasten: &CancellationToken) -> Vec<&'static str> {
    let mut pending: Vec<&'static str> = stage.parts.iter().map(|(part, _)| *part).collect();
    let mut working: FuturesUnordered<_> = stage
        .parts
        .into_iter()
        .map(|(part, work)| async move {
            work.await;
            part
        })
        .collect();
    let started = Instant::now();
    let mut deadline = started + stage.deadline;
    let mut is_hastened = stage.is_durable;
    let mut report = interval_at(started + REPORT_INTERVAL, REPORT_INTERVAL);
    loop {
        tokio::select! {
            biased;
            ended = working.next() => match ended {
                Some(part) => pending.retain(|name| *name != part),
                None => return pending,
            },
            () = hasten.cancelled(), if !is_hastened => {
                is_hastened = true;
                deadline = deadline.min(Instant::now() + HASTENED_DEADLINE);
            }
            () = tokio::time::sleep_until(deadline) => return pending,
            _ = report.tick() => {
                let waited_seconds = started.elapsed().as_secs();
                tracing::info!(stage = stage.name, waited_seconds, pending = pending.join(", "), "still stopping");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    async fn sleep(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn stages_end_in_order_and_parts_side_by_side() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = |name: &'static str, seconds| {
            let seen = Rc::clone(&seen);
            async move {
                sleep(seconds).await;
                seen.borrow_mut().push(name);
            }
        };
        let stages = vec![
            Stage::new("api", Duration::from_secs(10))
                .part("grpc", note("grpc", 3))
                .part("http", note("http", 2)),
            Stage::new("head", Duration::from_secs(10)).part("wal", note("wal", 0)),
        ];
        let started = Instant::now();
        let unfinished = run(stages, &CancellationToken::new()).await;
        assert_eq!(unfinished, Unfinished::new());
        assert_eq!(*seen.borrow(), ["http", "grpc", "wal"]);
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_past_its_deadline_is_named_and_the_next_stage_runs() {
        let stages = vec![
            Stage::new("api", Duration::from_secs(5))
                .part("http", sleep(1))
                .part("grpc", std::future::pending()),
            Stage::new("head", Duration::from_secs(5)).part("wal", sleep(1)),
        ];
        let started = Instant::now();
        assert_eq!(run(stages, &CancellationToken::new()).await, ["api/grpc"]);
        assert_eq!(started.elapsed().as_secs(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn hurry_shortens_every_stage_but_the_durable_one() {
        let stages = vec![
            Stage::new("api", Duration::from_secs(60)).part("grpc", std::future::pending()),
            Stage::new("scrape", Duration::from_secs(60)).part("loops", std::future::pending()),
            Stage::new("head", Duration::from_secs(60))
                .durable()
                .part("wal", sleep(20)),
        ];
        let hasten = CancellationToken::new();
        hasten.cancel();
        let started = Instant::now();
        assert_eq!(run(stages, &hasten).await, ["api/grpc", "scrape/loops"]);
        assert_eq!(started.elapsed().as_secs(), 22);
    }
}
