//! Which inputs are changed further: those that reached something that none before them reached.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::choices::{Choices, changed};
use crate::dice::Dice;
use crate::{coverage, settings};

/// One round in so many is not made of an earlier one.
const FRESH_EVERY: usize = 16;

/// Counters are of the process, so targets wait for each other.
static TURN: Mutex<()> = Mutex::new(());

/// What has been reached: how often each counter was seen at, by classes.
#[derive(Debug, Default)]
struct Reached {
    classes: Vec<u8>,
    n_counters: usize,
}

/// A bit for each class of counts: a loop that runs once more is not news each time.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128..=255 => 1 << 7,
    }
}

impl Reached {
    /// Whether that count of that counter was not seen before.
    fn is_news(&mut self, at: usize, count: u8) -> bool {
        if self.classes.len() <= at {
            self.classes.resize(at + 1, 0);
        }
        let before = self.classes[at];
        self.classes[at] |= class(count);
        let is_news = before != self.classes[at];
        self.n_counters += usize::from(is_news && before == 0);
        is_news
    }
}

/// A guided run of one target.
#[derive(Debug)]
pub(crate) struct Guide {
    seed: u64,
    reached: Reached,
    /// With how long it took to make and read the input.
    kept: Vec<(Vec<u64>, Duration)>,
    began: Instant,
    /// Kept by an earlier run and not repeated yet.
    earlier: Vec<Choices>,
    is_repeating: bool,
    /// Where kept choices are written, if anywhere.
    corpus: Option<File>,
    /// The round under way, which is there still when the process is not.
    journal: File,
    pub(crate) journal_path: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Guide {
    /// Nothing where nobody counts.
    pub(crate) fn new(what: &str, seed: u64) -> Option<Self> {
        if !coverage::is_counted() {
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = what.replace(' ', "-");
        let corpus_dir = settings::text("GAUNTLET_FUZZ_CORPUS").map(PathBuf::from);
        let (mut corpus, mut earlier) = (None, Vec::new());
        if let Some(dir) = &corpus_dir {
            fs::create_dir_all(dir).unwrap();
            let (file, kept) = open_corpus(&dir.join(&name));
            (corpus, earlier) = (Some(file), kept);
            // The last is taken first.
            earlier.reverse();
        }
        let dir = corpus_dir.unwrap_or_else(std::env::temp_dir);
        let journal_path = dir.join(format!("{name}.{}", std::process::id()));
        let journal = File::create(&journal_path).unwrap();
        // Not captured: a process that dies of its stack says nothing else.
        let shown = journal_path.display();
        writeln!(std::io::stderr(), "{what}: the round is in {shown}").unwrap();
        Some(Self {
            seed,
            reached: Reached::default(),
            kept: Vec::new(),
            began: Instant::now(),
            earlier,
            is_repeating: false,
            corpus,
            journal,
            journal_path,
            _turn: turn,
        })
    }

    /// What the next input is made of.
    pub(crate) fn next(&mut self, round: u64) -> Choices {
        let earlier = self.earlier.pop();
        self.is_repeating = earlier.is_some();
        let choices = earlier.unwrap_or_else(|| {
            let mut dice = Dice::new(!self.seed, round);
            let mut numbers = Vec::new();
            if !self.kept.is_empty() && 0 < dice.below(FRESH_EVERY) {
                let base = self.some_kept(&mut dice);
                let other = &self.kept[dice.below(self.kept.len())].0;
                numbers = changed(&mut dice, base, other);
            }
            Choices {
                seed: self.seed,
                round,
                numbers,
            }
        });
        self.journal.write_all_at(&choices.encode(), 0).unwrap();
        self.began = Instant::now();
        choices
    }

    /// Rather a late one, which has been changed the least, and of two such the one that took less time: it is changed
    /// several times while the other is once.
    fn some_kept(&self, dice: &mut Dice) -> &[u64] {
        let n = self.kept.len();
        let mut late = || &self.kept[dice.below(n).max(dice.below(n))];
        let (a, b) = (late(), late());
        let cheaper = if b.1 < a.1 { b } else { a };
        &cheaper.0
    }

    /// Whether reading the input that was made of `choices` reached something new. Then it is kept.
    pub(crate) fn end(&mut self, choices: Choices) {
        let took = self.began.elapsed();
        let mut is_news = false;
        coverage::take(|at, count| is_news |= self.reached.is_news(at, count));
        if !is_news {
            return;
        }
        if let Some(corpus) = &mut self.corpus
            && !self.is_repeating
        {
            corpus.write_all(&choices.encode()).unwrap();
        }
        self.kept.push((choices.numbers, took));
    }

    /// How many inputs were kept, and how many counters were reached.
    pub(crate) fn figures(&self) -> (usize, usize) {
        (self.kept.len(), self.reached.n_counters)
    }
}

/// What earlier runs kept, and the file that it is added to, without what a killed run left half written.
fn open_corpus(path: &Path) -> (File, Vec<Choices>) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.unwrap();
    let kept = Choices::decode_all(&fs::read(path).unwrap());
    let n_bytes: usize = kept.iter().map(|choices| choices.encode().len()).sum();
    file.set_len(n_bytes as u64).unwrap();
    (file, kept)
}

impl Drop for Guide {
    fn drop(&mut self) {
        if !thread::panicking() {
            fs::remove_file(&self.journal_path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::slice;

    use super::{Reached, class, open_corpus};
    use crate::choices::Choices;

    #[test]
    fn counts_are_news_once_for_each_of_eight_classes() {
        let mut reached = Reached::default();
        let firsts = [1, 2, 3, 4, 8, 16, 32, 128];
        let news: Vec<u8> = (0..=255).filter(|n| reached.is_news(5, *n)).collect();
        assert_eq!(news, firsts);
        assert!((0..=255).all(|n| !reached.is_news(5, n)), "seen before");
        assert!(reached.is_news(4, 1), "another counter");
        assert_eq!(reached.n_counters, 2);
        let bits = firsts.map(class);
        assert_eq!(bits, [1, 2, 4, 8, 16, 32, 64, 128]);
    }

    #[test]
    fn a_corpus_goes_on_behind_what_a_killed_run_left() {
        let dir = crate::directories::scratch();
        let path = dir.path().join("text");
        let [first, second] = [vec![1, 2, 3], vec![4]].map(|numbers| Choices {
            seed: 1,
            round: 2,
            numbers,
        });
        let add = |bytes: &[u8]| {
            let (mut file, kept) = open_corpus(&path);
            file.write_all(bytes).unwrap();
            kept
        };
        assert_eq!(add(&first.encode()), []);
        assert_eq!(add(&second.encode()[..19]), slice::from_ref(&first));
        assert_eq!(add(&second.encode()), slice::from_ref(&first), "half");
        assert_eq!(add(&[]), [first, second]);
        assert_eq!(fs::metadata(&path).unwrap().len(), (3 + 3 + 3 + 1) * 8);
    }
}
