//! The ends of lives that take samples while the log is replayed.

use std::path::Path;
use std::sync::Arc;

use crate::foundation::ManualClock;
use crate::foundation::durable::watch::Watch;
use crate::tsdb::crash_tests::{Life, crash_everywhere};
use crate::tsdb::tests::settings;
use crate::tsdb::{Tsdb, TsdbSettings};

/// Floats, histograms and exemplars; some samples late, for the old log or the young one.
fn settings_with_window() -> TsdbSettings {
    let mut settings = settings();
    settings.head.out_of_order_window_ms = 2000;
    settings
}

/// Starts of which some come to the end of the replay, and some find what one left that did not.
fn restart(life: &mut Life, dir: &Path, watch: &Watch) {
    let db = life.open(dir);
    for n in 0..40 {
        life.append(&db, watch, &["a", "b", "h"], 5 + n * 40);
    }
    life.cut(&db, watch);
    drop(db);
    let mut n = 40;
    for comes_to_its_end in [true, false, true, false, false, true] {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let opened = Tsdb::open_at_once(dir, settings_with_window(), clock, &Arc::default());
        let (db, opening) = opened.unwrap();
        for _ in 0..9 {
            life.append(&db, watch, &["a", "c", "h"], 5 + n * 40);
            life.append(&db, watch, &["l"], 6 + (n - n % 5 * 2) * 40);
            n += 1;
            if n % 4 == 0 {
                life.append_exemplar(&db, watch, "a", 5 + (n - 1) * 40);
                life.sync(&db, watch);
                db.head().close_segments().unwrap();
            }
        }
        if comes_to_its_end {
            let taken = opening.unwrap().run().unwrap();
            assert_eq!((taken.n_known, taken.n_refused), (0, 0));
            life.append(&db, watch, &["a", "c", "d", "h"], 5 + n * 40);
            n += 1;
            life.cut(&db, watch);
        }
        // A later life syncs what it writes itself.
        life.sync(&db, watch);
    }
}

#[test]
fn an_end_while_the_log_is_replayed_loses_no_synced_commit() {
    crash_everywhere(Life::new(settings_with_window(), true), restart, 2);
}

#[test]
fn an_end_while_the_log_is_replayed_loses_no_more_than_any_other() {
    crash_everywhere(Life::new(settings_with_window(), false), restart, 2);
}
