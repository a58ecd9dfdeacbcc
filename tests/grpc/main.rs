//! StoreAPI as a client sees it: tonic against a server in the same process.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod blocks;
mod downsampled;
mod faults;
mod services;
mod source;

use std::sync::Arc;

use gauntlet::api::grpc::{GrpcServer, GrpcSettings};
use gauntlet::chunk::decode_floats;
use gauntlet::foundation::pool::Pool;
use gauntlet::model::Encoding;
use gauntlet::wire::hintspb::{SeriesRequestHints, SeriesResponseHints};
use gauntlet::wire::thanos::label_matcher::Type;
use gauntlet::wire::thanos::series_response::Result as Frame;
use gauntlet::wire::thanos::store_client::StoreClient;
use gauntlet::wire::thanos::{
    LabelMatcher, LabelNamesRequest, LabelValuesRequest, Series, SeriesRequest, ShardInfo,
};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};
use xxhash_rust::xxh64::xxh64;

use crate::source::{Appliance, Fault, Memory, labels};

const SERIES: [&str; 4] = [
    "__name__=up,job=a",
    "__name__=up,job=a,replica=own",
    "__name__=up,job=b",
    "__name__=down,job=a",
];

struct Fixture {
    server: GrpcServer,
    channel: Channel,
}

impl Fixture {
    async fn start(own: Memory, change: impl FnOnce(&mut Appliance, &mut GrpcSettings)) -> Self {
        let mut settings = GrpcSettings::new("127.0.0.1:0".parse().unwrap());
        let mut appliance = Appliance {
            external: labels("cluster=c1,replica=r1"),
            own: Arc::new(own),
            others: None,
            is_ready: true,
        };
        change(&mut appliance, &mut settings);
        let pool = Pool::new("query", 2, 16).unwrap();
        let server = GrpcServer::start(settings, Arc::new(appliance), pool)
            .await
            .unwrap();
        let channel = Channel::from_shared(format!("http://{}", server.address())).unwrap();
        let channel = channel.connect().await.unwrap();
        Self { server, channel }
    }

    async fn plain() -> Self {
        Self::start(Memory::new(&SERIES, Fault::None), |_, _| ()).await
    }

    fn store(&self) -> StoreClient<Channel> {
        StoreClient::new(self.channel.clone())
    }

    async fn frames(&self, request: SeriesRequest) -> Result<Vec<Frame>, Status> {
        let mut stream = self.store().series(request).await?.into_inner();
        let mut frames = Vec::new();
        while let Some(frame) = stream.message().await? {
            frames.push(frame.result.unwrap());
        }
        Ok(frames)
    }

    /// Labels of the series in the order they came, as `a=1,b=2`.
    async fn names(&self, request: SeriesRequest) -> Vec<String> {
        let frames = self.frames(request).await.unwrap();
        let series = frames.into_iter().flat_map(|frame| match frame {
            Frame::Series(series) => vec![series],
            Frame::Batch(batch) => batch.series,
            other @ (Frame::Warning(_) | Frame::Hints(_)) => panic!("{other:?}"),
        });
        series.map(|series| name(&series)).collect()
    }
}

fn name(series: &Series) -> String {
    let labels = series.labels.iter();
    let pairs: Vec<_> = labels
        .map(|label| format!("{}={}", label.name, label.value))
        .collect();
    pairs.join(",")
}

fn matcher(kind: Type, name: &str, value: &str) -> LabelMatcher {
    LabelMatcher {
        r#type: kind.into(),
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn request(matchers: &[(&str, &str)]) -> SeriesRequest {
    SeriesRequest {
        min_time: 0,
        max_time: 299_000,
        matchers: matchers
            .iter()
            .map(|(name, value)| matcher(Type::Eq, name, value))
            .collect(),
        ..SeriesRequest::default()
    }
}

#[tokio::test]
async fn series_come_in_the_order_of_their_complete_labels_with_their_samples() {
    let fixture = Fixture::start(Memory::new(&SERIES, Fault::None), |_, settings| {
        settings.chunk_hashes = true;
    })
    .await;
    let frames = fixture
        .frames(request(&[("__name__", "up")]))
        .await
        .unwrap();
    let expect = [
        "__name__=up,cluster=c1,job=a,replica=r1",
        "__name__=up,cluster=c1,job=b,replica=r1",
    ];
    let mut found: Vec<String> = Vec::new();
    for frame in frames {
        let Frame::Series(series) = frame else {
            panic!("{frame:?}")
        };
        found.push(name(&series));
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &series.chunks {
            let raw = chunk.raw.as_ref().unwrap();
            assert_eq!((raw.r#type, raw.hash), (0, xxh64(&raw.data, 0)));
            decode_floats(Encoding::Xor, &raw.data, &mut times, &mut values).unwrap();
            assert_eq!(times.last(), Some(&chunk.max_time));
        }
        times.sort_unstable();
        times.dedup();
        assert_eq!(times, (0..300).map(|n| n * 1_000).collect::<Vec<_>>());
    }
    assert_eq!(found, expect);
}

#[tokio::test]
async fn chunks_outside_the_asked_times_stay_here_and_without_chunks_only_labels_come() {
    let fixture = Fixture::plain().await;
    let mut narrow = request(&[("__name__", "down")]);
    (narrow.min_time, narrow.max_time) = (130_000, 140_000);
    let frames = fixture.frames(narrow).await.unwrap();
    let [Frame::Series(series)] = &frames[..] else {
        panic!("{frames:?}")
    };
    let times: Vec<_> = series
        .chunks
        .iter()
        .map(|c| (c.min_time, c.max_time))
        .collect();
    assert_eq!(times, [(120_000, 239_000)]);
    let mut labels_only = request(&[("__name__", "down")]);
    labels_only.skip_chunks = true;
    let frames = fixture.frames(labels_only).await.unwrap();
    let [Frame::Series(series)] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(series.chunks.len(), 0);
}

#[tokio::test]
async fn matchers_on_external_labels_choose_the_store() {
    let fixture = Fixture::plain().await;
    let both = request(&[("__name__", "down"), ("cluster", "c1")]);
    assert_eq!(fixture.names(both).await.len(), 1);
    let other = request(&[("__name__", "down"), ("cluster", "c2")]);
    assert_eq!(fixture.names(other).await, Vec::<String>::new());
    for matchers in [&[("cluster", "c1")][..], &[]] {
        let status = fixture.frames(request(matchers)).await.unwrap_err();
        let expect = "no matchers specified (excluding external labels)";
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, expect)
        );
    }
    let mut broken = request(&[]);
    broken.matchers = vec![matcher(Type::Re, "job", "a(")];
    let status = fixture.frames(broken).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("a("), "{status:?}");
}

#[tokio::test]
async fn labels_left_out_do_not_break_the_order() {
    let fixture = Fixture::start(
        Memory::new(
            &[
                "__name__=up,a=1,z=2",
                "__name__=up,a=2,z=1",
                "__name__=up,z=3",
            ],
            Fault::None,
        ),
        |_, _| (),
    )
    .await;
    let mut without = request(&[("__name__", "up"), ("replica", "r1")]);
    without.without_replica_labels = vec!["replica".to_owned(), "a".to_owned()];
    let expect = [
        "__name__=up,cluster=c1,z=1",
        "__name__=up,cluster=c1,z=2",
        "__name__=up,cluster=c1,z=3",
    ];
    assert_eq!(fixture.names(without.clone()).await, expect);
    without.limit = 2;
    assert_eq!(fixture.names(without).await, expect[..2]);
}

#[tokio::test]
async fn series_of_other_producers_keep_their_own_external_labels() {
    let others = Memory::new(
        &["__name__=up,cluster=c0,job=a", "__name__=up,cluster=c2"],
        Fault::None,
    );
    let fixture = Fixture::start(Memory::new(&SERIES, Fault::None), |appliance, _| {
        appliance.others = Some(Arc::new(others));
    })
    .await;
    let expect = [
        "__name__=up,cluster=c0,job=a",
        "__name__=up,cluster=c1,job=a,replica=r1",
        "__name__=up,cluster=c1,job=b,replica=r1",
        "__name__=up,cluster=c2",
    ];
    assert_eq!(fixture.names(request(&[("__name__", "up")])).await, expect);
    let one = request(&[("__name__", "up"), ("cluster", "c2")]);
    assert_eq!(fixture.names(one).await, expect[3..]);
}

#[tokio::test]
async fn frames_carry_as_many_series_as_asked_for() {
    let names: Vec<String> = (0..10).map(|n| format!("__name__=up,n={n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fixture = Fixture::start(Memory::new(&names, Fault::None), |_, _| ()).await;
    for (size, expect) in [
        (0, vec![1; 10]),
        (1, vec![1; 10]),
        (4, vec![4, 4, 2]),
        (64, vec![10]),
    ] {
        let mut batched = request(&[("__name__", "up")]);
        batched.response_batch_size = size;
        let frames = fixture.frames(batched).await.unwrap();
        let sizes = frames.iter().map(|frame| match frame {
            Frame::Series(_) => 1,
            Frame::Batch(batch) => batch.series.len(),
            other @ (Frame::Warning(_) | Frame::Hints(_)) => panic!("{other:?}"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), expect, "asked for {size}");
    }
}

#[tokio::test]
async fn shards_are_disjoint_and_together_everything() {
    let names: Vec<String> = (0..50).map(|n| format!("__name__=up,n={n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fixture = Fixture::start(Memory::new(&names, Fault::None), |_, _| ()).await;
    for by in [true, false] {
        let mut all = Vec::new();
        for shard_index in 0..3 {
            let mut part = request(&[("__name__", "up")]);
            part.shard_info = Some(ShardInfo {
                shard_index,
                total_shards: 3,
                by,
                labels: vec![if by { "n" } else { "cluster" }.to_owned()],
            });
            let names = fixture.names(part).await;
            assert!(5 < names.len(), "{names:?}");
            all.extend(names);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 50);
    }
}

#[tokio::test]
async fn limits_cut_or_refuse() {
    let fixture = Fixture::start(Memory::new(&SERIES, Fault::None), |_, settings| {
        settings.series_max = Some(1);
        settings.samples_max = Some(800);
    })
    .await;
    let mut limited = request(&[("__name__", "up")]);
    limited.limit = 1;
    assert_eq!(fixture.names(limited).await.len(), 1);
    let status = fixture
        .frames(request(&[("__name__", "up")]))
        .await
        .unwrap_err();
    let expect = "failed to send series: limit 1 violated (got 2)";
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, expect)
    );
}

#[tokio::test]
async fn stats_come_when_they_are_asked_for() {
    let fixture = Fixture::plain().await;
    let hints = SeriesRequestHints {
        enable_query_stats: true,
        ..SeriesRequestHints::default()
    };
    let mut asked = request(&[("__name__", "down")]);
    asked.hints = Some(prost_types::Any {
        type_url: "type.googleapis.com/hintspb.SeriesRequestHints".to_owned(),
        value: hints.encode_to_vec(),
    });
    let frames = fixture.frames(asked.clone()).await.unwrap();
    let [Frame::Series(_), Frame::Hints(any)] = &frames[..] else {
        panic!("{frames:?}")
    };
    let stats = SeriesResponseHints::decode(&any.value[..])
        .unwrap()
        .query_stats
        .unwrap();
    assert_eq!(
        (stats.merged_series_count, stats.merged_chunks_count),
        (1, 3)
    );
    asked.hints.as_mut().unwrap().value = vec![0xff];
    let status = fixture.frames(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn label_names_and_values_include_the_external_ones() {
    let fixture = Fixture::plain().await;
    let ask = LabelNamesRequest {
        start: 0,
        end: 299_000,
        ..LabelNamesRequest::default()
    };
    let names = |ask| async {
        fixture
            .store()
            .label_names(ask)
            .await
            .unwrap()
            .into_inner()
            .names
    };
    assert_eq!(
        names(ask.clone()).await,
        ["__name__", "cluster", "job", "replica"]
    );
    let mut without = ask.clone();
    without.without_replica_labels = vec!["replica".to_owned()];
    without.limit = 2;
    assert_eq!(names(without).await, ["__name__", "cluster"]);
    let mut elsewhere = ask;
    elsewhere.matchers = vec![matcher(Type::Eq, "cluster", "c2")];
    assert_eq!(names(elsewhere).await, Vec::<String>::new());

    let ask = |label: &str| LabelValuesRequest {
        label: label.to_owned(),
        start: 0,
        end: 299_000,
        ..LabelValuesRequest::default()
    };
    let values = |ask| async {
        fixture
            .store()
            .label_values(ask)
            .await
            .unwrap()
            .into_inner()
            .values
    };
    assert_eq!(values(ask("job")).await, ["a", "b"]);
    assert_eq!(values(ask("replica")).await, ["r1"]);
    let mut left_out = ask("replica");
    left_out.without_replica_labels = vec!["replica".to_owned()];
    assert_eq!(values(left_out).await, Vec::<String>::new());
    let status = fixture.store().label_values(ask("")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "label name parameter cannot be empty");
}
