//! One head takes over what another was given.

use crate::head::values_tests::{
    Model, Random, assert_same, content, labels, open, scratch, settings, transact,
};
use crate::head::{Head, HeadSettings, TakeOver, TakenOver};
use crate::model::{
    Exemplar, Interval, Labels, Matcher, Metadata, MetricType, SampleTime, stale_nan,
};
use crate::storage::{AppendError, Appendable, SeriesRef};

/// Takes over everything at once.
fn take_over(head: &Head, young: &Head, dir: &std::path::Path) -> TakenOver {
    let mut take_over = TakeOver::new(head, dir);
    take_over.read(young.close_segments().unwrap()).unwrap();
    take_over.finish()
}

fn append(head: &Head, name: &str, samples: &[(i64, f64)]) {
    for (t, v) in samples {
        let mut appender = head.appender();
        appender.append_labels(&labels(name), *t, *v).unwrap();
        appender.commit().unwrap();
    }
}

fn n_samples(model: &Model) -> u64 {
    model.values().map(|samples| samples.len() as u64).sum()
}

#[test]
fn values_of_all_kinds_are_taken_over_pass_by_pass_and_once() {
    for seed in 0..60 {
        let (old_dir, young_dir) = (scratch(), scratch());
        let settings = settings(seed % 2 == 1);
        let mut random = Random(seed);
        let (mut model, mut now) = (Model::new(), 10_000);
        let head = open(old_dir.path(), settings, i64::MIN);
        for _ in 0..random.below(12) {
            transact(&head, &mut random, &mut model, &mut now);
        }
        let n_before = n_samples(&model);
        let young = open(young_dir.path(), settings, i64::MIN);
        let mut pass_by_pass = TakeOver::new(&head, young_dir.path());
        for _ in 0..4 {
            for _ in 0..random.below(12) {
                transact(&young, &mut random, &mut model, &mut now);
            }
            let closed = young.close_segments().unwrap();
            pass_by_pass.read(closed).unwrap();
            assert_same(&head, &model, i64::MIN, seed);
        }
        let taken = pass_by_pass.finish();
        let n_young = n_samples(&model) - n_before;
        assert_eq!(
            (taken.n_samples, taken.n_known, taken.n_refused),
            (n_young, 0, 0)
        );
        let again = take_over(&head, &young, young_dir.path());
        assert_eq!(
            (again.n_samples, again.n_known, again.n_refused),
            (0, n_young, 0),
            "seed {seed}"
        );
        assert_same(&head, &model, i64::MIN, seed);
        drop(head);
        assert_same(
            &open(old_dir.path(), settings, i64::MIN),
            &model,
            i64::MIN,
            seed,
        );
    }
}

#[test]
fn exemplars_and_metadata_come_along_and_survive_a_restart() {
    let (old_dir, young_dir) = (scratch(), scratch());
    let head = open(old_dir.path(), settings(false), i64::MIN);
    let young = open(young_dir.path(), settings(false), i64::MIN);
    let mut appender = young.appender();
    let series = appender.append_labels(&labels("a"), 10, 1.0).unwrap();
    let exemplar = Exemplar {
        labels: Labels::new(&[("trace", "x")]).unwrap(),
        v: 0.5,
        t: 9,
        has_own_time: false,
    };
    let metadata = Metadata {
        metric_type: MetricType::Counter,
        help: "Things.".to_owned(),
        unit: String::new(),
    };
    appender.exemplar(series, &exemplar).unwrap();
    appender.metadata(series, &metadata).unwrap();
    appender.commit().unwrap();
    take_over(&head, &young, young_dir.path());
    let check = |head: &Head| {
        let found = head.exemplars(&[vec![Matcher::equal("n", "a")]], Interval::ALL);
        assert_eq!(found[0].exemplars, std::slice::from_ref(&exemplar));
        let known = head.metadata();
        assert_eq!(
            (&*known[0].0, &*known[0].1, known.len()),
            ("m", &metadata, 1)
        );
    };
    check(&head);
    drop(head);
    check(&open(old_dir.path(), settings(false), i64::MIN));
}

#[test]
fn what_does_not_follow_is_refused_and_counted_unless_there_is_a_window() {
    for window_ms in [0, 1000] {
        let (old_dir, young_dir) = (scratch(), scratch());
        let settings = HeadSettings {
            out_of_order_window_ms: window_ms,
            ..settings(false)
        };
        let head = open(old_dir.path(), settings, i64::MIN);
        append(&head, "a", &[(5000, 1.0), (6000, 2.0)]);
        let young = open(young_dir.path(), settings, i64::MIN);
        // Before what is there, between, another value, the same, and behind it.
        append(
            &young,
            "a",
            &[
                (4000, 3.0),
                (5500, 4.0),
                (6000, 5.0),
                (7000, 6.0),
                (90_000, 7.0),
            ],
        );
        append(&young, "b", &[(89_500, 8.0)]);
        let taken = take_over(&head, &young, young_dir.path());
        let found = content(&head, Interval::ALL);
        let times: Vec<i64> = found["a"].keys().copied().collect();
        let stats = head.stats();
        if window_ms == 0 {
            assert_eq!(times, [5000, 6000, 7000, 90_000]);
            assert_eq!((taken.n_samples, taken.n_refused), (3, 3));
            assert_eq!((stats.out_of_order_total, stats.duplicate_total), (2, 1));
        } else {
            // However old: it was acknowledged.
            assert_eq!(times, [4000, 5000, 5500, 6000, 7000, 90_000]);
            assert_eq!((taken.n_samples, taken.n_refused), (5, 1));
            assert_eq!(stats.out_of_order_appended_total, 2);
        }
        assert_eq!(found["b"].len(), 1);
        drop(head);
        let head = open(old_dir.path(), settings, i64::MIN);
        assert_eq!(content(&head, Interval::ALL), found);
    }
}

#[test]
fn samples_that_came_late_to_the_other_head_come_late_here() {
    let (old_dir, young_dir) = (scratch(), scratch());
    let settings = HeadSettings {
        out_of_order_window_ms: 3000,
        ..settings(false)
    };
    let head = open(old_dir.path(), settings, i64::MIN);
    append(&head, "a", &[(1000, 1.0)]);
    let young = open(young_dir.path(), settings, i64::MIN);
    append(
        &young,
        "a",
        &[(5000, 1.5), (3000, 2.0), (9000, 3.0), (8000, 4.0)],
    );
    let taken = take_over(&head, &young, young_dir.path());
    assert_eq!((taken.n_samples, taken.n_refused), (4, 0));
    let again = take_over(&head, &young, young_dir.path());
    assert_eq!((again.n_samples, again.n_known), (0, 4));
    drop(head);
    let head = open(old_dir.path(), settings, i64::MIN);
    let times: Vec<i64> = content(&head, Interval::ALL)["a"].keys().copied().collect();
    assert_eq!(times, [1000, 3000, 5000, 8000, 9000]);
}

#[test]
fn references_of_the_other_head_end_series_and_do_nothing_else() {
    let (old_dir, young_dir) = (scratch(), scratch());
    let head = open(old_dir.path(), settings(false), i64::MIN);
    append(&head, "z", &[(1, 0.0)]);
    append(&head, "a", &[(1, 0.0)]);
    let young = open(young_dir.path(), settings(false), i64::MIN);
    append(&young, "a", &[(10, 1.0)]);
    take_over(&head, &young, young_dir.path());
    let there = SeriesRef::young(1);
    let mut appender = head.appender();
    let unknown = Err(AppendError::UnknownSeries);
    assert_eq!(appender.append(there, 20, 2.0), unknown);
    assert_eq!(
        appender.append(SeriesRef::young(2), 20, stale_nan()),
        unknown
    );
    let at = SampleTime::from(20);
    assert_eq!(appender.append_at(there, at, stale_nan()), Ok(()));
    appender.commit().unwrap();
    let found = content(&head, Interval::ALL);
    assert_eq!((found["a"].len(), found["z"].len()), (3, 1));
}

#[test]
fn a_head_that_was_taken_over_holds_nothing_and_takes_nothing() {
    let dir = scratch();
    let head = open(dir.path(), settings(false), i64::MIN);
    append(&head, "a", &[(10, 1.0)]);
    head.abandon();
    assert!(content(&head, Interval::ALL).is_empty());
    assert_eq!(head.stats().n_series, 0);
    let mut appender = head.appender();
    appender.append_labels(&labels("a"), 20, 1.0).unwrap();
    let refused = appender.commit().unwrap_err();
    assert!(refused.to_string().contains("taken over"), "{refused}");
}
