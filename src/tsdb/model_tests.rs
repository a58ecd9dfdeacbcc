//! Random lives of a database against a map: appends in and out of order, of floats and histograms, deletions, cuts,
//! compactions and restarts. `GAUNTLET_MODEL_SEED` runs one life again, `GAUNTLET_MODEL_LIVES` sets how many there are.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::BlockMeta;
use crate::chunk::{decode_floats, decode_histograms};
use crate::foundation::ManualClock;
use crate::head::HeadSettings;
use crate::model::{
    BucketSpan, Buckets, Counts, Histogram, Interval, Labels, MatchType, Matcher, SampleTime,
};
use crate::storage::{AppendError, Appendable, Queryable, SelectHints};
use crate::tsdb::tests::{copy_dir, scratch};
use crate::tsdb::{Tsdb, TsdbSettings};

/// So many take half a minute on two cores, in a debug build.
const LIVES: u64 = 10_000;
/// The name of the test below.
const TEST: &str = "every_life_answers_as_a_map_does";
const RANGE_MS: i64 = 400;
const WINDOW_MS: i64 = 900;
const SERIES: [&str; 3] = ["a", "b", "c"];

/// Records that replays passed over, because chunk files have what they say.
static N_CHUNKED: AtomicU64 = AtomicU64::new(0);

/// Times and values; a histogram is its count, negated, which no float is.
type Model = BTreeMap<&'static str, BTreeMap<i64, u64>>;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn time(&mut self, n: i64) -> i64 {
        i64::try_from(self.below(n.unsigned_abs().max(1))).unwrap()
    }

    fn series(&mut self) -> &'static str {
        SERIES[usize::try_from(self.below(3)).unwrap()]
    }
}

/// What stands at a time of a series, always: samples that come twice agree.
fn is_histogram(t: i64) -> bool {
    (t / 60) % 4 == 3
}

fn float(name: &str, t: i64) -> f64 {
    let salt = f64::from(name.as_bytes()[0]);
    f64::from(i32::try_from(t).unwrap()) * 0.5 + salt
}

fn histogram(t: i64) -> Arc<Histogram> {
    let count = f64::from(i32::try_from(t).unwrap()) + 1.0;
    Arc::new(Histogram {
        count,
        sum: count * 2.0,
        positive: Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: 2,
            }],
            counts: vec![count - 1.0, 1.0],
        },
        ..Histogram::default()
    })
}

fn expected(name: &str, t: i64) -> u64 {
    if is_histogram(t) {
        (-histogram(t).count).to_bits()
    } else {
        float(name, t).to_bits()
    }
}

fn read(db: &Tsdb, interval: Interval) -> Model {
    // Cheaper than a pattern, ten times a life.
    let all = [Matcher::new(MatchType::NotEqual, "n", "").unwrap()];
    let mut set = db
        .timeline()
        .select(&all, &SelectHints::new(interval))
        .unwrap();
    let mut model = Model::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let name = SERIES
            .into_iter()
            .find(|name| series.labels.value("n") == *name);
        let samples = model.entry(name.unwrap()).or_default();
        for chunk in &series.chunks {
            let mut times = Vec::new();
            let values: Vec<u64> = if chunk.encoding.has_histograms() {
                let mut values = Vec::new();
                decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
                values.iter().map(|h| (-h.count).to_bits()).collect()
            } else {
                let mut values = Vec::new();
                decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
                values.iter().map(|v| v.to_bits()).collect()
            };
            assert!(times.is_sorted_by(|left, right| left < right), "{times:?}");
            let span = (times.first(), times.last());
            assert_eq!(span, (Some(&chunk.min_t), Some(&chunk.max_t)));
            for (t, v) in times.into_iter().zip(values) {
                if interval.contains(t) {
                    samples.insert(t, v);
                }
            }
        }
    }
    model.retain(|_, samples| !samples.is_empty());
    model
}

struct Life {
    dice: Dice,
    dirs: Vec<tempfile::TempDir>,
    db: Option<Tsdb>,
    model: Model,
    /// What was deleted.
    deleted: Vec<(&'static str, Interval)>,
    /// The newest that came of each series.
    newest_of: BTreeMap<&'static str, i64>,
    now: i64,
    newest: Option<i64>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let dir = scratch();
        Self {
            dice: Dice(seed),
            db: Some(open(dir.path())),
            dirs: vec![dir],
            model: Model::new(),
            deleted: Vec::new(),
            newest_of: BTreeMap::new(),
            now: 1000,
            newest: None,
        }
    }

    fn db(&self) -> &Tsdb {
        self.db.as_ref().unwrap()
    }

    fn append(&mut self, names_and_times: &[(&'static str, i64)]) {
        let db = self.db.clone().unwrap();
        let mut appender = db.appender();
        let mut taken = Vec::new();
        let newest = self.newest;
        for (name, t) in names_and_times {
            let is_gone =
                |(gone, interval): &(&str, Interval)| gone == name && interval.contains(*t);
            // A newest sample that is deleted and comes again is known, and stays deleted.
            if self.newest_of.get(name) == Some(t) && self.deleted.iter().any(is_gone) {
                continue;
            }
            let labels = Labels::new(&[("n", *name)]).unwrap();
            let series = appender
                .series(labels.key(), &mut || Ok(labels.clone()))
                .unwrap();
            let result = if is_histogram(*t) {
                let at = SampleTime::from(*t);
                appender.append_histogram(series, at, Counts::Whole, &histogram(*t))
            } else {
                appender.append(series, *t, float(name, *t))
            };
            match result {
                Ok(()) => taken.push((*name, *t)),
                Err(AppendError::TooOld { oldest }) => {
                    if let Some(newest) = newest {
                        assert_eq!(oldest, newest - WINDOW_MS);
                    }
                    assert!(*t < oldest);
                }
                Err(error) => panic!("{name} at {t}: {error}"),
            }
        }
        appender.commit().unwrap();
        for (name, t) in taken {
            self.newest = self.newest.max(Some(t));
            let newest = self.newest_of.entry(name).or_insert(t);
            *newest = t.max(*newest);
            let v = expected(name, t);
            self.model.entry(name).or_default().insert(t, v);
        }
    }

    fn append_in_order(&mut self) {
        for _ in 0..=self.dice.below(24) {
            self.now += 1 + self.dice.time(40);
            let n = 1 + self.dice.below(3);
            let samples: Vec<_> = (0..n).map(|_| (self.dice.series(), self.now)).collect();
            self.append(&samples);
        }
    }

    fn append_out_of_order(&mut self) {
        let n = self.dice.below(90);
        let samples: Vec<_> = (0..n)
            .map(|_| {
                let back = self.dice.time(WINDOW_MS + 60);
                (self.dice.series(), self.now - back)
            })
            .collect();
        self.append(&samples);
    }

    fn delete(&mut self) {
        let name = self.dice.series();
        let min = self.now - self.dice.time(1500);
        let interval = Interval {
            min,
            max: min + self.dice.time(200),
        };
        let matcher = Matcher::equal("n", name);
        self.db().delete_series(&[matcher], interval).unwrap();
        if let Some(samples) = self.model.get_mut(name) {
            samples.retain(|t, _| !interval.contains(*t));
        }
        self.deleted.push((name, interval));
    }

    fn cut(&self) {
        while self.db().cut_due().is_some() {
            self.db().cut().unwrap();
        }
        let late = self.db().cut_out_of_order().unwrap();
        assert!(late.iter().all(BlockMeta::is_from_out_of_order));
        assert!(self.db().head().stats().out_of_order_min_t.is_none());
    }

    /// What a killed process leaves is what the operating system had: a copy of the open directory.
    fn restart(&mut self, is_killed: bool) {
        if is_killed {
            let next = scratch();
            copy_dir(self.dirs[self.dirs.len() - 1].path(), next.path());
            self.dirs.push(next);
        }
        self.db = None;
        self.db = Some(open(self.dirs[self.dirs.len() - 1].path()));
        let replayed = self.db().replayed();
        assert_eq!((replayed.n_damages, replayed.n_unknown_refs), (0, 0));
        N_CHUNKED.fetch_add(replayed.n_records_redone, Ordering::Relaxed);
    }

    fn step(&mut self) {
        if self.dice.below(3) == 0 {
            self.db().head().note_redo_point(0).unwrap();
        }
        match self.dice.below(20) {
            0..=6 => self.append_in_order(),
            7..=11 => self.append_out_of_order(),
            12 => self.delete(),
            13..=15 => self.cut(),
            16 => while self.db().compact().unwrap().is_some() {},
            17 => {
                self.db().clean_tombstones().unwrap();
            }
            18 => self.restart(false),
            _ => self.restart(true),
        }
    }

    fn check(&mut self) {
        let mut model = self.model.clone();
        model.retain(|_, samples| !samples.is_empty());
        assert_eq!(read(self.db(), Interval::ALL), model);
        let min = self.now - self.dice.time(1500);
        let interval = Interval {
            min,
            max: min + self.dice.time(500),
        };
        for samples in model.values_mut() {
            samples.retain(|t, _| interval.contains(*t));
        }
        model.retain(|_, samples| !samples.is_empty());
        assert_eq!(read(self.db(), interval), model);
    }

    fn live(&mut self) {
        for _ in 0..2 + self.dice.below(5) {
            self.step();
            if self.dice.below(3) == 0 {
                self.check();
            }
        }
        self.check();
    }
}

fn open(dir: &Path) -> Tsdb {
    let settings = TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: RANGE_MS,
            out_of_order_window_ms: WINDOW_MS,
            ..HeadSettings::default()
        },
        ..TsdbSettings::default()
    };
    Tsdb::open(dir, settings, Arc::new(ManualClock::new(5_000_000))).unwrap()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Past what the test harness keeps to itself: the seeds of a run are part of its outcome.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}

#[test]
fn every_life_answers_as_a_map_does() {
    if let Some(seed) = number("GAUNTLET_MODEL_SEED") {
        Life::new(seed).live();
        return;
    }
    let first = 0x5eed_0000;
    let end = first + number("GAUNTLET_MODEL_LIVES").unwrap_or(LIVES);
    let last = end - 1;
    say(&format!(
        "lives of a database with the seeds {first} to {last}"
    ));
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if end <= seed {
                        return;
                    }
                    let life = std::panic::catch_unwind(|| Life::new(seed).live());
                    let again = format!("GAUNTLET_MODEL_SEED={seed} cargo test --lib {TEST}");
                    assert!(life.is_ok(), "to see it again: {again}");
                }
            });
        }
    });
    let n_chunked = N_CHUNKED.load(Ordering::Relaxed);
    say(&format!("{n_chunked} records were passed over by replays"));
    assert!(end - first < LIVES || LIVES / 10 < n_chunked);
}
