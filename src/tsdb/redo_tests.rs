//! Crashes of a life that notes again and again how far chunk files have the log.

use std::path::Path;

use crate::foundation::durable::watch::Watch;
use crate::head::HeadSettings;
use crate::model::Interval;
use crate::tsdb::TsdbSettings;
use crate::tsdb::crash_tests::{Life, crash_everywhere};
use crate::tsdb::tests::settings;

fn small_files() -> TsdbSettings {
    let base = settings();
    TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: 200,
            chunk_file_bytes_max: 1 << 10,
            ..base.head
        },
        ..base
    }
}

impl Life {
    /// Nothing is closed well, so that every start replays the log.
    fn live_noting(&mut self, dir: &Path, watch: &Watch) {
        self.live_and_note(dir, watch, false);
    }

    /// The head is saved in between: what is noted then is newer than that, and a clean stop newer than what was noted.
    fn live_noting_behind_clean_stops(&mut self, dir: &Path, watch: &Watch) {
        self.live_and_note(dir, watch, true);
        let report = self.open(dir).replayed();
        assert_eq!(report.n_restored, 0, "the redo point is used");
        assert!(100 < report.n_records_redone, "{report:?}");
    }

    fn live_and_note(&mut self, dir: &Path, watch: &Watch, stops_clean: bool) {
        let mut n_chunked = 0;
        let mut n_noted = 0;
        for part in 0..3 {
            let db = self.open(dir);
            n_chunked += db.replayed().n_records_redone;
            let is_restored = db.replayed().n_restored > 0;
            assert_eq!(is_restored, stops_clean && 0 < part);
            for n in part * 60..(part + 1) * 60 {
                self.append(&db, watch, &["a", "h", "b"], 5 + n * 20);
                n_noted += u64::from(db.head().note_redo_point(0).unwrap());
                if n % 16 == 15 {
                    self.sync(&db, watch);
                }
                if n % 20 == 19 {
                    db.head().rotate_log();
                }
                if n == 100 {
                    let interval = Interval { min: 300, max: 500 };
                    self.delete(&db, watch, "a", interval);
                }
                // What was saved goes with a cut.
                if n == 130 && !stops_clean {
                    self.cut(&db, watch);
                }
            }
            if stops_clean && part < 2 {
                self.close(&db, watch);
            }
        }
        assert!(10 < n_noted, "{n_noted} redo points");
        assert!(
            stops_clean || 60 < n_chunked,
            "{n_chunked} records are passed over"
        );
    }
}

/// Every fourth operation of so many is enough.
#[test]
fn a_noted_redo_point_loses_nothing_whatever_ends_the_life() {
    crash_everywhere(Life::new(small_files(), false), Life::live_noting, 4);
}

#[test]
fn a_noted_redo_point_loses_nothing_that_was_synced_whatever_ends_the_life() {
    crash_everywhere(Life::new(small_files(), true), Life::live_noting, 4);
}

#[test]
fn a_redo_point_behind_a_clean_stop_loses_nothing_whatever_ends_the_life() {
    let life = Life::new(small_files(), false);
    crash_everywhere(life, Life::live_noting_behind_clean_stops, 2);
}
