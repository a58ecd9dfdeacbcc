//! Over HTTP: how coarse the samples of an answer are is what was asked for, and what they add up to stays the same.

use std::path::Path;

use gauntlet::block::{Block, NewBlock, ThanosMeta, write_block};
use gauntlet::chunk::encode_floats;
use gauntlet::downsample;
use gauntlet::foundation::Cancel;
use gauntlet::model::{BlockId, Labels, TimeRange};
use gauntlet::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};
use serde_json::Value;

use crate::harness::{Appliance, Start, escaped, eventually};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// A multiple of fourteen days.
const START_MS: i64 = 1_405 * 14 * 24 * HOUR_MS;
/// Ten days are downsampled twice; what is newer is raw.
const EDGE_MS: i64 = START_MS + 240 * HOUR_MS;
const END_MS: i64 = EDGE_MS + 8 * HOUR_MS;

/// A counter that starts anew every few hours, and a gauge that goes up and down by whole numbers.
fn value(metric: &str, minute: i64) -> f64 {
    let v = match metric {
        "g" => minute * 37 % 211 - 100,
        _ => minute % 311 * 6,
    };
    f64::from(i32::try_from(v).unwrap())
}

fn series(metric: &str, min: i64, max: i64) -> ChunkSeries {
    let times: Vec<i64> = (min..max).step_by(60_000).collect();
    let minutes = times.iter().map(|t| (t - START_MS) / MINUTE_MS);
    let values: Vec<f64> = minutes.map(|minute| value(metric, minute)).collect();
    let chunks = encode_floats(&times, &values).unwrap().into_iter();
    ChunkSeries {
        labels: Labels::new(&[("__name__", metric)]).unwrap(),
        chunks: chunks
            .map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: chunk.data.into(),
            })
            .collect(),
    }
}

fn write(bucket: &Path, n: u64, min: i64, max: i64) {
    let mut new = NewBlock::new(BlockId::from_parts(n, 1), TimeRange { min, max });
    new.thanos = Some(ThanosMeta {
        version: 1,
        labels: [("cluster".to_owned(), "c1".to_owned())].into(),
        source: "sidecar".to_owned(),
        ..ThanosMeta::default()
    });
    let all = vec![series("c_total", min, max), series("g", min, max)];
    let mut set = VecSeriesSet::new(all, Vec::new());
    write_block(bucket, new, &mut set).unwrap().unwrap();
}

fn coarser(bucket: &Path, from: u64, to: u64) {
    let source = bucket.join(BlockId::from_parts(from, 1).to_string());
    let source = Block::open(&source).unwrap();
    let id = BlockId::from_parts(to, 1);
    let made = downsample::run(bucket, id, &source, &Cancel::new(), &mut |_| ());
    made.unwrap().unwrap();
}

/// The points of the one series of an answer, and what the answer says of its samples.
fn ask(appliance: &Appliance, query: &str, step_ms: i64, wish: &str) -> (Vec<f64>, String) {
    let start = START_MS + 24 * HOUR_MS - 1;
    let answer = appliance.get(&format!(
        "/api/v1/query_range?query={}&start={}.999&end={}.999&step={}{wish}",
        escaped(query),
        start / 1000,
        (END_MS - 1) / 1000,
        step_ms / 1000,
    ));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let json = answer.json();
    let result = json["data"]["result"].as_array().unwrap();
    assert_eq!(result.len(), 1, "{query}: {json}");
    let points = result[0]["values"].as_array().unwrap();
    let value = |point: &Value| point[1].as_str().unwrap().parse().unwrap();
    let lines = answer.head.lines();
    let said = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-gauntlet-resolution")
            .then(|| value.to_owned())
    });
    (points.iter().map(value).collect(), said.collect())
}

fn started() -> Appliance {
    let start = Start::new();
    let bucket = start.dir().path().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    write(&bucket, 1, START_MS, EDGE_MS);
    write(&bucket, 2, EDGE_MS, END_MS);
    coarser(&bucket, 1, 3);
    coarser(&bucket, 3, 4);
    let text = format!(
        "type: FILESYSTEM\nconfig:\n  directory: {}\n",
        bucket.display()
    );
    let file = start.write("bucket.yml", &text).display().to_string();
    let appliance = start.set("bucket.config_file", &file).run();
    eventually("the blocks are served", || {
        let path = format!("/api/v1/query?query=g&time={}", (END_MS - 1) / 1000);
        let result = appliance.get(&path).json()["data"]["result"].clone();
        result.get(0).map(|_| ())
    });
    appliance
}

#[test]
fn a_query_says_how_coarse_its_samples_may_be_and_the_answer_says_how_coarse_they_were() {
    let appliance = started();
    // The step is long enough for `auto` to mean windows of an hour.
    let step_ms = 6 * HOUR_MS;
    let wishes = [
        ("", "raw"),
        ("&max_source_resolution=0s", "raw"),
        ("&max_source_resolution=5m", "raw,5m"),
        ("&max_source_resolution=299s", "raw"),
        ("&max_source_resolution=1h", "raw,1h"),
        ("&max_source_resolution=auto", "raw,1h"),
    ];
    for query in ["sum", "count", "min", "max", "avg"] {
        let query = format!("{query}_over_time(g[6h])");
        let (expect, _) = ask(&appliance, &query, step_ms, "");
        assert_eq!(expect.len(), 38);
        for (wish, resolutions) in wishes {
            let (found, said) = ask(&appliance, &query, step_ms, wish);
            assert_eq!(said, resolutions, "{query}{wish}");
            assert_eq!(found.len(), expect.len(), "{query}{wish}");
            for (found, expect) in found.iter().zip(&expect) {
                let is_near = (found - expect).abs() < 1e-9 * expect.abs().max(1.0);
                assert!(is_near, "{query}{wish}: {found}, not {expect}");
            }
        }
    }
    let query = "increase(c_total[12h])";
    let (expect, _) = ask(&appliance, query, step_ms, "");
    for (wish, resolutions) in wishes {
        let (found, said) = ask(&appliance, query, step_ms, wish);
        assert_eq!(said, resolutions, "{query}{wish}");
        assert_eq!(found.len(), expect.len());
        for (found, expect) in found.iter().zip(&expect) {
            // A window ends with its last sample, so the range is a window shorter, and extrapolated.
            let ratio = found / expect;
            assert!(
                (0.9..1.1).contains(&ratio),
                "{query}{wish}: {found}, not {expect}"
            );
        }
    }
    // A rate needs two windows in its range, and an hour has twelve of five minutes.
    let query = "rate(c_total[1h])";
    let (_, said) = ask(&appliance, query, step_ms, "&max_source_resolution=1h");
    assert_eq!(said, "raw,5m", "{query}");
    // A step of an hour is a dozen windows of five minutes.
    let query = "max_over_time(g[1h])";
    let (_, said) = ask(&appliance, query, HOUR_MS, "&max_source_resolution=auto");
    assert_eq!(said, "raw,5m", "{query}");
    // In the middle of windows, and from the middle of a chunk on: a window is seen until the next one ends.
    let query = "count(g offset 40m)";
    let (seen, said) = ask(&appliance, query, step_ms, "&max_source_resolution=1h");
    assert_eq!((seen.len(), said.as_str()), (38, "raw,1h"), "{query}");
    let loaded = appliance.metric("thanos_blocks_meta_synced{state=\"loaded\"}");
    assert_eq!(loaded, Some(4.0));
    let answer = appliance.get("/api/v1/query?query=g&max_source_resolution=x");
    assert_eq!(answer.status, 400, "{}", answer.text());
    appliance.stop();
}
