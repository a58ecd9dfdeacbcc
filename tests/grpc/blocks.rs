//! Blocks of the original's making, from the local disk to the bucket and out again over StoreAPI.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gauntlet::api::grpc::{Database, GrpcServer, GrpcSettings, Source};
use gauntlet::block::BlockMeta;
use gauntlet::bucket::{BucketKind, BucketSettings, open};
use gauntlet::catalog::Catalog;
use gauntlet::chunk::decode_floats;
use gauntlet::foundation::pool::Pool;
use gauntlet::foundation::{ManualClock, durable};
use gauntlet::gateway::{Gateway, GatewaySettings, Snapshot};
use gauntlet::model::{Encoding, ExternalLabels, Labels};
use gauntlet::shipper::{Shipper, ShipperSettings};
use gauntlet::storage::Queryable;
use gauntlet::wire::thanos::label_matcher::Type;
use gauntlet::wire::thanos::series_response::Result as Frame;
use gauntlet::wire::thanos::store_client::StoreClient;
use gauntlet::wire::thanos::{LabelValuesRequest, SeriesRequest};
use tokio::runtime::Handle;

use crate::{matcher, name};

const START_S: i64 = 1_700_006_400;
const N_SAMPLES: i64 = 1_000;

struct Served(Arc<Snapshot>, Labels);

impl Source for Served {
    fn is_ready(&self) -> bool {
        true
    }

    fn external_labels(&self) -> Labels {
        self.1.clone()
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

/// Value of a sample: exact, uneven, and different for each series.
fn value(series: i64, number: i64) -> f64 {
    f64::from(i32::try_from(series * 1_000 + number * number % 977).unwrap()) / 8.0
}

fn open_metrics() -> String {
    let mut text = "# TYPE load gauge\n".to_owned();
    for series in 0..5 {
        for number in 0..N_SAMPLES {
            let (value, t) = (value(series, number), START_S + number * 15);
            writeln!(text, "load{{host=\"h{series}\"}} {value} {t}").unwrap();
        }
    }
    text.push_str("# EOF\n");
    text
}

/// False where the original is not installed; said aloud, and a failure under CI.
fn create_blocks(text: &Path, data: &Path) -> bool {
    let mut promtool = Command::new("promtool");
    promtool.args(["tsdb", "create-blocks-from", "openmetrics"]);
    match promtool.arg(text).arg(data).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            true
        }
        Err(_) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "promtool is not installed"
            );
            let mut stderr = std::io::stderr();
            stderr
                .write_all(b"SKIPPED: promtool is not installed\n")
                .unwrap();
            false
        }
    }
}

async fn ship_and_serve(dir: &Path, external: &Labels) -> Arc<Snapshot> {
    let kind = BucketKind::Filesystem {
        directory: dir.join("bucket"),
    };
    let prefix = String::new();
    let bucket = open(&BucketSettings { kind, prefix }).unwrap();
    let clock = Arc::new(ManualClock::new((START_S + 86_400) * 1_000));
    let catalog = Catalog::open(&dir.join("catalog"));
    let external = ExternalLabels(external.clone());
    let shipping = ShipperSettings {
        directory: dir.join("data"),
        external: external.clone(),
        source: "sidecar".to_owned(),
        upload_compacted: false,
        is_foreign: false,
        counters: Arc::default(),
    };
    let clock_of_shipper = Arc::clone(&clock);
    let mut shipper = Shipper::new(
        shipping,
        Arc::clone(&bucket),
        catalog.clone(),
        clock_of_shipper,
    );
    let report = shipper.sync().await;
    assert!(report.failed.is_none(), "{report:?}");
    assert!(2 <= report.shipped.len(), "{report:?}");
    let serving = GatewaySettings {
        mark_delay_ms: 86_400_000,
        fetch_concurrency: 8,
        cache_bytes_max: 1 << 20,
        ..GatewaySettings::new(external, dir.join("cache"))
    };
    let gateway = Gateway::new(serving, bucket, catalog, clock, Handle::current()).unwrap();
    assert_eq!(
        gateway.sync().await.unwrap().added.len(),
        report.shipped.len()
    );
    gateway.snapshot()
}

#[tokio::test]
async fn blocks_of_promtool_come_out_of_the_bucket_sample_by_sample() {
    let dir = tempfile::tempdir().unwrap();
    let (text, data) = (dir.path().join("in.txt"), dir.path().join("data"));
    durable::replace_file(&text, open_metrics().as_bytes()).unwrap();
    std::fs::create_dir(&data).unwrap();
    if !create_blocks(&text, &data) {
        return;
    }
    let external = Labels::new(&[("cluster", "c1")]).unwrap();
    let snapshot = ship_and_serve(dir.path(), &external).await;
    for block in snapshot.blocks() {
        let meta = BlockMeta::read(&dir.path().join("bucket").join(block.id.to_string())).unwrap();
        assert!(block.is_own && meta.thanos.is_some(), "{block:?}");
    }
    assert!(snapshot.own_interval().unwrap().contains(START_S * 1_000));
    let settings = GrpcSettings::new("127.0.0.1:0".parse().unwrap());
    let pool = Pool::new("query", 1, 8).unwrap();
    let source = Arc::new(Served(snapshot, external));
    let server = GrpcServer::start(settings, source, pool).await.unwrap();
    let address = format!("http://{}", server.address());
    let mut client = StoreClient::connect(address).await.unwrap();
    let (min_time, max_time) = (START_S * 1_000, (START_S + N_SAMPLES * 15) * 1_000);
    let request = SeriesRequest {
        min_time,
        max_time,
        matchers: vec![matcher(Type::Re, "__name__", "lo.d")],
        response_batch_size: 64,
        ..SeriesRequest::default()
    };
    let mut stream = client.series(request).await.unwrap().into_inner();
    let mut found: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
    while let Some(frame) = stream.message().await.unwrap() {
        let Some(Frame::Batch(batch)) = frame.result else {
            panic!("{frame:?}");
        };
        for series in batch.series {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            for chunk in &series.chunks {
                let raw = chunk.raw.as_ref().unwrap();
                decode_floats(Encoding::Xor, &raw.data, &mut times, &mut values).unwrap();
            }
            assert!(
                times.is_sorted_by(|left, right| left < right),
                "a sample twice"
            );
            let samples = times.into_iter().zip(values).collect();
            assert!(found.insert(name(&series), samples).is_none());
        }
    }
    let expect = (0..5).map(|series| {
        let samples = (0..N_SAMPLES)
            .map(|number| ((START_S + number * 15) * 1_000, value(series, number)))
            .collect();
        (format!("__name__=load,cluster=c1,host=h{series}"), samples)
    });
    assert_eq!(found, expect.collect());
    let request = LabelValuesRequest {
        label: "host".to_owned(),
        start: min_time,
        end: max_time,
        ..LabelValuesRequest::default()
    };
    let values = client
        .label_values(request)
        .await
        .unwrap()
        .into_inner()
        .values;
    assert_eq!(values, ["h0", "h1", "h2", "h3", "h4"]);
    server.stop(std::time::Duration::from_secs(1)).await;
}
