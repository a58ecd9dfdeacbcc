//! Keeps an actor alive: a panic ends the handler, not the address.
//!
//! Actix restarts an actor only after it stopped itself; a panic takes the actor and its address away. The keeper polls
//! the actor's own context under `catch_unwind`. After a panic it waits, calls `Supervised::restarting`, in which the
//! actor rebuilds its state from its parts, and polls on: same address, queued messages still queued. The message whose
//! handler panicked is lost, and its sender is told so.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use actix::dev::{AsyncContextParts, ContextFut};
use actix::{Actor, Addr, Context, Supervised};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// How often an actor is brought back, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Restarts in a row; zero means that the first panic is the end.
    pub restarts_max: u32,
    /// Pause before the first restart, doubled for each one that follows.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// An actor that lived this long starts with a full budget again.
    pub healthy_after: Duration,
}

impl Budget {
    /// `restarts_max` in a row, 50 ms to 5 s apart, forgotten after a minute of health.
    pub const fn new(restarts_max: u32) -> Self {
        Self {
            restarts_max,
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(5),
            healthy_after: Duration::from_mins(1),
        }
    }

    fn pause(&self, restarts: u32) -> Duration {
        let factor = 1_u32.checked_shl(restarts).unwrap_or(u32::MAX);
        self.pause_min.saturating_mul(factor).min(self.pause_max)
    }
}

/// How a kept actor's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It stopped itself, or its last address went away.
    Stopped,
    /// It panicked once more than its budget allows.
    Exhausted,
}

/// What has happened to a kept actor; shared with metrics and the admin page.
#[derive(Debug)]
pub struct Record {
    name: &'static str,
    panics: AtomicU64,
    restarts: AtomicU64,
    is_up: AtomicBool,
}

impl Record {
    /// The actor's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Panics since the start.
    pub fn n_panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Restarts since the start.
    pub fn n_restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Is it handling messages now?
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }
}

/// A kept actor: its address, its record, and the news of its end.
#[derive(Debug)]
pub struct Kept<A: Actor> {
    /// Survives restarts.
    pub address: Addr<A>,
    /// What has happened to it.
    pub record: Arc<Record>,
    /// Told once, when the keeper is done with it.
    pub end: oneshot::Receiver<End>,
}

/// Starts `actor` on this thread's arbiter and keeps it.
pub fn keep<A>(name: &'static str, budget: Budget, actor: A) -> Kept<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    let context = Context::new();
    let life = context.into_future(actor);
    let address = life.address();
    let record = Arc::new(Record {
        name,
        panics: AtomicU64::new(0),
        restarts: AtomicU64::new(0),
        is_up: AtomicBool::new(true),
    });
    let (told, end) = oneshot::channel();
    actix::spawn(Keeper {
        life: Some(Box::pin(life)),
        budget,
        restarts_in_a_row: 0,
        up_since: Instant::now(),
        pause: None,
        record: Arc::clone(&record),
        told: Some(told),
    });
    Kept {
        address,
        record,
        end,
    }
}

/// Actor, context and mailbox as actix polls them.
type Life<A> = Pin<Box<ContextFut<A, Context<A>>>>;

struct Keeper<A>
where
    A: Actor<Context = Context<A>> + Supervised,
    Context<A>: AsyncContextParts<A>,
{
    life: Option<Life<A>>,
    budget: Budget,
    restarts_in_a_row: u32,
    up_since: Instant,
    pause: Option<Pin<Box<Sleep>>>,
    record: Arc<Record>,
    told: Option<oneshot::Sender<End>>,
}

impl<A> Keeper<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    /// Counts the panic; says whether there is another life.
    fn note_panic(&mut self, panic: &(dyn Any + Send)) -> bool {
        self.record.is_up.store(false, Ordering::Relaxed);
        self.record.panics.fetch_add(1, Ordering::Relaxed);
        if self.budget.healthy_after < self.up_since.elapsed() {
            self.restarts_in_a_row = 0;
        }
        let actor = self.record.name;
        let cause = panic_text(panic);
        if self.budget.restarts_max <= self.restarts_in_a_row {
            tracing::error!(
                actor,
                cause,
                restarts_max = self.budget.restarts_max,
                "actor panicked and its restarts are used up"
            );
            return false;
        }
        let pause = self.budget.pause(self.restarts_in_a_row);
        self.restarts_in_a_row += 1;
        let pause_seconds = pause.as_secs_f64();
        tracing::error!(
            actor,
            cause,
            pause_seconds,
            restart = self.restarts_in_a_row,
            "actor panicked and is restarted"
        );
        self.pause = Some(Box::pin(sleep(pause)));
        true
    }

    /// Drops what is left of the actor, which may panic once more, and tells the owner.
    fn finish(&mut self, end: End) {
        self.record.is_up.store(false, Ordering::Relaxed);
        let life = self.life.take();
        if catch_unwind(AssertUnwindSafe(|| drop(life))).is_err() {
            tracing::error!(actor = self.record.name, "actor panicked while it stopped");
        }
        if let Some(told) = self.told.take() {
            told.send(end).ok();
        }
    }

    /// Rebuilds the actor after its pause; `None` while it is not over.
    fn restart(&mut self, cx: &mut task::Context<'_>) -> Option<Turn> {
        let pause = self.pause.as_mut()?;
        if pause.as_mut().poll(cx).is_pending() {
            return Some(Turn::Wait);
        }
        self.pause = None;
        let life = self.life.as_mut()?;
        Some(match catch_unwind(AssertUnwindSafe(|| life.restart())) {
            Ok(true) => {
                self.up_since = Instant::now();
                self.record.restarts.fetch_add(1, Ordering::Relaxed);
                self.record.is_up.store(true, Ordering::Relaxed);
                tracing::info!(actor = self.record.name, "actor restarted");
                Turn::Again
            }
            Ok(false) => Turn::Over(End::Stopped),
            Err(panic) => self.after_panic(&*panic),
        })
    }

    fn after_panic(&mut self, panic: &(dyn Any + Send)) -> Turn {
        if self.note_panic(panic) {
            Turn::Again
        } else {
            Turn::Over(End::Exhausted)
        }
    }

    fn turn(&mut self, cx: &mut task::Context<'_>) -> Turn {
        if let Some(turn) = self.restart(cx) {
            return turn;
        }
        let Some(life) = self.life.as_mut() else {
            return Turn::Over(End::Stopped);
        };
        match catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Turn::Wait,
            Ok(Poll::Ready(())) => Turn::Over(End::Stopped),
            Err(panic) => self.after_panic(&*panic),
        }
    }
}

enum Turn {
    Again,
    Wait,
    Over(End),
}

impl<A> Future for Keeper<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        loop {
            match self.turn(cx) {
                Turn::Again => (),
                Turn::Wait => return Poll::Pending,
                Turn::Over(end) => {
                    self.finish(end);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<A> Unpin for Keeper<A> where A: Actor<Context = Context<A>> + Supervised {}

/// What the panic said, if it said anything.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
}

#[cfg(test)]
mod tests {
    use actix::{AsyncContext, Handler, MailboxError, Message};

    use super::*;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Crash;
    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Count;
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    #[derive(Default)]
    struct Fragile {
        counted: u32,
        crashes_in: Option<Duration>,
    }

    impl Actor for Fragile {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            if let Some(delay) = self.crashes_in {
                ctx.run_later(delay, |_, _| panic!("timer on purpose"));
            }
        }
    }
    impl Supervised for Fragile {
        fn restarting(&mut self, _: &mut Self::Context) {
            *self = Self::default();
        }
    }
    impl Handler<Crash> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Crash, _: &mut Self::Context) {
            panic!("on purpose");
        }
    }
    impl Handler<Count> for Fragile {
        type Result = u32;
        fn handle(&mut self, _: Count, _: &mut Self::Context) -> u32 {
            self.counted += 1;
            self.counted
        }
    }
    impl Handler<Stop> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
            actix::ActorContext::stop(ctx);
        }
    }

    #[actix::test]
    async fn the_address_and_what_is_queued_survive_a_panic_and_the_state_does_not() {
        tokio::time::pause();
        let kept = keep("fragile", Budget::new(3), Fragile::default());
        assert_eq!(kept.address.send(Count).await, Ok(1));
        let (crash, queued) = tokio::join!(kept.address.send(Crash), kept.address.send(Count));
        assert_eq!(crash, Err(MailboxError::Closed));
        assert_eq!(queued, Ok(1));
        assert!(kept.address.connected());
        assert_eq!((kept.record.n_panics(), kept.record.n_restarts()), (1, 1));
    }

    #[actix::test]
    async fn pauses_double_and_a_healthy_minute_forgets_them() {
        tokio::time::pause();
        let kept = keep("fragile", Budget::new(2), Fragile::default());
        for pause in [50, 100] {
            let started = Instant::now();
            kept.address.send(Crash).await.unwrap_err();
            kept.address.send(Count).await.unwrap();
            let waited = started.elapsed().as_millis();
            assert!((pause..pause + 5).contains(&waited), "{waited}");
        }
        sleep(Duration::from_secs(61)).await;
        kept.address.send(Crash).await.unwrap_err();
        assert_eq!(kept.address.send(Count).await, Ok(1));
    }

    #[actix::test]
    async fn a_used_up_budget_is_told_to_the_owner() {
        tokio::time::pause();
        let kept = keep("fragile", Budget::new(1), Fragile::default());
        kept.address.send(Crash).await.unwrap_err();
        kept.address.send(Crash).await.unwrap_err();
        assert_eq!(kept.end.await, Ok(End::Exhausted));
        assert_eq!(kept.address.send(Count).await, Err(MailboxError::Closed));
        assert!(!kept.record.is_up());
    }

    #[actix::test]
    async fn a_budget_of_zero_ends_at_the_first_panic() {
        let kept = keep("fragile", Budget::new(0), Fragile::default());
        kept.address.send(Crash).await.unwrap_err();
        assert_eq!(kept.end.await, Ok(End::Exhausted));
    }

    #[actix::test]
    async fn a_panic_in_a_timer_is_caught_too() {
        tokio::time::pause();
        let actor = Fragile {
            counted: 5,
            crashes_in: Some(Duration::from_secs(1)),
        };
        let kept = keep("fragile", Budget::new(1), actor);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(kept.address.send(Count).await, Ok(1));
        assert_eq!(kept.record.n_restarts(), 1);
    }

    #[actix::test]
    async fn an_actor_that_stops_itself_stays_stopped() {
        let kept = keep("fragile", Budget::new(3), Fragile::default());
        kept.address.send(Stop).await.unwrap();
        assert_eq!(kept.end.await, Ok(End::Stopped));
    }
}
