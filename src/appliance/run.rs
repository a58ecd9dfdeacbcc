//! From settings to a process that serves, and to its end.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::appliance::build::{Built, build};
use crate::appliance::drain::drain;
use crate::appliance::error::StartError;
use crate::appliance::reload::reload;
use crate::appliance::settings::Settings;

/// Runs the appliance on this thread until it is told to stop; `announce` is given the text for the terminal.
///
/// The thread becomes the actors' arbiter; sockets, the bucket and scraping live on a multi-thread runtime beside it.
pub fn run(settings: Settings, announce: impl Fn(&str) + 'static) -> Result<(), StartError> {
    // The HTTP client and TLS need a process-wide provider; a second installation is the same one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    log_panics();
    let failed = Arc::new(parking_lot::Mutex::new(None));
    let failure = Arc::clone(&failed);
    let system = actix::System::with_tokio_rt(move || match sockets_runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            *failure.lock() = Some(error);
            fallback_runtime()
        }
    });
    if let Some(error) = failed.lock().take() {
        return Err(StartError::Threads(error));
    }
    // Never dropped: that would wait for blocking work without a limit, and whatever has to end in order has ended, or
    // missed its deadline, when the list is done.
    let system = Box::leak(Box::new(system));
    system.block_on(serve(settings, announce))
}

fn sockets_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("sockets")
        .enable_all()
        .build()
}

/// Only so that the failure above can be told: nothing is ever served on it.
#[expect(
    clippy::expect_used,
    reason = "a machine that starts neither runtime cannot run this process"
)]
fn fallback_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without threads or sockets")
}

async fn serve(settings: Settings, announce: impl Fn(&str) + 'static) -> Result<(), StartError> {
    let mut signals = Signals::listen().map_err(StartError::Threads)?;
    let deadline = settings.stop_deadline;
    let mut built = tokio::select! {
        built = build(settings) => built?,
        () = signals.stop() => {
            // Replaying writes nothing but repairs, which may be cut off like everything else on a disk.
            tracing::info!("told to stop while starting");
            return Ok(());
        }
    };
    // Samples are taken and queries answered: whatever is started after this may come.
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    let ended = wait_for_end(&mut signals, &mut built, announce).await;
    sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
    let hasten = CancellationToken::new();
    let second = hasten.clone();
    actix::spawn(async move {
        signals.stop().await;
        tracing::warn!("second signal: the end is hastened");
        second.cancel();
    });
    let unfinished = drain(built, deadline, &hasten).await;
    if unfinished.is_empty() {
        tracing::info!("stopped");
    } else {
        tracing::error!(
            pending = unfinished.join(", "),
            "stopped before everything had ended"
        );
    }
    ended
}

/// Waits for a signal, or for the end of an actor that cannot be restarted. Reloads meanwhile, and announces the end of
/// the replay.
async fn wait_for_end(
    signals: &mut Signals,
    built: &mut Built,
    announce: impl Fn(&str),
) -> Result<(), StartError> {
    let mut replaying = built.replaying.take();
    loop {
        tokio::select! {
            replayed = end_of(&mut replaying) => {
                replaying = None;
                replayed?;
                built.grpc.set_serving(true).await;
                announce(&built.announcement());
            }
            () = signals.stop.as_mut_stop() => {
                tracing::info!("told to stop");
                return Ok(());
            }
            _ = signals.hangup.recv() => {
                // What is wrong is in the log already, and nobody waits for an answer.
                reload(&built.ports).await.ok();
            }
            actor = built.fatal() => {
                tracing::error!(actor, "an actor that cannot be restarted has ended");
                return Err(StartError::Ended { actor });
            }
        }
    }
}

/// What came of the replay, once it has ended; nothing where none runs.
async fn end_of(
    replaying: &mut Option<oneshot::Receiver<Result<(), StartError>>>,
) -> Result<(), StartError> {
    match replaying {
        Some(replaying) => match replaying.await {
            Ok(replayed) => replayed,
            Err(_) => Err(StartError::Ended { actor: "replay" }),
        },
        None => std::future::pending().await,
    }
}

/// The signals that are acted on.
struct Signals {
    stop: StopSignals,
    hangup: Signal,
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn as_mut_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let stop = StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(Self {
            stop,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        self.stop.as_mut_stop().await;
    }
}

/// Panics go to the log, in one line, with their place.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = crate::foundation::keeper::panic_text(info.payload());
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            place,
            text,
            "panic"
        );
    }));
}
