//! One target: rounds of breaking and reading, what they may take, and what they did take.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::{memory, settings};

/// Rounds of a run that was told nothing, unless the target says otherwise.
pub(crate) const N_ROUNDS: u64 = 8_000;

/// A round that computes for longer does not end. Time in which the machine did something else does not count.
const STALLED_CPU: Duration = Duration::from_mins(1);
/// Nor does one that waits for longer.
const STALLED: Duration = Duration::from_mins(30);

/// A long run says so often how far it is.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// A decoder, or several that read the same bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// What the figures are printed under.
    pub(crate) what: &'static str,
    /// Makes the rounds differ from those of other targets.
    pub(crate) salt: u64,
    /// Rounds of a run that was told nothing.
    pub(crate) n_rounds: u64,
    /// Reading may hold so many bytes for each byte of input.
    pub(crate) held_per_byte: usize,
    /// And so many more, whatever the input.
    pub(crate) held_extra: usize,
}

impl Target {
    pub(crate) fn new(what: &'static str, salt: u64) -> Self {
        Self {
            what,
            salt,
            n_rounds: N_ROUNDS,
            held_per_byte: 64,
            held_extra: 16 << 10,
        }
    }

    pub(crate) fn rounds(self, n_rounds: u64) -> Self {
        Self { n_rounds, ..self }
    }

    /// What reading may hold at once.
    pub(crate) fn holds(self, held_per_byte: usize, held_extra: usize) -> Self {
        Self {
            held_per_byte,
            held_extra,
            ..self
        }
    }
}

/// What a run saw.
#[derive(Debug, Default)]
struct Figures {
    n_rounds: u64,
    n_bytes: usize,
    /// Things that came out.
    n_taken: usize,
    /// Most bytes that one read held.
    held_max: usize,
}

/// Says where a panic happened: the round can be repeated.
struct Place {
    what: &'static str,
    seed: u64,
    round: Arc<AtomicU64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if thread::panicking() {
            let (what, round) = (self.what, self.round.load(Ordering::Relaxed));
            println!(
                "{what}: GAUNTLET_FUZZ_SEED={} GAUNTLET_FUZZ_FROM={round} repeats it",
                settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(SEED)
            );
            println!("{what}: the target's own seed is {}", self.seed);
        }
    }
}

/// Ends the process when a round does not end.
struct WatchDog {
    is_over: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl WatchDog {
    fn new(what: &'static str, seed: u64, round: Arc<AtomicU64>) -> Self {
        let is_over = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&is_over);
        let watched = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let schedule = Path::new("/proc").join(watched).join("schedstat");
        let watch = move || {
            let (mut last, mut since) = (u64::MAX, (Instant::now(), Duration::ZERO));
            while seen.load(Ordering::Relaxed) == 0 {
                let (now, cpu) = (round.load(Ordering::Relaxed), cpu_time(&schedule));
                if now != last {
                    (last, since) = (now, (Instant::now(), cpu));
                }
                if STALLED < since.0.elapsed() || STALLED_CPU < cpu.saturating_sub(since.1) {
                    eprintln!("{what}: seed {seed} round {now} does not end");
                    std::process::abort();
                }
                thread::park_timeout(Duration::from_secs(1));
            }
        };
        Self {
            is_over,
            thread: Some(thread::spawn(watch)),
        }
    }
}

impl Drop for WatchDog {
    fn drop(&mut self) {
        self.is_over.store(1, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().ok();
        }
    }
}

/// The seed of a run that was told nothing.
const SEED: u64 = 20_261_121;

/// CPU time of a thread; none where the system does not tell.
fn cpu_time(schedule: &Path) -> Duration {
    let text = std::fs::read_to_string(schedule).unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn cpu_seconds() -> f64 {
    cpu_time(Path::new("/proc/thread-self/schedstat")).as_secs_f64()
}

/// How large an input is.
pub(crate) trait Input {
    fn n_bytes(&self) -> usize;
}

impl Input for Vec<u8> {
    fn n_bytes(&self) -> usize {
        self.len()
    }
}

impl<T> Input for (Vec<u8>, T) {
    fn n_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Makes inputs and reads them, as long as it was told. `read` says how many things came out.
pub(crate) fn run<T: Input>(
    target: Target,
    mut make: impl FnMut(&mut Dice) -> T,
    mut read: impl FnMut(&T) -> usize,
) {
    let seed = settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(SEED) ^ target.salt;
    let from = settings::number("GAUNTLET_FUZZ_FROM").unwrap_or(0);
    let long = settings::number("GAUNTLET_FUZZ_SECONDS").map(Duration::from_secs);
    let (began, cpu_before) = (Instant::now(), cpu_seconds());
    let mut said = began;
    let round = Arc::new(AtomicU64::new(from));
    let place = Place {
        what: target.what,
        seed,
        round: Arc::clone(&round),
    };
    let watch_dog = WatchDog::new(target.what, seed, Arc::clone(&round));
    let mut figures = Figures::default();
    let say = |figures: &Figures| {
        let (wall, cpu) = (began.elapsed().as_secs(), cpu_seconds() - cpu_before);
        let what = target.what;
        println!("{what}: seed {seed}, {wall} s, {cpu:.1} s of CPU, {figures:?}");
    };
    loop {
        let is_over = match long {
            Some(long) => long <= began.elapsed(),
            None => target.n_rounds <= figures.n_rounds,
        };
        if is_over {
            break;
        }
        let number = from + figures.n_rounds;
        round.store(number, Ordering::Relaxed);
        memory::place(seed, number);
        let input = make(&mut Dice::new(seed, number));
        let (n_taken, held) = memory::measured(|| read(&input));
        let n_bytes = input.n_bytes();
        assert!(
            held <= target.held_per_byte * n_bytes + target.held_extra,
            "{} bytes were held to read {n_bytes}",
            held
        );
        figures.n_rounds += 1;
        figures.n_bytes += n_bytes;
        figures.n_taken += n_taken;
        figures.held_max = figures.held_max.max(held);
        if BETWEEN_LINES < said.elapsed() {
            say(&figures);
            said = Instant::now();
        }
    }
    say(&figures);
    // Broken, but not beyond all reading.
    assert!(
        figures.n_rounds / 2 <= figures.n_taken as u64,
        "{figures:?}"
    );
    drop((watch_dog, place));
}
