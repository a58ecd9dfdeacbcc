//! Crashes of a life with samples out of order, native histograms, exemplars, overlapping blocks, retention and a full
//! disk.

use std::path::Path;

use crate::foundation::durable::watch::Watch;
use crate::head::HeadSettings;
use crate::model::Interval;
use crate::tsdb::crash_tests::{Life, crash_everywhere};
use crate::tsdb::tests::settings;
use crate::tsdb::{RetentionSettings, Tsdb, TsdbSettings};

/// Distance of samples.
const STEP: i64 = 40;

fn late_settings() -> TsdbSettings {
    let base = settings();
    TsdbSettings {
        head: HeadSettings {
            out_of_order_window_ms: 1500,
            ..base.head
        },
        retention: RetentionSettings {
            time_ms: Some(3000),
            ..base.retention
        },
        ..base
    }
}

impl Life {
    /// A step with its samples in order, and some of earlier steps.
    fn step(&mut self, db: &Tsdb, watch: &Watch, n: i64) {
        let t = 5 + n * STEP;
        self.append(db, watch, &["a", "h", "g"], t);
        if n % 3 == 2 {
            self.append(db, watch, &["a", "h"], t - 5 * STEP - 2);
        }
        if n % 7 == 6 {
            // Older than what came late before, and of a series that is otherwise in order.
            self.append(db, watch, &["a", "g"], t - 20 * STEP - 3);
        }
        if n % 4 == 0 {
            self.append_exemplar(db, watch, "a", t);
        }
    }

    fn live_late(&mut self, dir: &Path, watch: &Watch) {
        let db = self.open(dir);
        for n in 24..60 {
            self.step(&db, watch, n);
            if n % 10 == 9 {
                self.sync(&db, watch);
                db.inner().head().rotate_log();
            }
        }
        let deleted = |min, max| Interval { min, max };
        self.delete(&db, watch, "a", deleted(1200, 1500));
        self.delete(&db, watch, "h", deleted(1900, 2100));
        self.cut(&db, watch);
        db.cut_out_of_order().unwrap();
        self.sync(&db, watch);
        self.snapshot(&db, watch);
        drop(db);

        let db = self.open(dir);
        for n in 60..110 {
            self.step(&db, watch, n);
            if n == 80 {
                self.cut(&db, watch);
            }
            if n == 90 {
                // Samples of the ranges that were cut, and of those that were not.
                db.cut_out_of_order().unwrap();
            }
            if n % 25 == 24 {
                db.inner().head().rotate_log();
            }
        }
        self.cut(&db, watch);
        db.cut_out_of_order().unwrap();
        let n_before = db.blocks().len();
        while db.compact().unwrap().is_some() {}
        assert!(db.blocks().len() < n_before, "nothing was compacted");
        self.delete(&db, watch, "h", deleted(2500, 2800));
        assert!(0 < db.clean_tombstones().unwrap());
        self.sync(&db, watch);
        self.retire_some(&db, watch);
        for n in 110..116 {
            self.step(&db, watch, n);
        }
    }

    /// First what is old, then what the bucket has when there is no room.
    fn retire_some(&mut self, db: &Tsdb, watch: &Watch) {
        let n_old = self.retire(db, watch, |db| {
            assert_ne!(db.apply_retention(&|_| true).unwrap(), []);
        });
        let n_shipped = self.retire(db, watch, |db| {
            let last = db.blocks().last().unwrap().meta().ulid;
            db.head().note_full();
            assert_eq!(db.make_room(&|meta| meta.ulid == last).unwrap(), [last]);
            assert!(!db.head().is_full());
        });
        assert!(0 < n_old && 0 < n_shipped, "{n_old} and {n_shipped}");
    }
}

/// The same life with more syncs: every third operation is enough.
#[test]
fn late_samples_histograms_and_exemplars_that_were_synced_survive_whatever_ends_it() {
    crash_everywhere(Life::new(late_settings(), true), Life::live_late, 3);
}

#[test]
fn late_samples_histograms_and_exemplars_survive_the_process_and_synced_ones_the_machine() {
    crash_everywhere(Life::new(late_settings(), false), Life::live_late, 1);
}
