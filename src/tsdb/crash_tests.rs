//! After every operation of a scripted life the process or the machine ends: what was acknowledged is there, what was
//! deleted stays away, nothing is there that nobody sent, and nobody has to do anything about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::chunk::{decode_floats, decode_histograms};
use crate::foundation::ManualClock;
use crate::foundation::durable::disk::{Crash, Dice, Disk};
use crate::foundation::durable::watch::{Operation, Watch};
use crate::model::{
    BucketSpan, Buckets, Counts, Exemplar, Histogram, Interval, Labels, Matcher, ResetHint,
    SampleTime,
};
use crate::storage::{Appendable, Queryable, SelectHints};
use crate::tsdb::tests::{Model, all, labels, scratch, settings};
use crate::tsdb::{SNAPSHOTS_DIR, Tsdb, TsdbSettings};

/// When something was begun, when it was acknowledged, and from when on the disk has it: numbers of operations.
#[derive(Debug, Clone, Copy)]
struct Moments {
    begun: usize,
    acknowledged: usize,
    safe: usize,
}

impl Moments {
    /// Is it there when the end came before operation `n`?
    fn holds(&self, n: usize, crash: Crash) -> bool {
        match crash {
            Crash::Kill => self.acknowledged <= n,
            Crash::PowerLost | Crash::PowerLostZeros | Crash::PowerLostPartly(_) => self.safe <= n,
        }
    }
}

#[derive(Debug)]
struct Deletion {
    name: String,
    interval: Interval,
    at: Moments,
}

/// Samples that went with their blocks.
#[derive(Debug)]
struct Retired {
    samples: BTreeSet<(String, i64)>,
    at: Moments,
}

/// A snapshot of these samples.
#[derive(Debug)]
struct Snapshot {
    name: String,
    samples: Model,
    at: Moments,
}

/// What was done, and how far the file system was then.
#[derive(Debug, Default)]
pub(super) struct Life {
    settings: TsdbSettings,
    /// By series and time.
    appended: BTreeMap<(String, i64), (u64, Moments)>,
    exemplars: BTreeMap<(String, i64), Moments>,
    deleted: Vec<Deletion>,
    retired: Vec<Retired>,
    snapshots: Vec<Snapshot>,
    /// Up to where the head let go of exemplars, and when that was begun.
    truncated: Vec<(i64, usize)>,
    /// Whether every commit is synced before it is acknowledged.
    is_always: bool,
}

/// What was there after a crash.
#[derive(Debug, Default, PartialEq)]
struct Found {
    samples: Model,
    exemplars: BTreeSet<(String, i64)>,
}

/// Series of whole histograms and of gauges; all others are floats.
const WHOLE: &str = "h";
const GAUGE: &str = "g";

fn small(t: i64) -> f64 {
    f64::from(i32::try_from(t).unwrap())
}

/// What stands at a time of such a series, always; its buckets grow in number.
fn histogram(name: &str, t: i64) -> (Counts, Histogram) {
    let count = small(t) + 1.0;
    let n_more = u32::try_from(t / 900).unwrap();
    let mut counts = vec![count - 1.0 - f64::from(n_more), 1.0];
    counts.extend((0..n_more).map(|_| 1.0));
    let mut histogram = Histogram {
        count,
        sum: count * 2.0,
        positive: Buckets {
            spans: vec![BucketSpan {
                offset: 3,
                length: 2 + n_more,
            }],
            counts,
        },
        ..Histogram::default()
    };
    if name == WHOLE {
        return (Counts::Whole, histogram);
    }
    histogram.reset_hint = ResetHint::Gauge;
    histogram.sum = 0.25;
    (Counts::Float, histogram)
}

/// The bits of a value; those of a histogram are its count's, negated, which no float is.
fn bits(name: &str, t: i64) -> u64 {
    if [WHOLE, GAUGE].contains(&name) {
        (-histogram(name, t).1.count).to_bits()
    } else {
        (small(t) * 0.1).to_bits()
    }
}

/// As [`bits`], of what was read; anything else than what was written at that time is zero.
fn bits_of(name: &str, t: i64, read: &Histogram) -> u64 {
    let wanted = histogram(name, t).1;
    let filled = |h: &Histogram| -> Vec<f64> {
        let counts = h.positive.counts.iter().copied();
        counts.filter(|count| *count != 0.0).collect()
    };
    let is_same = filled(read) == filled(&wanted)
        && (read.count.to_bits(), read.sum.to_bits())
            == (wanted.count.to_bits(), wanted.sum.to_bits())
        && (read.reset_hint == ResetHint::Gauge) == (name == GAUGE);
    if is_same { bits(name, t) } else { 0 }
}

/// Every timestamp once, from the chunk that comes first.
fn read(source: &dyn Queryable) -> Model {
    let hints = SelectHints::new(Interval::ALL);
    let mut set = source.select(&all(), &hints).unwrap();
    let mut model = Model::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let name = series.labels.value("n");
        let merged = model.entry(name.to_owned()).or_default();
        for chunk in &series.chunks {
            let mut times = Vec::new();
            let values: Vec<u64> = if chunk.encoding.has_histograms() {
                let mut values = Vec::new();
                decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
                let pairs = times.iter().zip(&values);
                pairs.map(|(t, h)| bits_of(name, *t, h)).collect()
            } else {
                let mut values = Vec::new();
                decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
                values.iter().map(|v| v.to_bits()).collect()
            };
            for (t, v) in times.into_iter().zip(values) {
                merged.entry(t).or_insert(v);
            }
        }
    }
    model.retain(|_, times| !times.is_empty());
    assert_eq!(set.warnings(), [""; 0]);
    model
}

fn exemplar(t: i64) -> Exemplar {
    Exemplar {
        labels: Labels::new(&[("id", &t.to_string())]).unwrap(),
        v: 0.5,
        t,
        has_own_time: true,
    }
}

fn found(db: &Tsdb) -> Found {
    let named = db.head().exemplars(&[all().to_vec()], Interval::ALL);
    let times = named.iter().flat_map(|series| {
        let name = series.labels.value("n");
        let exemplars = series.exemplars.iter();
        exemplars.map(move |one| (name.to_owned(), one.t))
    });
    Found {
        samples: read(&*db.timeline()),
        exemplars: times.collect(),
    }
}

impl Life {
    pub(super) fn new(settings: TsdbSettings, is_always: bool) -> Self {
        Self {
            settings,
            is_always,
            ..Self::default()
        }
    }

    pub(super) fn open(&self, dir: &Path) -> Tsdb {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        Tsdb::open(dir, self.settings, clock).unwrap()
    }

    fn moments(&self, begun: usize, watch: &Watch) -> Moments {
        let acknowledged = watch.n_operations();
        Moments {
            begun,
            acknowledged,
            safe: if self.is_always {
                acknowledged
            } else {
                usize::MAX
            },
        }
    }

    /// Of what is safe when it returns, whatever the log does.
    fn safe_since(begun: usize, watch: &Watch) -> Moments {
        let now = watch.n_operations();
        Moments {
            begun,
            acknowledged: now,
            safe: now,
        }
    }

    pub(super) fn append(&mut self, db: &Tsdb, watch: &Watch, names: &[&str], t: i64) {
        let begun = watch.n_operations();
        let mut appender = db.appender();
        for name in names {
            let labels = labels(name);
            if [WHOLE, GAUGE].contains(name) {
                let series = appender.series(labels.key(), &mut || Ok(labels.clone()));
                let (counts, histogram) = histogram(name, t);
                let (at, histogram) = (SampleTime::from(t), Arc::new(histogram));
                appender
                    .append_histogram(series.unwrap(), at, counts, &histogram)
                    .unwrap();
            } else {
                let v = f64::from_bits(bits(name, t));
                appender.append_labels(&labels, t, v).unwrap();
            }
        }
        appender.commit().unwrap();
        if self.is_always {
            db.sync().unwrap();
        }
        let at = self.moments(begun, watch);
        for name in names {
            self.appended
                .insert(((*name).to_owned(), t), (bits(name, t), at));
        }
    }

    pub(super) fn append_exemplar(&mut self, db: &Tsdb, watch: &Watch, name: &str, t: i64) {
        let begun = watch.n_operations();
        let mut appender = db.appender();
        let labels = labels(name);
        let series = appender.series(labels.key(), &mut || Ok(labels.clone()));
        appender.exemplar(series.unwrap(), &exemplar(t)).unwrap();
        appender.commit().unwrap();
        if self.is_always {
            db.sync().unwrap();
        }
        let at = self.moments(begun, watch);
        self.exemplars.insert((name.to_owned(), t), at);
    }

    pub(super) fn delete(&mut self, db: &Tsdb, watch: &Watch, name: &str, interval: Interval) {
        let begun = watch.n_operations();
        db.delete_series(&[Matcher::equal("n", name)], interval)
            .unwrap();
        if self.is_always {
            db.sync().unwrap();
        }
        let at = self.moments(begun, watch);
        self.deleted.push(Deletion {
            name: name.to_owned(),
            interval,
            at,
        });
    }

    pub(super) fn sync(&mut self, db: &Tsdb, watch: &Watch) {
        db.sync().unwrap();
        let now = watch.n_operations();
        let moments = self.appended.values_mut().map(|(_, at)| at);
        let deletions = self.deleted.iter_mut().map(|deletion| &mut deletion.at);
        let exemplars = self.exemplars.values_mut();
        for at in moments.chain(deletions).chain(exemplars) {
            at.safe = at.safe.min(now);
        }
    }

    pub(super) fn cut(&mut self, db: &Tsdb, watch: &Watch) {
        while let Some(range) = db.cut_due() {
            self.truncated.push((range.max, watch.n_operations()));
            db.cut().unwrap();
        }
        self.sync(db, watch);
    }

    /// Ends well, so that the next start finds the head saved.
    pub(super) fn close(&mut self, db: &Tsdb, watch: &Watch) {
        self.sync(db, watch);
        db.close().unwrap();
    }

    /// Makes a snapshot of everything.
    pub(super) fn snapshot(&mut self, db: &Tsdb, watch: &Watch) {
        let (begun, samples) = (watch.n_operations(), read(&*db.timeline()));
        let name = db.snapshot(false).unwrap();
        self.snapshots.push(Snapshot {
            name,
            samples,
            at: Self::safe_since(begun, watch),
        });
    }

    /// Does something that takes blocks away; how many samples went with them.
    pub(super) fn retire(&mut self, db: &Tsdb, watch: &Watch, work: impl FnOnce(&Tsdb)) -> usize {
        let keys = |model: Model| -> BTreeSet<(String, i64)> {
            let of_series = |(name, times): (String, BTreeMap<i64, u64>)| {
                times.into_keys().map(move |t| (name.clone(), t))
            };
            model.into_iter().flat_map(of_series).collect()
        };
        let (begun, before) = (watch.n_operations(), keys(read(&*db.timeline())));
        work(db);
        let after = keys(read(&*db.timeline()));
        assert!(after.is_subset(&before));
        let samples: BTreeSet<_> = before.difference(&after).cloned().collect();
        let n_gone = samples.len();
        self.retired.push(Retired {
            samples,
            at: Self::safe_since(begun, watch),
        });
        n_gone
    }

    /// Appends, deletes, cuts with truncation and checkpoint, compacts, cleans, makes a snapshot, closes well and opens.
    fn live(&mut self, dir: &Path, watch: &Watch) {
        let db = self.open(dir);
        for n in 0..60 {
            self.append(&db, watch, &["a", "b"], 5 + n * 40);
            if n % 7 == 0 {
                self.append(&db, watch, &["c"], 5 + n * 40);
            }
            if n % 10 == 9 {
                self.sync(&db, watch);
                db.head().rotate_log();
            }
        }
        self.delete(&db, watch, "a", Interval { min: 300, max: 500 });
        self.cut(&db, watch);
        let deleted = Interval {
            min: 600,
            max: 1500,
        };
        self.delete(&db, watch, "b", deleted);
        self.close(&db, watch);
        drop(db);
        let db = self.open(dir);
        assert!(db.replayed().n_restored > 0);
        for n in 60..180 {
            let names: &[&str] = if n % 3 == 0 { &["a", "d"] } else { &["a", "b"] };
            self.append(&db, watch, names, 5 + n * 40);
            if n % 30 == 29 {
                self.cut(&db, watch);
            }
            if n % 20 == 19 {
                db.head().rotate_log();
            }
        }
        self.snapshot(&db, watch);
        while db.compact().unwrap().is_some() {}
        self.delete(&db, watch, "d", Interval { min: 0, max: 3000 });
        db.clean_tombstones().unwrap();
        self.close(&db, watch);
        drop(db);
        let db = self.open(dir);
        assert!(db.replayed().n_restored > 0);
        for n in 180..190 {
            self.append(&db, watch, &["a", "b", "e"], 5 + n * 40);
        }
    }

    /// What is wrong with `found` when the end came before operation `n`.
    fn faults(&self, found: &Found, n: usize, crash: Crash) -> Vec<String> {
        let mut faults = Vec::new();
        for ((name, t), (bits, at)) in &self.appended {
            let covering = || {
                let covers = |deletion: &&Deletion| {
                    deletion.name == *name
                        && deletion.interval.contains(*t)
                        && at.acknowledged <= deletion.at.begun
                };
                let deletions = self.deleted.iter().filter(covers);
                let key = (name.clone(), *t);
                let took = move |retired: &&Retired| retired.samples.contains(&key);
                let retired = self.retired.iter().filter(took);
                deletions
                    .map(|deletion| deletion.at)
                    .chain(retired.map(|retired| retired.at))
            };
            let times = found.samples.get(name);
            let is_there = times.and_then(|times| times.get(t)) == Some(bits);
            let may_be_gone = covering().any(|at| at.begun <= n);
            let must_be_gone = covering().any(|at| at.holds(n, crash));
            if at.holds(n, crash) && !is_there && !may_be_gone {
                faults.push(format!("{name} {t} is lost"));
            }
            if is_there && must_be_gone {
                faults.push(format!("{name} {t} is back"));
            }
        }
        for (name, times) in &found.samples {
            for (t, bits) in times {
                let sent = self.appended.get(&(name.clone(), *t));
                if !sent.is_some_and(|(sent, at)| sent == bits && at.begun <= n) {
                    faults.push(format!("{name} {t} was never sent"));
                }
            }
        }
        self.exemplar_faults(&found.exemplars, n, crash, &mut faults);
        faults
    }

    fn exemplar_faults(
        &self,
        found: &BTreeSet<(String, i64)>,
        n: usize,
        crash: Crash,
        faults: &mut Vec<String>,
    ) {
        for (key, at) in &self.exemplars {
            // The log keeps exemplars for as long as samples of their time.
            let mut truncated = self.truncated.iter();
            let may_be_gone = truncated.any(|(before, begun)| key.1 < *before && *begun <= n);
            if at.holds(n, crash) && !may_be_gone && !found.contains(key) {
                faults.push(format!("the exemplar of {} at {} is lost", key.0, key.1));
            }
        }
        for key in found {
            let sent = self.exemplars.get(key);
            if sent.is_none_or(|at| n < at.begun) {
                faults.push(format!("nobody sent an exemplar of {} at {}", key.0, key.1));
            }
        }
    }

    /// Opens what is left, twice: what the first start does must not harm the second. What it finds.
    fn reopened(
        &self,
        disk: &Disk,
        n: usize,
        (crash, root): (Crash, &Path),
    ) -> Result<Found, String> {
        let dir = scratch();
        let _no_syncs = Watch::of(dir.path());
        disk.survivors(crash, root, dir.path()).unwrap();
        let data = dir.path().join("data");
        self.check_snapshots(&data, n, crash)?;
        let db = self.open(&data);
        let first = found(&db);
        if !db.quarantined().is_empty() {
            return Err(format!("blocks were set aside: {:?}", db.quarantined()));
        }
        let mut appender = db.appender();
        appender
            .append_labels(&labels("later"), 90_000, 1.0)
            .unwrap();
        appender.commit().unwrap();
        drop(db);
        let db = self.open(&data);
        let mut second = found(&db);
        if second.samples.remove("later").is_none() {
            return Err("what was committed after the crash is lost".to_owned());
        }
        if first != second {
            return Err("the second start finds something else".to_owned());
        }
        Ok(first)
    }

    /// A snapshot that was made is a database of its own. Nothing touches it later, so that a few looks are enough.
    fn check_snapshots(&self, data: &Path, n: usize, crash: Crash) -> Result<(), String> {
        for snapshot in &self.snapshots {
            let is_looked_at = n < snapshot.at.acknowledged + 12 || n.is_multiple_of(97);
            if !snapshot.at.holds(n, crash) || !is_looked_at {
                continue;
            }
            let db = self.open(&data.join(SNAPSHOTS_DIR).join(&snapshot.name));
            if read(&*db.timeline()) != snapshot.samples {
                return Err(format!("snapshot {} holds something else", snapshot.name));
            }
        }
        Ok(())
    }
}

/// Half of a write is there.
fn torn(operation: &Operation) -> Option<Operation> {
    let Operation::Write {
        path,
        offset,
        bytes,
    } = operation
    else {
        return None;
    };
    (1 < bytes.len()).then(|| Operation::Write {
        path: path.clone(),
        offset: *offset,
        bytes: bytes[..bytes.len() / 2].to_vec(),
    })
}

/// Lives `script` once, and ends it after every operation, or every so many-th, in several ways.
pub(super) fn crash_everywhere(
    mut life: Life,
    script: impl FnOnce(&mut Life, &Path, &Watch),
    every: usize,
) {
    let dir = scratch();
    let root = dir.path();
    let watch = Watch::of(root);
    script(&mut life, &root.join("data"), &watch);
    let operations = watch.operations();
    drop(watch);
    let mut dice = Dice(7);
    let mut disk = Disk::default();
    let mut n_crashes = 0;
    let check = |disk: &Disk, n: usize, crash: Crash| {
        let faults = match life.reopened(disk, n, (crash, root)) {
            Ok(found) => life.faults(&found, n, crash),
            Err(fault) => vec![fault],
        };
        let last = n.checked_sub(1).map(|n| &operations[n]);
        assert!(
            faults.is_empty(),
            "{crash:?} after operation {n} of {}, {last:?}: {:?} and {} more",
            operations.len(),
            faults[0],
            faults.len() - 1
        );
    };
    for (n, operation) in operations.iter().enumerate() {
        let mut crashes = vec![Crash::Kill];
        // Where nothing is unsynced the others are the same.
        if n % 2 == 0 || !matches!(operation, Operation::Write { .. }) {
            crashes.push(Crash::PowerLost);
            crashes.push(Crash::PowerLostPartly(dice.below(1 << 20) as u64));
        }
        if n % 5 == 0 {
            crashes.push(Crash::PowerLostZeros);
        }
        let is_looked_at = n.is_multiple_of(every);
        for crash in crashes.into_iter().filter(|_| is_looked_at) {
            check(&disk, n, crash);
            n_crashes += 1;
        }
        if let Some(half) = torn(operation).filter(|_| is_looked_at) {
            let mut torn_disk = disk.clone();
            torn_disk.apply(&half);
            check(&torn_disk, n, Crash::Kill);
            n_crashes += 1;
        }
        disk.apply(operation);
    }
    writeln!(
        std::io::stdout(),
        "{n_crashes} crashes at {} operations, {} samples, {} exemplars, {} deletions, {} snapshots, {} retirements",
        operations.len(),
        life.appended.len(),
        life.exemplars.len(),
        life.deleted.len(),
        life.snapshots.len(),
        life.retired.len()
    )
    .unwrap();
    assert!(400 < operations.len() && 2 * operations.len() / every < n_crashes);
}

#[test]
fn whatever_ends_it_synced_commits_are_there_and_nothing_else() {
    crash_everywhere(Life::new(settings(), true), Life::live, 1);
}

#[test]
fn what_was_synced_survives_the_machine_and_all_the_rest_the_process() {
    crash_everywhere(Life::new(settings(), false), Life::live, 1);
}
