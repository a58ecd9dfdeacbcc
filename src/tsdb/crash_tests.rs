//! After every operation of a scripted life the process or the machine ends: what was acknowledged is there, what was
//! deleted stays away, nothing is there that nobody sent, and nobody has to do anything about it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::foundation::durable::disk::{Crash, Dice, Disk};
use crate::foundation::durable::watch::{Operation, Watch};
use crate::model::{Interval, Matcher};
use crate::storage::Appendable;
use crate::tsdb::Tsdb;
use crate::tsdb::tests::{Model, labels, open, samples, scratch};

/// When something was begun, when it was acknowledged, and from when on the disk has it: numbers of operations.
#[derive(Debug, Clone, Copy)]
struct Moments {
    begun: usize,
    acknowledged: usize,
    safe: usize,
}

#[derive(Debug)]
struct Deletion {
    name: String,
    interval: Interval,
    at: Moments,
}

/// What was done, and how far the file system was then.
#[derive(Debug, Default)]
struct Life {
    /// By series and time.
    appended: BTreeMap<(String, i64), (u64, Moments)>,
    deleted: Vec<Deletion>,
    /// Whether every commit is synced before it is acknowledged.
    is_always: bool,
}

impl Life {
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

    fn append(&mut self, db: &Tsdb, watch: &Watch, names: &[&str], t: i64) {
        let begun = watch.n_operations();
        let bits = |t: i64| (f64::from(i32::try_from(t).unwrap()) * 0.1).to_bits();
        let mut appender = db.appender();
        for name in names {
            appender
                .append_labels(&labels(name), t, f64::from_bits(bits(t)))
                .unwrap();
        }
        appender.commit().unwrap();
        if self.is_always {
            db.sync().unwrap();
        }
        let at = self.moments(begun, watch);
        for name in names {
            self.appended.insert(((*name).to_owned(), t), (bits(t), at));
        }
    }

    fn delete(&mut self, db: &Tsdb, watch: &Watch, name: &str, interval: Interval) {
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

    fn sync(&mut self, db: &Tsdb, watch: &Watch) {
        db.sync().unwrap();
        let now = watch.n_operations();
        let moments = self.appended.values_mut().map(|(_, at)| at);
        let deletions = self.deleted.iter_mut().map(|deletion| &mut deletion.at);
        for at in moments.chain(deletions) {
            at.safe = at.safe.min(now);
        }
    }

    /// Appends, deletes, cuts with truncation and checkpoint, compacts, cleans, makes a snapshot, closes and opens.
    fn live(&mut self, dir: &Path, watch: &Watch) {
        let db = open(dir);
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
        self.delete(
            &db,
            watch,
            "b",
            Interval {
                min: 600,
                max: 1500,
            },
        );
        self.sync(&db, watch);
        drop(db);
        let db = open(dir);
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
        db.snapshot(false).unwrap();
        while db.compact().unwrap().is_some() {}
        self.delete(&db, watch, "d", Interval { min: 0, max: 3000 });
        db.clean_tombstones().unwrap();
        self.sync(&db, watch);
        for n in 180..190 {
            self.append(&db, watch, &["a", "b", "e"], 5 + n * 40);
        }
    }

    fn cut(&mut self, db: &Tsdb, watch: &Watch) {
        while db.cut().unwrap().is_some() {}
        self.sync(db, watch);
    }

    /// What is wrong with `found` when the end came before operation `n`.
    fn faults(&self, found: &Model, n: usize, crash: Crash) -> Vec<String> {
        let holds = |at: &Moments| match crash {
            Crash::Kill => at.acknowledged <= n,
            Crash::PowerLost | Crash::PowerLostZeros | Crash::PowerLostPartly(_) => at.safe <= n,
        };
        let mut faults = Vec::new();
        for ((name, t), (bits, at)) in &self.appended {
            let covering = || {
                let covers = |deletion: &&Deletion| {
                    deletion.name == *name
                        && deletion.interval.contains(*t)
                        && at.acknowledged <= deletion.at.begun
                };
                self.deleted.iter().filter(covers)
            };
            let is_there = found.get(name).and_then(|times| times.get(t)) == Some(bits);
            let may_be_gone = covering().any(|deletion| deletion.at.begun <= n);
            let must_be_gone = covering().any(|deletion| holds(&deletion.at));
            if holds(at) && !is_there && !may_be_gone {
                faults.push(format!("{name} {t} is lost"));
            }
            if is_there && must_be_gone {
                faults.push(format!("{name} {t} is back"));
            }
        }
        for (name, times) in found {
            for (t, bits) in times {
                let sent = self.appended.get(&(name.clone(), *t));
                if !sent.is_some_and(|(sent, at)| sent == bits && at.begun <= n) {
                    faults.push(format!("{name} {t} was never sent"));
                }
            }
        }
        faults
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

/// Opens what is left, twice: what the first start does must not harm the second. The samples it finds.
fn reopened(disk: &Disk, crash: Crash, root: &Path) -> Result<Model, String> {
    let dir = scratch();
    let _no_syncs = Watch::of(dir.path());
    disk.survivors(crash, root, dir.path()).unwrap();
    let data = dir.path().join("data");
    let db = open(&data);
    let first = samples(&*db.timeline());
    if !db.quarantined().is_empty() {
        return Err(format!("blocks were set aside: {:?}", db.quarantined()));
    }
    let mut appender = db.appender();
    appender
        .append_labels(&labels("later"), 90_000, 1.0)
        .unwrap();
    appender.commit().unwrap();
    drop(db);
    let db = open(&data);
    let mut second = samples(&*db.timeline());
    if second.remove("later").is_none() {
        return Err("what was committed after the crash is lost".to_owned());
    }
    if first != second {
        return Err("the second start finds something else".to_owned());
    }
    Ok(first)
}

fn crash_everywhere(is_always: bool) {
    let dir = scratch();
    let root = dir.path();
    let watch = Watch::of(root);
    let mut life = Life {
        is_always,
        ..Life::default()
    };
    life.live(&root.join("data"), &watch);
    let operations = watch.operations();
    drop(watch);
    let mut dice = Dice(7);
    let mut disk = Disk::default();
    let mut n_crashes = 0;
    let check = |disk: &Disk, n: usize, crash: Crash| {
        let faults = match reopened(disk, crash, root) {
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
        for crash in crashes {
            check(&disk, n, crash);
            n_crashes += 1;
        }
        if let Some(half) = torn(operation) {
            let mut torn_disk = disk.clone();
            torn_disk.apply(&half);
            check(&torn_disk, n, Crash::Kill);
            n_crashes += 1;
        }
        disk.apply(operation);
    }
    writeln!(
        std::io::stdout(),
        "{n_crashes} crashes at {} operations, {} samples, {} deletions",
        operations.len(),
        life.appended.len(),
        life.deleted.len()
    )
    .unwrap();
    assert!(operations.len() > 400 && n_crashes > 1000);
}

#[test]
fn whatever_ends_it_synced_commits_are_there_and_nothing_else() {
    crash_everywhere(true);
}

#[test]
fn what_was_synced_survives_the_machine_and_all_the_rest_the_process() {
    crash_everywhere(false);
}
