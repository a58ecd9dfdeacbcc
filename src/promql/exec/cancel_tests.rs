//! Who no longer waits for an answer costs nothing any more: work of every kind stops at once.
#![expect(
    clippy::print_stdout,
    reason = "the time of the slowest is worth knowing"
)]

use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use parking_lot::{Condvar, Mutex};

use crate::foundation::cancel::CancelReason;
use crate::foundation::pool::Pool;
use crate::foundation::{Clock, SystemClock};
use crate::model::Labels;
use crate::promql::exec::tests::series;
use crate::promql::testing::MemoryStore;
use crate::promql::{Engine, EngineSettings, ErrorKind, QueryOptions};
use crate::storage::{ChunkSeries, Queryable};

/// Enough that most queries below take seconds in a build for tests.
const SERIES: u32 = 6_000;
const STEPS: i64 = 600;

/// So many times somebody is asked again who took longer.
const ASKED_AGAIN_MAX: usize = 15;

/// How long work may go on for nobody.
const STOP_MAX: Duration = Duration::from_millis(100);

fn many() -> Arc<dyn Queryable> {
    let values: Vec<f64> = (0..360u32)
        .map(|step| f64::from(step * step % 97))
        .collect();
    // One encoding serves all: they differ by their labels.
    let one = series(&[("__name__", "m")], &values);
    let of = |name: &'static str, label: &'static str, n: u32| {
        let chunks = one.chunks.clone();
        (0..n).map(move |i| {
            let labels = [("__name__", name), (label, &i.to_string())];
            ChunkSeries {
                chunks: chunks.clone(),
                labels: Labels::new(&labels).unwrap(),
            }
        })
    };
    let wide = of("m", "i", SERIES).chain(of("buckets", "le", SERIES));
    let mut all: Vec<ChunkSeries> = wide.collect();
    all.sort_by(|left, right| left.labels.cmp(&right.labels));
    Arc::new(MemoryStore::from_series(all))
}

/// How long a query goes on after nobody waits for it; `None` where it was done before.
fn time_to_stop(
    engine: &Engine,
    data: &Arc<dyn Queryable>,
    query: &str,
    after: Duration,
) -> Option<Duration> {
    let options = QueryOptions::default();
    let cancel = options.cancel.clone();
    let watch = Pool::new("watch", 1, 1).unwrap();
    let watcher = watch.run(move || {
        let nobody = Mutex::new(());
        Condvar::new().wait_for(&mut nobody.lock(), after);
        let gone_ns = SystemClock.now_ns();
        cancel.cancel(CancelReason::Canceled);
        gone_ns
    });
    let answer = engine.range(Arc::clone(data), query, 0, STEPS * 5_000, 5_000, &options);
    let stopped_ns = SystemClock.now_ns();
    let gone_ns = block_on(watcher.unwrap()).unwrap();
    watch.stop();
    let error = answer.map(drop).err()?;
    assert_eq!(error.kind(), ErrorKind::Canceled, "{query}: {error}");
    Some(Duration::from_nanos(stopped_ns.saturating_sub(gone_ns)))
}

#[test]
fn work_of_every_kind_stops_within_a_tenth_of_a_second() {
    let pool = Pool::new("query", 2, 8).unwrap();
    let data = many();
    let engine = Engine::new(EngineSettings::default(), Some(pool.clone()));
    let mut worst = (Duration::ZERO, String::new());
    for query in [
        "m",
        "-m",
        "m * 2",
        "m > 3",
        "m + on (i) m",
        "m and on (i) m",
        "m or on (le) buckets",
        "m unless m",
        "abs(m)",
        "clamp(m, 1, 2)",
        "timestamp(m + 0)",
        "label_replace(m, \"j\", \"$1\", \"i\", \"(.*)\")",
        "label_join(m, \"j\", \"-\", \"i\", \"i\")",
        "sum by (i) (m)",
        "sum by (i) (m + 0)",
        "quantile(0.5, m)",
        "topk(10, m)",
        "count_values(\"v\", m)",
        "limit_ratio(0.5, m)",
        "rate(m[10m])",
        "quantile_over_time(0.9, m[30m])",
        "deriv(m[30m])",
        "max_over_time(m[10m:30s])",
        "max_over_time(rate(m[5m])[10m:30s])",
        "histogram_quantile(0.9, buckets)",
        "m @ 100",
        "scalar(m)",
        "absent(m)",
        "info(m)",
    ] {
        for after_ms in [20, 150, 700] {
            let after = Duration::from_millis(after_ms);
            // Other work on the machine takes its time too, for seconds in a row: what counts is the best of some.
            let ask = || time_to_stop(&engine, &data, query, after);
            let soon = |took: &Option<Duration>| took.is_none_or(|took| took < STOP_MAX);
            let mut took = ask();
            for _ in 0..ASKED_AGAIN_MAX {
                if !soon(&took) {
                    took = ask();
                }
            }
            let Some(took) = took else { continue };
            assert!(took < STOP_MAX, "{query} took {took:?}");
            if worst.0 < took {
                worst = (took, format!("{query} canceled after {after:?}"));
            }
        }
    }
    println!("the slowest to stop: {worst:?}");
    assert!(!worst.1.is_empty());
    pool.stop();
}
