//! `type: GCS`

use crate::bucket::{BucketKind, GcsSettings, PartSettings, Secret};
use crate::config::bucket::http::http;
use crate::config::bucket::{optional, required, retries};
use crate::config::prometheus::reader::MapReader;

/// The host that certificates are checked against.
const ENDPOINT: &str = "storage.googleapis.com";

/// Parts are multiples of this.
const PART_STEP: u64 = 256 << 10;
/// Google takes no smaller part of an upload, but for the last.
const PART_BYTES_MIN: u64 = 5 << 20;

pub(super) fn read(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket").unwrap_or_default().to_owned();
    let mut gcs = GcsSettings {
        bucket,
        service_account: optional(&mut map, "service_account").map(Secret::new),
        is_public: map.bool("no_auth").unwrap_or(false),
        base_url: None,
        parts: parts(&mut map),
        http: http(&mut map, ENDPOINT),
    };
    gcs.http.retries_max = retries(&mut map, "max_retries");
    if gcs.is_public && gcs.service_account.is_some() {
        let problem = "no_auth and service_account exclude each other";
        map.complain("no_auth", Some("true"), problem);
    }
    if map.bool("use_grpc") == Some(true) {
        let problem = "only Google's HTTP interface is spoken";
        map.complain("use_grpc", Some("true"), problem);
    }
    if map.count_or_negative("grpc_conn_pool_size").unwrap_or(0) != 0 {
        let problem = "only Google's HTTP interface is spoken";
        map.complain("grpc_conn_pool_size", None, problem);
    }
    map.finish();
    Some(BucketKind::Gcs(Box::new(gcs)))
}

/// Zero sends each file in one request, as in Thanos.
fn parts(map: &mut MapReader<'_>) -> PartSettings {
    match map.count_or_negative("chunk_size_bytes") {
        None => PartSettings::default(),
        Some(0) => PartSettings {
            part_bytes: None,
            is_whole: true,
        },
        Some(n) => PartSettings {
            part_bytes: Some((n as u64).next_multiple_of(PART_STEP).max(PART_BYTES_MIN)),
            is_whole: false,
        },
    }
}
