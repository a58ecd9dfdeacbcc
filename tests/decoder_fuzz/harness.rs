//! One target: rounds of breaking and reading, what they may take, and what they did take.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::choices::Choices;
use crate::dice::Dice;
use crate::guide::Guide;
use crate::{coverage, memory, settings};

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
    /// Inputs that a guided run keeps, and counters that it reached.
    n_kept: usize,
    n_counters: usize,
}

/// Says where a panic happened: the round can be repeated.
#[derive(Debug, Clone)]
struct Place {
    what: &'static str,
    /// The target's own.
    seed: u64,
    round: Arc<AtomicU64>,
    /// Holds the choices of the round where seed and number do not make it again.
    journal: Option<PathBuf>,
}

impl Place {
    fn how_to_repeat(&self) -> String {
        if let Some(journal) = &self.journal {
            return format!("GAUNTLET_FUZZ_CHOICES={} repeats it", journal.display());
        }
        let told = settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(SEED);
        let round = self.round.load(Ordering::Relaxed);
        format!("GAUNTLET_FUZZ_SEED={told} GAUNTLET_FUZZ_FROM={round} repeats it")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}: {}", self.what, self.how_to_repeat());
            println!("{}: the target's own seed is {}", self.what, self.seed);
        }
    }
}

/// Ends the process when a round does not end.
struct WatchDog {
    is_over: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl WatchDog {
    fn new(place: Place) -> Self {
        let is_over = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&is_over);
        let watched = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let schedule = Path::new("/proc").join(watched).join("schedstat");
        let watch = move || {
            let (mut last, mut since) = (u64::MAX, (Instant::now(), Duration::ZERO));
            while seen.load(Ordering::Relaxed) == 0 {
                let now = place.round.load(Ordering::Relaxed);
                let cpu = cpu_time(&schedule);
                if now != last {
                    (last, since) = (now, (Instant::now(), cpu));
                }
                if STALLED < since.0.elapsed() || STALLED_CPU < cpu.saturating_sub(since.1) {
                    let how = place.how_to_repeat();
                    eprintln!("{}: round {now} does not end; {how}", place.what);
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

/// What decides of the next input.
enum Source {
    /// The number of the round.
    Rounds(u64),
    /// What earlier inputs reached.
    Guide(Guide),
    /// One input is wanted.
    One(Choices),
}

impl Source {
    fn new(target: Target, seed: u64) -> Self {
        if let Some(path) = settings::text("GAUNTLET_FUZZ_CHOICES") {
            return Self::One(Choices::read_one(Path::new(&path)));
        }
        Guide::new(target.what, seed).map_or(Self::Rounds(seed), Self::Guide)
    }

    /// The file that holds the choices of the round, where there is one.
    fn journal(&self) -> Option<PathBuf> {
        match self {
            Self::Rounds(_) => None,
            Self::Guide(guide) => Some(guide.journal_path.clone()),
            Self::One(_) => settings::text("GAUNTLET_FUZZ_CHOICES").map(PathBuf::from),
        }
    }

    fn next(&mut self, round: u64) -> Choices {
        match self {
            Self::Rounds(seed) => Choices {
                seed: *seed,
                round,
                numbers: Vec::new(),
            },
            Self::Guide(guide) => guide.next(round),
            Self::One(choices) => choices.clone(),
        }
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
    let mut source = Source::new(target, seed);
    let (began, cpu_before) = (Instant::now(), cpu_seconds());
    let mut said = began;
    let place = Place {
        what: target.what,
        seed,
        round: Arc::new(AtomicU64::new(from)),
        journal: source.journal(),
    };
    let watch_dog = WatchDog::new(place.clone());
    let mut figures = Figures::default();
    let say = |figures: &Figures| {
        let (wall, cpu) = (began.elapsed().as_secs(), cpu_seconds() - cpu_before);
        let what = target.what;
        println!("{what}: seed {seed}, {wall} s, {cpu:.1} s of CPU, {figures:?}");
    };
    loop {
        let is_over = match (&source, long) {
            (Source::One(_), _) => 0 < figures.n_rounds,
            (_, Some(long)) => long <= began.elapsed(),
            (_, None) => target.n_rounds <= figures.n_rounds,
        };
        if is_over {
            break;
        }
        let number = from + figures.n_rounds;
        place.round.store(number, Ordering::Relaxed);
        memory::place(seed, number);
        let choices = source.next(number);
        let mut dice = choices.dice();
        let input = make(&mut dice);
        // Making it counts for nothing.
        coverage::take(|_, _| ());
        let (n_taken, held) = memory::measured(|| read(&input));
        let n_bytes = input.n_bytes();
        assert!(
            held <= target.held_per_byte * n_bytes + target.held_extra,
            "{} bytes were held to read {n_bytes}",
            held
        );
        if let Source::Guide(guide) = &mut source {
            let numbers = dice.into_given();
            guide.end(Choices { numbers, ..choices });
            (figures.n_kept, figures.n_counters) = guide.figures();
        }
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
    // Broken, but not beyond all reading. What is broken again and again may be.
    assert!(
        place.journal.is_some() || figures.n_rounds / 2 <= figures.n_taken as u64,
        "{figures:?}"
    );
    drop((watch_dog, place));
}
