//! What a query may hold, and what it says about its cost.

use std::sync::Arc;

use crate::promql::exec::tests::series;
use crate::promql::testing::{LoadedData, MemoryStore, open_memory_store, parse_series};
use crate::promql::{
    Engine, EngineSettings, ErrorKind, MemoryPool, QueryError, QueryOptions, QueryOutput,
    QueryStats,
};
use crate::storage::{ChunkSeries, Queryable};

/// 100 series `m` and 20 series `few`, of 120 samples each.
fn many() -> Arc<dyn Queryable> {
    let of = |name: &'static str, n: u32| {
        (0..n).map(move |i| -> ChunkSeries {
            let values: Vec<f64> = (0..120u32).map(|step| f64::from(step * i) * 0.37).collect();
            series(&[("__name__", name), ("i", &i.to_string())], &values)
        })
    };
    Arc::new(MemoryStore::from_series(
        of("m", 100).chain(of("few", 20)).collect(),
    ))
}

fn engine(pool: &MemoryPool, memory_per_query_max: u64) -> Engine {
    Engine::new(
        EngineSettings {
            memory_per_query_max,
            memory: pool.clone(),
            ..EngineSettings::default()
        },
        None,
    )
}

fn ask(pool: &MemoryPool, max: u64, query: &str) -> Result<QueryOutput, QueryError> {
    let options = QueryOptions::default();
    engine(pool, max).range(many(), query, 0, 1_190_000, 10_000, &options)
}

/// Queries of every kind of operator.
const KINDS: [&str; 16] = [
    "m",
    "-m",
    "rate(m[1m])",
    "max_over_time(m[5m:30s])",
    "sum by (i) (m)",
    "quantile by (i) (0.5, m)",
    "topk(60, m)",
    "count_values(\"v\", m)",
    "m + on (i) m",
    "m and on (i) m",
    "m or few",
    "label_replace(m, \"j\", \"$1\", \"i\", \"(.*)\")",
    "sort_by_label(m, \"i\")",
    "timestamp(m)",
    "last_over_time(m[10m])",
    "m @ 100",
];

#[test]
fn whatever_a_query_booked_is_given_back() {
    let pool = MemoryPool::default();
    for query in KINDS {
        let output = ask(&pool, u64::MAX, query).unwrap();
        assert!(0 < output.stats.peak_bytes, "{query}");
        let answer_bytes = pool.used();
        assert!(
            0 < answer_bytes && answer_bytes <= output.stats.peak_bytes,
            "{query} holds {answer_bytes} of {}",
            output.stats.peak_bytes
        );
        drop(output);
        assert_eq!(pool.used(), 0, "{query}");
    }
    assert_eq!(pool.n_refused(), 0);
}

#[test]
fn a_query_of_any_kind_ends_at_its_budget_and_holds_nothing_afterwards() {
    for query in KINDS {
        let pool = MemoryPool::default();
        let peak = ask(&pool, u64::MAX, query).unwrap().stats.peak_bytes;
        // Columns grow to twice their size while there is room, so that a little less does as well.
        for part in [1, 2, 3, 5] {
            let max = peak * part / 10;
            let refused = ask(&pool, max, query).map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Execution, "{query}");
            let text = refused.to_string();
            assert!(
                text.contains("query.memory_max_per_query is") && text.contains("selector is m"),
                "{query} with {max}: {text}"
            );
            assert_eq!(pool.used(), 0, "{query}");
            assert!(pool.peak() <= peak, "{query} held {} of {max}", pool.peak());
        }
        ask(&pool, peak, query).unwrap();
    }
}

#[test]
fn the_error_names_the_largest_selector_as_the_query_writes_it() {
    let pool = MemoryPool::default();
    let query = "few{i!=\"x\"} + on (i) group_left () (m{i=~\".+\"} offset 1s)";
    let refused = ask(&pool, 60 << 10, query)
        .map(drop)
        .unwrap_err()
        .to_string();
    let (_, largest) = refused.split_once("its largest selector is ").unwrap();
    assert!(
        largest.starts_with("m{i=~\".+\"} offset 1s with "),
        "{refused}"
    );
}

#[test]
fn queries_share_what_all_of_them_may_hold() {
    let pool = MemoryPool::default();
    let held = ask(&pool, u64::MAX, "m").unwrap();
    let (answer, peak) = (pool.used(), held.stats.peak_bytes);
    drop(held);
    let pool = MemoryPool::new(peak + answer / 2);
    let first = ask(&pool, u64::MAX, "m").unwrap();
    let refused = ask(&pool, u64::MAX, "m").map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(
        refused.to_string().contains("query.memory_max is"),
        "{refused}"
    );
    assert_eq!(pool.n_refused(), 1);
    drop(first);
    ask(&pool, u64::MAX, "m").unwrap();
}

#[test]
fn times_without_end_are_refused_before_anything_is_taken_for_them() {
    let pool = MemoryPool::new(64 << 20);
    let refused = ask(&pool, u64::MAX, "max_over_time(m[10y:1ms])").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert_eq!(pool.used(), 0);
}

/// Counts by step, and both totals, of a range query over 120 samples, 10 s apart.
fn counted(query: &str, step_ms: i64) -> QueryStats {
    let options = QueryOptions {
        per_step: true,
        ..QueryOptions::default()
    };
    let engine = engine(&MemoryPool::default(), u64::MAX);
    let output = engine.range(many(), query, 100_000, 160_000, step_ms, &options);
    output.unwrap().stats
}

#[test]
fn samples_are_counted_at_the_step_they_are_read_for() {
    let steps = |n: u64| {
        [100_000, 120_000, 140_000, 160_000]
            .map(|t| (t, n))
            .to_vec()
    };
    for (query, per_step) in [
        ("few", 20),
        ("few{i=\"1\"} + few{i=\"1\"}", 2),
        ("rate(few[1m])", 120),
        ("sum(rate(few[1m]))", 120),
        ("sum(few)", 20),
        ("few @ 100", 20),
        ("rate(few[1m] @ 100)", 120),
        ("max_over_time(few[1m:20s])", 60),
        ("max_over_time(rate(few[1m])[1m:20s])", 60),
        ("timestamp(few)", 20),
        ("vector(1)", 0),
    ] {
        let stats = counted(query, 20_000);
        assert_eq!(stats.total_queryable_samples, 4 * per_step, "{query}");
        assert_eq!(stats.samples_per_step, steps(per_step), "{query}");
    }
    let plain = engine(&MemoryPool::default(), u64::MAX);
    let output = plain.instant(many(), "few", 0, &QueryOptions::default());
    assert_eq!(output.unwrap().stats.samples_per_step, []);
}

#[test]
fn samples_are_read_at_the_first_step_that_has_them() {
    for (query, step_ms, reads) in [
        ("few", 20_000, &[20, 20, 20, 20][..]),
        ("rate(few[1m])", 20_000, &[120, 40, 40, 40]),
        ("rate(few[20s])", 20_000, &[40, 40, 40, 40]),
        // What lies between two windows is nobody's.
        ("rate(few[20s])", 60_000, &[40, 40]),
        ("few @ 100", 20_000, &[20, 0, 0, 0]),
        ("rate(few[1m] @ 100)", 20_000, &[120, 0, 0, 0]),
        // 60 to 100, then one more each.
        ("max_over_time(few[1m:20s])", 20_000, &[60, 20, 20, 20]),
        ("max_over_time(few[20s:10s])", 60_000, &[40, 40]),
        ("max_over_time(few[20s:10s] offset 10s)", 60_000, &[40, 40]),
        (
            "max_over_time(few[1m:20s] offset 20s)",
            20_000,
            &[60, 20, 20, 20],
        ),
        // Windows of 30 s that are read every 20 s.
        (
            "max_over_time(rate(few[30s])[1m:20s])",
            20_000,
            &[140, 40, 40, 40],
        ),
        ("max_over_time(few[1m:20s] @ 100)", 20_000, &[60, 0, 0, 0]),
        ("few + few", 20_000, &[40, 40, 40, 40]),
    ] {
        let stats = counted(query, step_ms);
        let steps: Vec<u64> = stats
            .samples_read_per_step
            .iter()
            .map(|step| step.1)
            .collect();
        assert_eq!(steps, reads, "{query} {step_ms}");
        assert_eq!(
            stats.samples_read,
            reads.iter().sum::<u64>(),
            "{query} {step_ms}"
        );
    }
}

#[test]
fn histograms_count_by_their_size_and_their_times_as_one() {
    let (labels, values) = parse_series("h {{buckets:[1 2] count:3}}x5").unwrap();
    let mut data = LoadedData::default();
    data.add_values(&labels, (0, 10_000), &values).unwrap();
    let store = open_memory_store(&data).unwrap();
    let engine = engine(&MemoryPool::default(), u64::MAX);
    for (query, n) in [
        ("h", 12),
        ("last_over_time(h[1m])", 72),
        ("timestamp(h)", 1),
        ("start_timestamp(h)", 1),
        ("histogram_count(h)", 11),
    ] {
        let output = engine.instant(Arc::clone(&store), query, 50_000, &QueryOptions::default());
        let stats = output.unwrap().stats;
        assert_eq!(stats.total_queryable_samples, n, "{query}");
    }
}

#[test]
fn an_analysis_tells_of_every_operator_what_came_of_it() {
    let options = QueryOptions {
        analyze: true,
        ..QueryOptions::default()
    };
    let engine = engine(&MemoryPool::default(), u64::MAX);
    let query = "abs(rate(few[1m])) + on () group_left () max(m)";
    let output = engine
        .range(many(), query, 100_000, 990_000, 10_000, &options)
        .unwrap();
    let root = output.analysis.unwrap();
    let text = root.text();
    let names: Vec<&str> = text
        .lines()
        .map(|line| line.split("  [").next().unwrap_or_default())
        .collect();
    assert_eq!(
        names,
        [
            "binary + on ()",
            "  call abs",
            "    call rate",
            "      range 1m of #0 few[1m]",
            "  fused aggregate max",
            "    select #1 m",
        ]
    );
    let actual = |at: &[usize]| {
        let node = at.iter().fold(&root, |node, i| &node.children[*i]);
        node.actual.clone().unwrap()
    };
    assert_eq!((actual(&[]).series, actual(&[]).samples), (20, 20 * 90));
    assert_eq!(actual(&[]).total_samples, 20 * 6 * 90 + 100 * 90);
    assert_eq!(actual(&[0, 0]).total_samples, 20 * 6 * 90);
    let leaf = actual(&[0, 0, 0]);
    assert_eq!((leaf.calls, leaf.series, leaf.chunks), (0, 20, 20));
    assert_eq!(leaf.samples_read, 20 * 120);
    assert!(0 < leaf.chunk_bytes);
    assert_eq!((actual(&[1]).series, actual(&[1]).samples), (1, 90));
    assert!(actual(&[0]).time_ns <= actual(&[]).time_ns);
    assert!(0 < actual(&[0, 0]).bytes);
}

#[test]
fn a_query_is_explained_without_being_evaluated() {
    let engine = engine(&MemoryPool::default(), u64::MAX);
    let times = (0, 990_000, 10_000);
    let options = QueryOptions::default();
    let root = engine.explain(&*many(), "sum(rate(m{i=~\"1.\"}[1m]))", times, &options);
    assert_eq!(
        root.unwrap().text(),
        "fused aggregate sum\n  call rate\n    range 1m of #0 m{i=~\"1.\"}[1m]  [about 10 series, 990 samples]\n"
    );
    let refused = engine.explain(&*many(), "sum(", times, &options);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::BadData);
}
