//! Who asks only whether there are samples learns the same as who reads them.

use std::path::Path;

use proptest::prelude::*;

use crate::chunk::decode_floats;
use crate::head::{Head, HeadSettings, HeadView, ReplayProgress};
use crate::model::{Interval, Labels, MatchType, Matcher, is_stale, stale_nan};
use crate::storage::{Appendable, Queryable, SelectHints};

const MINUTE_MS: i64 = 60_000;

fn open(dir: &Path) -> Head {
    let settings = HeadSettings {
        chunk_range_ms: 120 * MINUTE_MS,
        out_of_order_window_ms: 120 * MINUTE_MS,
        ..HeadSettings::default()
    };
    let progress = ReplayProgress::default();
    Head::open(dir, settings, i64::MIN, &progress).unwrap().0
}

/// At which of the times of `steps` every series has a sample that lives, and how many samples said so.
fn presence(view: &HeadView, steps: &[i64], reach_ms: i64, is_asked: bool) -> (String, usize) {
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    let hints = SelectHints {
        presence_ms: is_asked.then_some(reach_ms),
        ..SelectHints::new(Interval {
            min: first - reach_ms + 1,
            max: last,
        })
    };
    let all = [Matcher::new(MatchType::Regex, "n", ".+").unwrap()];
    let mut set = view.select(&all, &hints).unwrap();
    set.sort();
    let (mut found, mut n_samples) = (String::new(), 0);
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &series.chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
            assert_eq!(times.last(), Some(&chunk.max_t));
        }
        n_samples += times.len();
        let is_there = |at: &i64| {
            let newest = times.partition_point(|t| t <= at).checked_sub(1);
            newest.is_some_and(|newest| *at - reach_ms < times[newest] && !is_stale(values[newest]))
        };
        let bits: String = steps
            .iter()
            .map(|at| if is_there(at) { '1' } else { '0' })
            .collect();
        // A series of which no step sees anything may be there or not.
        if bits.contains('1') {
            found += &format!("{:?} {bits}\n", series.labels);
        }
    }
    (found, n_samples)
}

#[derive(Debug, Clone)]
enum Happening {
    /// So many samples so far apart.
    Samples(usize, i64),
    Stale,
    /// A sample this far before the newest.
    Late(i64, bool),
    /// From this far before the newest on, this long.
    Delete(i64, i64),
    Hold,
    Restart,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let pause_ms = prop_oneof![
        8 => 1i64..60_000,
        2 => 110_000i64..=120_000,
        2 => 120_001i64..130_000,
        1 => 130_000i64..900_000,
    ];
    let some = prop_oneof![
        20 => (1usize..150, pause_ms).prop_map(|(n, ms)| Happening::Samples(n, ms)),
        3 => Just(Happening::Stale),
        1 => (1i64..600_000, any::<bool>()).prop_map(|(ms, is_stale)| Happening::Late(ms, is_stale)),
        1 => (1i64..1_800_000, 1i64..400_000).prop_map(|(ms, long)| Happening::Delete(ms, long)),
        3 => Just(Happening::Hold),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(some, 1..24)
}

fn append(head: &Head, name: &str, samples: impl IntoIterator<Item = (i64, f64)>) {
    let labels = Labels::new(&[("n", name)]).unwrap();
    for (t, v) in samples {
        let mut appender = head.appender();
        appender.append_labels(&labels, t, v).ok();
        appender.commit().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn presence_is_what_all_samples_say(
        happenings in happenings(),
        reach_ms in prop_oneof![Just(300_000i64), 60_000i64..400_000],
        step_ms in 1_000i64..200_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut head = open(dir.path());
        let begin = 7_000_000_000_i64;
        let mut now = begin;
        append(&head, "other", [(now, 1.0)]);
        let mut held = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Samples(n, pause_ms) => {
                    for _ in 0..n {
                        now += pause_ms;
                        append(&head, "a", [(now, 0.5)]);
                    }
                }
                Happening::Stale => {
                    now += 1;
                    append(&head, "a", [(now, stale_nan())]);
                }
                Happening::Late(ms, is_stale) => {
                    let v = if is_stale { stale_nan() } else { 0.25 };
                    append(&head, "a", [(now - ms, v)]);
                }
                Happening::Delete(ms, long) => {
                    let interval = Interval { min: now - ms, max: now - ms + long };
                    head.delete(&[Matcher::equal("n", "a")], interval).unwrap();
                }
                Happening::Hold => held.push(head.view()),
                Happening::Restart => {
                    held.clear();
                    drop(head);
                    head = open(dir.path());
                }
            }
        }
        held.push(head.view());
        let n_steps = (now - begin) / step_ms + 5;
        let steps: Vec<i64> = (0..n_steps.min(2000)).map(|step| begin + step * step_ms).collect();
        for view in held {
            for steps in [steps.as_slice(), &steps[steps.len() / 2..]] {
                let (said, _) = presence(&view, steps, reach_ms, true);
                let (read, _) = presence(&view, steps, reach_ms, false);
                prop_assert_eq!(said, read);
            }
        }
    }
}

#[test]
fn who_asks_for_presence_of_a_steady_series_reads_next_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let times = (1..=600).map(|i| i * 15_000);
    append(&head, "a", times.map(|t| (t, 1.0)));
    let steps: Vec<i64> = (0..300).map(|i| i * 30_000).collect();
    let (said, n_said) = presence(&head.view(), &steps, 300_000, true);
    let (read, n_read) = presence(&head.view(), &steps, 300_000, false);
    assert_eq!(said, read);
    assert!(
        (500..=600).contains(&n_read) && n_said <= 32,
        "{n_said} of {n_read}"
    );
    // Whoever sees no further than samples may lie apart reads them.
    let (_, n_near) = presence(&head.view(), &steps, 60_000, true);
    assert_eq!(n_near, n_read);
}

#[test]
fn samples_of_later_commits_late_markers_and_what_a_replay_brought_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let minutes = |range: std::ops::Range<i64>| range.map(|i| (i * MINUTE_MS, 1.0));
    append(&head, "a", minutes(1..10));
    let before = head.view();
    append(&head, "a", minutes(10..30));
    let steps: Vec<i64> = (0..40 * 6).map(|i| i * 10_000).collect();
    let said_and_read = |view: &HeadView| {
        let (said, n_said) = presence(view, &steps, 300_000, true);
        let (read, n_read) = presence(view, &steps, 300_000, false);
        assert_eq!(said, read);
        assert!(read.contains("0000000000"), "{read}");
        n_said < n_read
    };
    assert!(!said_and_read(&before), "some samples are hidden");
    assert!(said_and_read(&head.view()));
    drop((before, head));
    // Samples of a log are not looked at, so it is not known how they follow each other.
    let head = open(dir.path());
    assert!(!said_and_read(&head.view()));
    append(&head, "a", minutes(30..32));
    assert!(!said_and_read(&head.view()));
    let head = {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path());
        append(&head, "a", minutes(1..30));
        assert!(said_and_read(&head.view()));
        append(&head, "a", [(10 * MINUTE_MS + 1, stale_nan())]);
        head
    };
    assert!(!said_and_read(&head.view()), "it ends for a minute");
}
