//! Samples that come after newer ones.

use std::path::Path;

use crate::chunk::decode_floats;
use crate::head::{Head, HeadSettings, ReplayProgress, ReplayReport};
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{AppendError, Appendable, Queryable, SelectHints};

pub(super) fn open(dir: &Path) -> (Head, ReplayReport) {
    let settings = HeadSettings {
        chunk_range_ms: 1000,
        out_of_order_window_ms: 5000,
        ..HeadSettings::default()
    };
    Head::open(dir, settings, i64::MIN, &ReplayProgress::default()).unwrap()
}

pub(super) fn try_append(head: &Head, t: i64, v: f64) -> Result<(), AppendError> {
    let labels = Labels::new(&[("n", "a")]).unwrap();
    let mut appender = head.appender();
    appender.append_labels(&labels, t, v)?;
    appender.commit()
}

pub(super) fn append(head: &Head, times: impl IntoIterator<Item = i64>) {
    for t in times {
        try_append(head, t, 0.5).unwrap();
    }
}

pub(super) fn samples(source: &dyn Queryable) -> Vec<(i64, f64)> {
    let all = [Matcher::equal("n", "a")];
    let mut set = source
        .select(&all, &SelectHints::new(Interval::ALL))
        .unwrap();
    let (mut times, mut values) = (Vec::new(), Vec::new());
    while let Some(series) = set.next() {
        for chunk in &series.unwrap().chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
        }
    }
    times.into_iter().zip(values).collect()
}

pub(super) fn times(source: &dyn Queryable) -> Vec<i64> {
    samples(source).into_iter().map(|(t, _)| t).collect()
}

#[test]
fn a_sample_may_be_as_old_as_the_window_and_no_older() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    append(&head, [10_000]);
    let oldest = 5000;
    assert_eq!(
        try_append(&head, 4999, 1.0),
        Err(AppendError::TooOld { oldest })
    );
    append(&head, [5000, 9999]);
    assert_eq!(times(&head), [5000, 9999, 10_000]);
    let stats = head.stats();
    assert_eq!(
        (stats.too_old_total, stats.out_of_order_appended_total),
        (1, 2)
    );
    head.set_out_of_order_window(0);
    assert_eq!(
        try_append(&head, 9998, 1.0),
        Err(AppendError::OutOfOrder { newest: 10_000 })
    );
    assert_eq!(
        try_append(&head, 4000, 1.0),
        Err(AppendError::OutOfBounds { oldest: 9500 })
    );
    assert_eq!(times(&head), [5000, 9999, 10_000]);
}

#[test]
fn another_value_where_one_waits_is_a_duplicate_and_what_came_in_order_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    append(&head, [9000, 10_000]);
    append(&head, [9500]);
    assert_eq!(try_append(&head, 9500, 7.0), Err(AppendError::Duplicate));
    append(&head, [9500]);
    // The head does not look into its chunks whether a time is there.
    try_append(&head, 9000, 7.0).unwrap();
    assert_eq!(samples(&head), [(9000, 0.5), (9500, 0.5), (10_000, 0.5)]);
}

#[test]
fn a_reader_sees_nothing_that_came_out_of_order_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    append(&head, [10_000, 9000]);
    let view = head.view();
    append(&head, (0..40).map(|n| 8000 + n * 10));
    assert_eq!(times(&view), [9000, 10_000]);
    assert_eq!(times(&head).len(), 42);
}

#[test]
fn a_restart_finds_waiting_samples_in_the_log_and_chunks_by_their_markers() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    append(&head, [10_000]);
    append(&head, (0..70).map(|n| 8000 + n * 10));
    let seen = samples(&head);
    drop(head);
    let (head, report) = open(dir.path());
    assert_eq!(samples(&head), seen);
    assert_eq!((report.n_out_of_order_chunks, report.n_damages), (2, 0));
}

#[test]
fn what_is_frozen_is_read_until_it_is_dropped_and_its_log_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    append(&head, [10_000]);
    append(&head, (0..40).map(|n| 8000 + n * 10));
    let frozen = head.freeze_out_of_order().unwrap().unwrap();
    assert_eq!((frozen.span.min, frozen.span.max), (8000, 8390));
    append(&head, [7000]);
    assert_eq!(frozen.series_in(Interval::ALL).count(), 1);
    assert_eq!(times(&head).len(), 42);
    head.drop_frozen(frozen).unwrap();
    assert_eq!(times(&head), [7000, 10_000]);
    drop(head);
    assert_eq!(times(&open(dir.path()).0), [7000, 10_000]);
}

#[test]
fn what_is_to_come_in_order_or_not_at_all_never_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    append(&head, [8000, 10_000]);
    let labels = Labels::new(&[("n", "a")]).unwrap();
    let mut appender = head.appender();
    let series = appender.append_labels(&labels, 9000, 1.0).unwrap();
    appender.discard_out_of_order(true);
    let newest = 10_000;
    let refused = Err(AppendError::OutOfOrder { newest });
    assert_eq!(appender.append(series, 9600, 2.0), refused);
    let oldest = 9500;
    let refused = Err(AppendError::OutOfBounds { oldest });
    assert_eq!(appender.append(series, 7000, 2.0), refused);
    appender.append(series, 11_000, 3.0).unwrap();
    appender.discard_out_of_order(false);
    appender.append(series, 9200, 4.0).unwrap();
    // Before the commit somebody is faster.
    append(&head, [12_000]);
    appender.commit().unwrap();
    assert_eq!(times(&head), [8000, 9000, 9200, 10_000, 12_000]);
    let stats = head.stats();
    assert_eq!(
        (stats.out_of_order_total, stats.out_of_bounds_total),
        (0, 0)
    );
    drop(head);
    assert_eq!(
        times(&open(dir.path()).0),
        [8000, 9000, 9200, 10_000, 12_000]
    );
}

#[test]
fn it_is_counted_how_late_samples_were_taken_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) = open(dir.path());
    let minute = 60_000;
    append(&head, [1000 * minute]);
    append(&head, [1000 * minute - 4000, 1000 * minute, 1001 * minute]);
    for late in [10, 11, 720, 721] {
        assert!(try_append(&head, 1001 * minute - late * minute, 1.0).is_err());
    }
    let delays = head.stats().late_delays;
    assert_eq!(delays.counts, [2, 1, 0, 0, 0, 0, 1, 1]);
    assert_eq!(delays.sum_ms, 4000 + (10 + 11 + 720 + 721) * 60_000);
    head.set_out_of_order_window(0);
    assert!(try_append(&head, 1000 * minute, 1.0).is_err());
    assert_eq!(head.stats().late_delays.counts, [3, 1, 0, 0, 0, 0, 1, 1]);
}
