//! A bucket with raw blocks and what was downsampled from them, as queries and StoreAPI read it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use gauntlet::api::grpc::{Database, GrpcServer, GrpcSettings, Source};
use gauntlet::block::{Block, NewBlock, ThanosMeta, write_block};
use gauntlet::bucket::{BucketKind, BucketSettings, open};
use gauntlet::catalog::Catalog;
use gauntlet::chunk::{decode_floats, encode_floats};
use gauntlet::downsample;
use gauntlet::foundation::pool::Pool;
use gauntlet::foundation::{Cancel, ManualClock};
use gauntlet::gateway::{Gateway, GatewaySettings, Snapshot};
use gauntlet::model::{BlockId, Encoding, ExternalLabels, Labels, Resolution, TimeRange};
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryOutput, QueryValue};
use gauntlet::storage::{
    ChunkSeries, ChunkSlice, Queryable, ResolutionBounds, ResolutionWish, VecSeriesSet,
};
use gauntlet::wire::thanos::label_matcher::Type;
use gauntlet::wire::thanos::series_response::Result as Frame;
use gauntlet::wire::thanos::store_client::StoreClient;
use gauntlet::wire::thanos::{Aggr, AggrChunk, SeriesRequest};
use tokio::runtime::Handle;
use tonic::transport::Channel;

use crate::matcher;

const START_MS: i64 = 1_700_006_400_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// What is older is downsampled too.
const EDGE_MS: i64 = START_MS + 12 * HOUR_MS;
const END_MS: i64 = START_MS + 16 * HOUR_MS;

const RAW_OLD: u128 = 1;
const RAW_NEW: u128 = 2;
const FIVE_MINUTES: u128 = 3;
const ONE_HOUR: u128 = 4;

fn id(n: u128) -> BlockId {
    BlockId::from_parts(START_MS.unsigned_abs(), n)
}

/// A gauge that goes up and down, and a counter that starts anew now and then; a sample a minute.
fn value(metric: &str, minute: i64) -> f64 {
    let v = match metric {
        "g" => minute * 37 % 211 - 100,
        _ => minute % 83 * 5,
    };
    f64::from(i32::try_from(v).unwrap()) / 4.0
}

fn series(metric: &str, from: i64, to: i64) -> ChunkSeries {
    let t: Vec<i64> = (from..to).step_by(60_000).collect();
    let minutes = t.iter().map(|t| (t - START_MS) / MINUTE_MS);
    let v: Vec<f64> = minutes.map(|minute| value(metric, minute)).collect();
    let chunks = encode_floats(&t, &v).unwrap().into_iter();
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

fn write_raw(bucket: &Path, n: u128, min: i64, max: i64) {
    let mut new = NewBlock::new(id(n), TimeRange { min, max });
    new.thanos = Some(ThanosMeta {
        version: 1,
        labels: [("cluster".to_owned(), "c1".to_owned())].into(),
        ..ThanosMeta::default()
    });
    let all = vec![series("c_total", min, max), series("g", min, max)];
    let mut set = VecSeriesSet::new(all, Vec::new());
    write_block(bucket, new, &mut set).unwrap().unwrap();
}

fn downsampled(bucket: &Path, from: u128, to: u128) {
    let source = Block::open(&bucket.join(id(from).to_string())).unwrap();
    let made = downsample::run(bucket, id(to), &source, &Cancel::new(), &mut |_| ());
    made.unwrap().unwrap();
}

async fn snapshot(dir: &Path, external: &Labels) -> Arc<Snapshot> {
    let directory = dir.join("bucket");
    std::fs::create_dir(&directory).unwrap();
    write_raw(&directory, RAW_OLD, START_MS, EDGE_MS);
    write_raw(&directory, RAW_NEW, EDGE_MS, END_MS);
    downsampled(&directory, RAW_OLD, FIVE_MINUTES);
    downsampled(&directory, FIVE_MINUTES, ONE_HOUR);
    let bucket = open(&BucketSettings {
        kind: BucketKind::Filesystem { directory },
        prefix: String::new(),
    })
    .unwrap();
    let settings = GatewaySettings::new(ExternalLabels(external.clone()), dir.join("cache"));
    let clock = Arc::new(ManualClock::new(END_MS + 30 * 24 * HOUR_MS));
    let catalog = Catalog::open(&dir.join("catalog"));
    let gateway = Gateway::new(settings, bucket, catalog, clock, Handle::current()).unwrap();
    assert_eq!(gateway.sync().await.unwrap().n_served, 4);
    gateway.snapshot()
}

fn own() -> Labels {
    Labels::new(&[("cluster", "c1")]).unwrap()
}

fn range(
    snapshot: &Snapshot,
    query: &str,
    (start, end, step): (i64, i64, i64),
    resolutions: ResolutionBounds,
) -> (Vec<(i64, f64)>, QueryOutput) {
    let options = QueryOptions {
        resolutions,
        ..QueryOptions::default()
    };
    let engine = Engine::new(EngineSettings::default(), None);
    let output = engine
        .range(snapshot.own(), query, start, end, step, &options)
        .unwrap();
    let QueryValue::Columns(columns) = &output.value else {
        panic!("{output:?}");
    };
    let first = columns.to_matrix().into_iter().next();
    let floats = first.map(|series| series.floats).unwrap_or_default();
    let points = floats.into_iter().map(|sample| (sample.t, sample.v));
    (points.collect(), output)
}

fn at_most(resolution: Resolution) -> ResolutionBounds {
    ResolutionWish::AtMost(resolution).bounds(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_aggregates_are_those_of_the_samples_at_the_ends_of_windows() {
    let dir = tempfile::tempdir().unwrap();
    let all = snapshot(dir.path(), &own()).await;
    let hours = (START_MS + 2 * HOUR_MS - 1, END_MS - 1, HOUR_MS);
    for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
        for func in ["sum", "count", "min", "max", "avg"] {
            let query = format!("{func}_over_time(g[2h])");
            let (expect, raw) = range(&all, &query, hours, ResolutionBounds::RAW_ONLY);
            let (found, output) = range(&all, &query, hours, at_most(resolution));
            assert_eq!(expect.len(), 15);
            assert_eq!(found.len(), expect.len(), "{query}");
            for ((t, v), (expect_t, expect_v)) in found.into_iter().zip(expect) {
                assert_eq!(t, expect_t);
                let difference = (v - expect_v).abs();
                assert!(difference < 1e-9, "{query} at {t}: {v}, not {expect_v}");
            }
            assert_eq!(raw.stats.resolutions, [Resolution::Raw]);
            assert_eq!(output.stats.resolutions, [Resolution::Raw, resolution]);
            assert!(output.stats.samples_decoded < raw.stats.samples_decoded);
        }
        let (expect, _) = range(
            &all,
            "increase(c_total[4h])",
            hours,
            ResolutionBounds::RAW_ONLY,
        );
        let (found, _) = range(&all, "increase(c_total[4h])", hours, at_most(resolution));
        assert_eq!(found.len(), expect.len());
        // The first ranges begin with the series, and are extrapolated differently.
        for ((t, v), (_, expect)) in found.into_iter().zip(expect).skip(4) {
            let ratio = v / expect;
            assert!((0.93..1.07).contains(&ratio), "at {t}: {v}, not {expect}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_at_one_resolution_is_read_at_another_where_that_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let all = snapshot(dir.path(), &own()).await;
    let without = |blocks: &[u128]| {
        let blocks: BTreeSet<_> = blocks.iter().map(|n| id(*n)).collect();
        all.without(&blocks)
    };
    let hours = (START_MS + HOUR_MS - 1, END_MS - 1, HOUR_MS);
    let read = |snapshot: &Snapshot, query: &str, bounds| {
        let (points, output) = range(snapshot, query, hours, bounds);
        (points.len(), output.stats.resolutions)
    };
    use Resolution::{FiveMinutes, OneHour, Raw};
    let most = "max_over_time(g[1h])";
    let coarsest = ResolutionBounds::COARSEST;
    assert_eq!(read(&all, most, coarsest), (16, vec![Raw, OneHour]));
    assert_eq!(
        read(&without(&[ONE_HOUR]), most, coarsest),
        (16, vec![Raw, FiveMinutes])
    );
    let only_raw = without(&[ONE_HOUR, FIVE_MINUTES]);
    assert_eq!(read(&only_raw, most, coarsest), (16, vec![Raw]));
    // Raw samples are gone: only who asked for them and nothing else gets nothing.
    let retired = without(&[RAW_OLD]);
    assert_eq!(
        read(&retired, most, ResolutionBounds::RAW_ONLY),
        (4, vec![Raw])
    );
    let raw_first = ResolutionBounds::RAW_FIRST;
    assert_eq!(
        read(&retired, most, raw_first),
        (16, vec![Raw, FiveMinutes])
    );
    let retired = without(&[RAW_OLD, FIVE_MINUTES]);
    assert_eq!(read(&retired, most, raw_first), (16, vec![Raw, OneHour]));
    assert_eq!(read(&retired, most, at_most(FiveMinutes)), (4, vec![Raw]));
    // A step sees the window before it, however long that is.
    let minutes = (START_MS + HOUR_MS, END_MS - 1, 10 * MINUTE_MS);
    let (points, _) = range(&retired, "g", minutes, raw_first);
    assert_eq!(points.len(), 15 * 6);
    // Ranges too short for five minutes, and functions that need every sample, are read raw while there is any.
    for (query, expect) in [
        ("rate(c_total[9m])", vec![Raw]),
        ("rate(c_total[10m])", vec![Raw, FiveMinutes]),
        ("resets(c_total[2h])", vec![Raw]),
        ("sum_over_time(g[7m])", vec![Raw]),
        ("sum(rate(c_total[2h]))", vec![Raw, OneHour]),
    ] {
        assert_eq!(read(&all, query, coarsest).1, expect, "{query}");
    }
    let auto = |step_ms| ResolutionWish::Auto.bounds(step_ms);
    assert_eq!(read(&all, most, auto(HOUR_MS)).1, [Raw, FiveMinutes]);
    assert_eq!(read(&all, most, auto(5 * HOUR_MS)).1, [Raw, OneHour]);
    assert_eq!(read(&all, most, auto(MINUTE_MS)).1, [Raw]);
}

struct Served(Arc<Snapshot>);

impl Source for Served {
    fn is_ready(&self) -> bool {
        true
    }

    fn external_labels(&self) -> Labels {
        own()
    }

    fn own(&self) -> Arc<dyn Queryable> {
        self.0.own()
    }

    fn others(&self) -> Option<Arc<dyn Queryable>> {
        self.0.others()
    }

    fn databases(&self) -> Vec<Database> {
        Vec::new()
    }
}

/// Chunks of the gauge, as a querier asks for them.
async fn ask(
    client: &mut StoreClient<Channel>,
    window_ms: i64,
    aggregates: &[Aggr],
) -> Vec<AggrChunk> {
    let request = SeriesRequest {
        min_time: START_MS,
        max_time: END_MS,
        matchers: vec![matcher(Type::Eq, "__name__", "g")],
        max_resolution_window: window_ms,
        aggregates: aggregates.iter().map(|one| i32::from(*one)).collect(),
        ..SeriesRequest::default()
    };
    let mut stream = client.series(request).await.unwrap().into_inner();
    let mut chunks = Vec::new();
    while let Some(frame) = stream.message().await.unwrap() {
        let Some(Frame::Series(series)) = frame.result else {
            panic!("{frame:?}");
        };
        chunks.extend(series.chunks);
    }
    chunks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_api_sends_the_aggregates_that_were_asked_for_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let source = Arc::new(Served(snapshot(dir.path(), &own()).await));
    let settings = GrpcSettings::new("127.0.0.1:0".parse().unwrap());
    let pool = Pool::new("query", 1, 8).unwrap();
    let server = GrpcServer::start(settings, source, pool).await.unwrap();
    let client = StoreClient::connect(format!("http://{}", server.address()));
    let mut client = client.await.unwrap();
    let n_raw = |chunks: &[AggrChunk]| chunks.iter().filter(|chunk| chunk.raw.is_some()).count();
    let parts = |chunk: &AggrChunk| {
        let parts = [
            &chunk.count,
            &chunk.sum,
            &chunk.min,
            &chunk.max,
            &chunk.counter,
        ];
        parts.map(|part| part.clone().map(|part| part.data))
    };
    let (old, new) = (6, 2);
    for (window_ms, n_windows) in [(300_000, 144), (3_600_000, 12)] {
        let all = [Aggr::Count, Aggr::Sum, Aggr::Min, Aggr::Max, Aggr::Counter];
        for (position, aggregate) in all.into_iter().enumerate() {
            let chunks = ask(&mut client, window_ms, &[aggregate]).await;
            assert_eq!(n_raw(&chunks), new);
            let mut n = 0;
            for chunk in chunks.iter().filter(|chunk| chunk.raw.is_none()) {
                assert!(chunk.max_time < EDGE_MS);
                for (other, part) in parts(chunk).into_iter().enumerate() {
                    assert_eq!(part.is_some(), other == position, "{aggregate:?}");
                    let (mut t, mut v) = (Vec::new(), Vec::new());
                    let data = part.unwrap_or_default();
                    if !data.is_empty() {
                        decode_floats(Encoding::Xor, &data, &mut t, &mut v).unwrap();
                    }
                    t.dedup();
                    n += t.len();
                }
            }
            // A counter begins with a sample of its own in every chunk.
            let n_more = n - n_windows;
            assert!(
                if aggregate == Aggr::Counter {
                    1 <= n_more
                } else {
                    n_more == 0
                },
                "{n}"
            );
        }
        let both = ask(&mut client, window_ms, &[Aggr::Count, Aggr::Sum]).await;
        let is_average = |chunk: &AggrChunk| chunk.count.is_some() && chunk.sum.is_some();
        assert!(
            both.iter()
                .all(|chunk| chunk.raw.is_some() || is_average(chunk))
        );
        assert!(
            both.iter()
                .all(|chunk| chunk.min.is_none() && chunk.max.is_none())
        );
        assert_eq!(
            n_raw(&ask(&mut client, window_ms, &[Aggr::Raw]).await),
            old + new
        );
    }
    assert_eq!(
        n_raw(&ask(&mut client, 0, &[Aggr::Count, Aggr::Sum]).await),
        old + new
    );
    server.stop(std::time::Duration::from_secs(1)).await;
}
