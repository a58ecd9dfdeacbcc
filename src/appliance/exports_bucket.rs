//! What is exposed of the bucket: Thanos' names for what was asked of it, our own for what that was over HTTP.

use crate::bucket::{
    Bucket, DURATION_BOUNDS_MS, MeteredBucket, Operation, OperationCounts, Prices, RequestCounts,
    SIZE_BOUNDS,
};
use crate::foundation::metrics::{LabelledHistogram, Readings};

/// Operations that are one in Thanos' eyes.
const OPERATIONS: [(&str, &[Operation]); 6] = [
    ("iter", &[Operation::List]),
    ("get", &[Operation::Get, Operation::Download]),
    ("get_range", &[Operation::GetRange]),
    ("upload", &[Operation::Put, Operation::Upload]),
    ("delete", &[Operation::Delete]),
    ("attributes", &[Operation::Head]),
];

/// Operations that move content.
const TRANSFERS: [&str; 3] = ["get", "get_range", "upload"];

pub(crate) fn read_bucket(r: &mut Readings<'_, '_>, bucket: &MeteredBucket, prices: &Prices) {
    let name = bucket.name();
    let counts = bucket.counts();
    let of = |operations: &[Operation]| -> Vec<OperationCounts> {
        let wanted = counts.iter().filter(|(here, _)| operations.contains(here));
        wanted.map(|(_, counts)| *counts).collect()
    };
    let counted: Vec<_> = OPERATIONS
        .iter()
        .map(|(operation, ours)| ([("bucket", name), ("operation", *operation)], of(ours)))
        .collect();
    let sums = |pick: fn(&OperationCounts) -> u64| -> Vec<(&[(&str, &str)], u64)> {
        counted
            .iter()
            .map(|(labels, counts)| (labels.as_slice(), counts.iter().map(pick).sum()))
            .collect()
    };
    r.counters_by(
        "thanos_objstore_bucket_operations_total",
        "Operations asked of the bucket.",
        &sums(|counts| counts.n_started),
    );
    r.counters_by(
        "thanos_objstore_bucket_operation_failures_total",
        "Operations that failed; an object that is not there is an answer.",
        &sums(|counts| counts.n_failed),
    );
    let times: Vec<_> = counted
        .iter()
        .map(|(labels, counts)| times(labels, counts))
        .collect();
    r.histograms_by(
        "thanos_objstore_bucket_operation_duration_seconds",
        "How long operations took, repetitions included.",
        &times,
    );
    let sizes: Vec<_> = counted
        .iter()
        .filter(|(labels, _)| labels.iter().any(|(_, value)| TRANSFERS.contains(value)))
        .map(|(labels, counts)| sizes(labels, counts))
        .collect();
    r.histograms_by(
        "thanos_objstore_bucket_operation_transferred_bytes",
        "Bytes of content that operations moved.",
        &sizes,
    );
    r.gauges(
        "thanos_objstore_bucket_last_successful_upload_time",
        "When something was last written, in seconds since the Unix epoch.",
        "bucket",
        &[(
            name,
            as_f64(bucket.last_upload_ms().unsigned_abs()) / 1_000.0,
        )],
    );
    read_requests(r, bucket, prices);
}

/// What a store behind HTTP was sent; a directory is sent nothing.
fn read_requests(r: &mut Readings<'_, '_>, bucket: &MeteredBucket, prices: &Prices) {
    let Some(requests) = bucket.requests() else {
        return;
    };
    let counts = requests.counts();
    let of = |pick: fn(&RequestCounts) -> u64| -> Vec<(&str, u64)> {
        counts
            .iter()
            .map(|(sort, counts)| (sort.as_str(), pick(counts)))
            .collect()
    };
    r.counters(
        "gauntlet_bucket_requests_total",
        "HTTP requests sent to the store: pages, parts and repetitions too.",
        "sort",
        &of(|counts| counts.n_sent),
    );
    r.counters(
        "gauntlet_bucket_request_failures_total",
        "HTTP requests that the store could not or would not serve now.",
        "sort",
        &of(|counts| counts.n_failed),
    );
    r.counters(
        "gauntlet_bucket_sent_bytes_total",
        "Bytes of content sent to the store.",
        "sort",
        &of(|counts| counts.bytes_sent),
    );
    r.counters(
        "gauntlet_bucket_received_bytes_total",
        "Bytes of content received from the store.",
        "sort",
        &of(|counts| counts.bytes_received),
    );
    r.counter(
        "gauntlet_bucket_hedged_reads_total",
        "Reads that were asked once more because the first was slow.",
        requests.n_hedged(),
    );
    r.counter_f64(
        "gauntlet_bucket_cost_estimate_total",
        "What these requests cost by the prices in the bucket section.",
        requests.cost(prices),
    );
}

fn times<'a>(labels: &[(&'a str, &'a str)], counts: &[OperationCounts]) -> LabelledHistogram<'a> {
    let bounds = DURATION_BOUNDS_MS.map(|ms| as_f64(ms) / 1_000.0);
    let bounds = bounds.into_iter().chain([f64::MAX]);
    let sum = |at: usize| -> u64 {
        let at = counts.iter().filter_map(|counts| counts.durations.get(at));
        at.sum()
    };
    let micros: u64 = counts.iter().map(|counts| counts.micros).sum();
    LabelledHistogram {
        labels: labels.to_vec(),
        sum: as_f64(micros) / 1e6,
        buckets: bounds
            .enumerate()
            .map(|(at, bound)| (bound, sum(at)))
            .collect(),
    }
}

fn sizes<'a>(labels: &[(&'a str, &'a str)], counts: &[OperationCounts]) -> LabelledHistogram<'a> {
    let bounds = SIZE_BOUNDS.map(as_f64).into_iter().chain([f64::MAX]);
    let sum = |at: usize| -> u64 {
        let at = counts.iter().filter_map(|counts| counts.sizes.get(at));
        at.sum()
    };
    let bytes: u64 = counts.iter().map(|counts| counts.bytes).sum();
    LabelledHistogram {
        labels: labels.to_vec(),
        sum: as_f64(bytes),
        buckets: bounds
            .enumerate()
            .map(|(at, bound)| (bound, sum(at)))
            .collect(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts lose their last digits behind nine million billion"
)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::bucket::StoreBucket;
    use crate::foundation::metrics::{Form, Metrics};

    #[tokio::test]
    async fn a_bucket_is_exposed_under_the_names_that_dashboards_of_thanos_know() {
        let bucket = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
        bucket.put("a", Bytes::from(vec![0; 40_000])).await.unwrap();
        assert!(bucket.get("b", 9).await.unwrap_err().is_not_found());
        bucket.get("a", 9).await.unwrap_err();
        let metrics = Metrics::new();
        let prices = Prices {
            thousand_writes: 1.0,
            thousand_reads: 1.0,
            gib_out: 1.0,
        };
        metrics.read(move |readings| read_bucket(readings, &bucket, &prices));
        let text = metrics.exposition(Form::Text);
        for line in [
            "thanos_objstore_bucket_operations_total{bucket=\"memory\",operation=\"upload\"} 1",
            "thanos_objstore_bucket_operations_total{bucket=\"memory\",operation=\"get\"} 2",
            "thanos_objstore_bucket_operation_failures_total{bucket=\"memory\",operation=\"get\"} 1",
            "thanos_objstore_bucket_operation_duration_seconds_count{bucket=\"memory\",operation=\"get\"} 2",
            "thanos_objstore_bucket_operation_transferred_bytes_sum{bucket=\"memory\",operation=\"upload\"} 40000.0",
        ] {
            assert!(text.lines().any(|here| here == line), "{line} in:\n{text}");
        }
        let at_most = |bound: &str| {
            let start = "thanos_objstore_bucket_operation_transferred_bytes_bucket{";
            let mut lines = text.lines().filter(|line| {
                line.starts_with(start) && line.contains("upload") && line.contains(bound)
            });
            lines
                .next()
                .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        };
        assert_eq!(at_most("le=\"32768.0\""), Some("0".to_owned()), "{text}");
        assert_eq!(at_most("le=\"65536.0\""), Some("1".to_owned()), "{text}");
        assert!(!text.contains("gauntlet_bucket_requests_total{"));
    }
}
