//! A block that is cut from a head with native histograms of every kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gauntlet::block::Block;
use gauntlet::chunk::decode_histograms;
use gauntlet::model::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, Interval, Labels, MatchType,
    Matcher, SampleTime,
};
use gauntlet::storage::{Appendable, Queryable, SelectHints};
use gauntlet::tsdb::{Tsdb, TsdbSettings};

use crate::support::open;
use crate::tools::{analyzed, run};

const START: i64 = 1_699_984_800_000;
const KINDS: [&str; 3] = ["custom", "float", "whole"];

/// Histograms as texts, by series and time.
type Content = BTreeMap<String, BTreeMap<i64, String>>;

fn histogram(kind: &str, minute: u32) -> (Counts, Arc<Histogram>) {
    let n = f64::from(minute % 170);
    let half = if kind == "float" { 0.5 } else { 0.0 };
    let counts = vec![n + half, n * 2.0, 3.0];
    let span = BucketSpan {
        offset: i32::from(minute > 200),
        length: 3,
    };
    let is_custom = kind == "custom";
    let bounds: &[f64] = if is_custom { &[0.1, 1.0, 5.0] } else { &[] };
    let zero_count = if is_custom { 0.0 } else { 2.0 };
    let whole = Histogram {
        schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { 3 },
        count: counts.iter().sum::<f64>() + zero_count,
        sum: n * 1.5,
        zero_threshold: if is_custom { 0.0 } else { 0.001 },
        zero_count,
        positive: Buckets {
            spans: vec![span],
            counts,
        },
        custom_bounds: bounds.into(),
        ..Histogram::default()
    };
    let counts = if kind == "float" {
        Counts::Float
    } else {
        Counts::Whole
    };
    (counts, Arc::new(whole))
}

fn fill(db: &Tsdb, kinds: &[&str]) -> Content {
    let mut content = Content::new();
    for minute in 0..400 {
        let mut appender = db.appender();
        for kind in kinds {
            let labels = Labels::new(&[("__name__", *kind)]).unwrap();
            let key = labels.key();
            let series = appender.series(key, &mut || Ok(labels.clone())).unwrap();
            let t = START + i64::from(minute) * 60_000;
            let (counts, histogram) = histogram(kind, minute);
            let at = SampleTime::from(t);
            appender
                .append_histogram(series, at, counts, &histogram)
                .unwrap();
            let of_series = content.entry((*kind).to_owned()).or_default();
            of_series.insert(t, histogram.to_string());
        }
        appender.commit().unwrap();
    }
    content
}

fn content(source: &dyn Queryable) -> Content {
    let all = [Matcher::new(MatchType::NotEqual, "__name__", "").unwrap()];
    let hints = SelectHints::new(Interval::ALL);
    let mut set = source.select(&all, &hints).unwrap();
    let mut content = Content::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let name = series.labels.metric_name().to_owned();
        let samples = content.entry(name).or_default();
        for chunk in &series.chunks {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
            for (t, value) in times.into_iter().zip(values) {
                samples.insert(t, value.to_string());
            }
        }
    }
    content
}

/// A database of these kinds whose first block is cut, held against what went in.
fn cut(dir: &Path, kinds: &[&str]) -> (Tsdb, Block) {
    let db = open(dir, TsdbSettings::default());
    let expect = fill(&db, kinds);
    assert_eq!(content(&*db.timeline()), expect);
    while db.cut().unwrap().is_some() {}
    let blocks = db.blocks();
    assert_eq!(blocks.len(), 2);
    assert_eq!(content(&*db.timeline()), expect);
    for block in &blocks {
        let range = block.meta().range();
        let inside = expect.iter().map(|(name, samples)| {
            let samples = samples.range(range.min..range.max);
            let samples = samples.map(|(t, text)| (*t, text.clone())).collect();
            (name.clone(), samples)
        });
        assert_eq!(content(block), inside.collect());
        let report = block.verify();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(
            block.meta().stats.num_histogram_samples,
            120 * kinds.len() as u64
        );
    }
    let first = blocks.first().unwrap().clone();
    (db, first)
}

#[test]
fn blocks_with_histograms_of_every_kind_say_what_the_head_said() {
    let scratch = tempfile::tempdir().unwrap();
    let (db, _) = cut(scratch.path(), &KINDS);
    drop(db);
    let again = open(scratch.path(), TsdbSettings::default());
    let of_custom = content(&*again.timeline()).remove("custom").unwrap();
    assert_eq!(of_custom.len(), 400);
}

#[test]
fn promtool_reads_blocks_with_the_histograms_it_knows() {
    let scratch = tempfile::tempdir().unwrap();
    // 2.42 knows no custom buckets.
    let (db, block) = cut(scratch.path(), &["float", "whole"]);
    let id = block.meta().ulid.to_string();
    let dir = scratch.path().to_str().unwrap();
    let listed = run("promtool", &["tsdb", "list", dir]);
    assert!(listed.contains(&id), "{listed}");
    let (ours, theirs) = analyzed(&["tsdb", "analyze", "--extended", dir, &id]);
    assert_eq!(ours, theirs);
    drop(db);
}
