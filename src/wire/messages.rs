//! The bytes that peers put on the wire, field by field.

use bytes::Bytes;
use prost::Message;

use crate::wire::hintspb::{Block, LabelNamesResponseHints};
use crate::wire::thanos::info::{InfoResponse, StoreInfo, TsdbInfo};
use crate::wire::thanos::series_response::Result as Frame;
use crate::wire::thanos::{
    Aggr, AggrChunk, Chunk, Label, LabelMatcher, LabelNamesRequest, LabelSet, LabelValuesRequest,
    PartialResponseStrategy, QueryHints, Series, SeriesBatch, SeriesRequest, SeriesResponse,
    ShardInfo, chunk, label_matcher,
};

#[track_caller]
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(&M::decode(bytes).unwrap(), message);
}

#[test]
fn a_series_request_has_its_fields_at_their_numbers() {
    let request = SeriesRequest {
        min_time: 1,
        max_time: 2,
        matchers: vec![LabelMatcher {
            r#type: label_matcher::Type::Nre.into(),
            name: "a".to_owned(),
            value: "b".to_owned(),
        }],
        max_resolution_window: 4,
        aggregates: vec![Aggr::Count.into(), Aggr::Counter.into()],
        partial_response_strategy: PartialResponseStrategy::Abort.into(),
        skip_chunks: true,
        query_hints: Some(QueryHints {
            step_millis: 3,
            series_hash_label_name: "h".to_owned(),
            ..QueryHints::default()
        }),
        shard_info: Some(ShardInfo {
            shard_index: 1,
            total_shards: 2,
            by: true,
            labels: vec!["a".to_owned()],
        }),
        without_replica_labels: vec!["r".to_owned()],
        limit: 5,
        response_batch_size: 64,
        ..SeriesRequest::default()
    };
    check(
        &request,
        &[
            0x08, 1, 0x10, 2, 0x1a, 8, 0x08, 3, 0x12, 1, b'a', 0x1a, 1, b'b', 0x20, 4, 0x2a, 2, 1,
            5, 0x38, 1, 0x40, 1, 0x62, 5, 0x08, 3, 0x42, 1, b'h', 0x6a, 9, 0x08, 1, 0x10, 2, 0x18,
            1, 0x22, 1, b'a', 0x72, 1, b'r', 0x78, 5, 0x80, 1, 64,
        ],
    );
}

#[test]
fn a_series_frame_and_a_batch_frame_differ_in_their_number_only() {
    let series = Series {
        labels: vec![Label {
            name: "n".to_owned(),
            value: "v".to_owned(),
        }],
        chunks: vec![AggrChunk {
            min_time: 1,
            max_time: 2,
            raw: Some(Chunk {
                r#type: chunk::Encoding::Histogram.into(),
                data: Bytes::from_static(b"x"),
                hash: 3,
            }),
            ..AggrChunk::default()
        }],
    };
    let body = [
        0x0a, 6, 0x0a, 1, b'n', 0x12, 1, b'v', 0x12, 13, 0x08, 1, 0x10, 2, 0x1a, 7, 0x08, 1, 0x12,
        1, b'x', 0x18, 3,
    ];
    let frame = SeriesResponse {
        result: Some(Frame::Series(series.clone())),
    };
    check(&frame, &[&[0x0a, 23][..], &body].concat());
    let batch = SeriesResponse {
        result: Some(Frame::Batch(SeriesBatch {
            series: vec![series],
        })),
    };
    check(&batch, &[&[0x22, 25, 0x0a, 23][..], &body].concat());
    let warning = SeriesResponse {
        result: Some(Frame::Warning("w".to_owned())),
    };
    check(&warning, &[0x12, 1, b'w']);
}

#[test]
fn label_requests_have_their_fields_at_their_numbers() {
    let names = LabelNamesRequest {
        partial_response_strategy: PartialResponseStrategy::Abort.into(),
        start: 3,
        end: 4,
        without_replica_labels: vec!["r".to_owned()],
        limit: 8,
        ..LabelNamesRequest::default()
    };
    check(&names, &[0x10, 1, 0x18, 3, 0x20, 4, 0x3a, 1, b'r', 0x40, 8]);
    let values = LabelValuesRequest {
        label: "l".to_owned(),
        partial_response_strategy: PartialResponseStrategy::Abort.into(),
        start: 4,
        end: 5,
        without_replica_labels: vec!["r".to_owned()],
        limit: 9,
        ..LabelValuesRequest::default()
    };
    check(
        &values,
        &[
            0x0a, 1, b'l', 0x18, 1, 0x20, 4, 0x28, 5, 0x42, 1, b'r', 0x48, 9,
        ],
    );
}

#[test]
fn info_has_its_fields_at_their_numbers() {
    let labels = LabelSet {
        labels: vec![Label {
            name: "n".to_owned(),
            value: "v".to_owned(),
        }],
    };
    let info = InfoResponse {
        label_sets: vec![labels.clone()],
        component_type: "query".to_owned(),
        store: Some(StoreInfo {
            min_time: 1,
            max_time: 2,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: vec![TsdbInfo {
                labels: Some(labels),
                min_time: 1,
                max_time: 2,
            }],
            supports_projections: true,
        }),
        ..InfoResponse::default()
    };
    let set = [0x0a, 6, 0x0a, 1, b'n', 0x12, 1, b'v'];
    let store = [
        &[0x08, 1, 0x10, 2, 0x18, 1, 0x28, 1, 0x32, 14, 0x0a, 8][..],
        &set,
        &[0x10, 1, 0x18, 2, 0x38, 1],
    ]
    .concat();
    let expect = [
        &[0x0a, 8][..],
        &set,
        &[0x12, 5],
        b"query",
        &[0x1a, u8::try_from(store.len()).unwrap()],
        &store,
    ]
    .concat();
    check(&info, &expect);
}

#[test]
fn hints_name_blocks() {
    let hints = LabelNamesResponseHints {
        queried_blocks: vec![Block { id: "x".to_owned() }],
    };
    check(&hints, &[0x0a, 3, 0x0a, 1, b'x']);
}
