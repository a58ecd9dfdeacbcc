//! Native histograms, exemplars and start timestamps on their way from a target to the database.

use std::num::NonZeroUsize;

use super::appending::Bench;
use crate::exposition::testing::{COUNTER, HISTOGRAM, Message, family};
use crate::exposition::{HistogramOptions, MediaType};
use crate::scrape::error::ScrapeError;
use crate::scrape::ingest::Ingested;
use crate::scrape::settings::StartTimes;

const NATIVE: HistogramOptions = HistogramOptions {
    native: true,
    keeps_classic: false,
    converts_classic: false,
};

fn message() -> Message {
    Message::default()
}

/// A histogram of schema 3 with this many observations in each of four buckets.
fn native(each: u64) -> Message {
    message()
        .varint(1, 4 * each)
        .double(2, 2.0)
        .signed(5, 3)
        .span(12, 1, 4)
        .packed(13, &[i64::try_from(each).unwrap(), 0, 0, 0])
        .bucket(1.5, 2 * each)
}

fn page(histogram: Message) -> Vec<u8> {
    family("h", HISTOGRAM, vec![message().message(7, histogram)])
}

fn bench() -> Bench {
    let mut bench = Bench::new(&[]);
    bench.target.histograms = NATIVE;
    bench
}

fn scrape(bench: &mut Bench, page: &[u8]) -> Ingested {
    bench.scrape_body(Ok((page, MediaType::Protobuf)))
}

fn scrape_openmetrics(bench: &mut Bench, page: &str) -> Ingested {
    bench.scrape_body(Ok((page.as_bytes(), MediaType::OpenMetrics)))
}

#[test]
fn a_native_histogram_counts_as_one_sample_and_ends_like_any_series() {
    let mut bench = bench();
    assert_eq!(scrape(&mut bench, &page(native(1))).error, None);
    assert_eq!(scrape(&mut bench, &page(native(2))).error, None);
    assert_eq!(bench.report("scrape_samples_scraped"), ["1", "1"]);
    assert_eq!(bench.report("scrape_series_added"), ["1", "0"]);
    assert_eq!(bench.db.n_label_lookups(), 1 + 5);
    scrape(&mut bench, b"");
    let [series] = bench.series().try_into().unwrap();
    let samples: Vec<&str> = series.split("@").collect();
    assert!(
        samples[0].starts_with("{__name__=\"h\"} {count:4, sum:2, "),
        "{series}"
    );
    assert!(samples[1].starts_with("1000 {count:8, sum:2, "), "{series}");
    assert_eq!(&samples[2..], ["2000 stale", "3000"]);
    assert_eq!(bench.counters.stale_markers.get(), 1);
}

#[test]
fn classic_series_stand_beside_native_ones_when_asked_for() {
    let mut bench = bench();
    bench.target.histograms.keeps_classic = true;
    scrape(&mut bench, &page(native(1)));
    let names: Vec<String> = bench
        .series()
        .iter()
        .map(|series| series.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    bench.target.histograms = HistogramOptions::default();
    scrape(&mut bench, &page(native(1)));
    // The native one is not taken any more and ends.
    let series = bench.series();
    let ended: Vec<&String> = series.iter().filter(|s| s.contains("stale")).collect();
    assert!(
        matches!(ended.as_slice(), [one] if one.starts_with("{__name__=\"h\"} ")),
        "{ended:?}"
    );
}

#[test]
fn histograms_are_made_as_coarse_as_limits_want_them() {
    let mut bench = bench();
    bench.settings.histograms.schema_max = 2;
    scrape(&mut bench, &page(native(1)));
    let series = bench.series().join("");
    assert!(series.contains("(1,1.189207115002721]:2"), "{series}");
    // Of four buckets two are left after one step, which the limit allows.
    let mut bench = self::bench();
    bench.settings.histograms.buckets_max = NonZeroUsize::new(2);
    assert_eq!(scrape(&mut bench, &page(native(1))).error, None);
    let series = bench.series().join("");
    assert!(series.contains("(1,1.189207115002721]:2"), "{series}");
}

#[test]
fn what_cannot_be_made_coarse_enough_fails_the_scrape() {
    let mut bench = bench();
    bench.settings.histograms.buckets_max = NonZeroUsize::new(1);
    let both_signs = native(1).span(9, 1, 1).packed(10, &[1]).varint(1, 5);
    let ingested = scrape(&mut bench, &page(both_signs));
    assert_eq!(ingested.error, Some(ScrapeError::BucketLimit));
    assert_eq!(bench.report("up"), ["0"]);
    assert_eq!(bench.report("scrape_samples_post_metric_relabeling"), ["1"]);
    assert_eq!(bench.counters.bucket_limit_exceeded.get(), 1);
    // Listed bounds cannot be merged at all.
    let mut bench = self::bench();
    bench.target.histograms.converts_classic = true;
    bench.settings.histograms.buckets_max = NonZeroUsize::new(1);
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1\n# EOF\n";
    let ingested = scrape_openmetrics(&mut bench, text);
    assert_eq!(ingested.error, Some(ScrapeError::BucketLimit));
}

#[test]
fn the_sample_limit_counts_histograms() {
    let mut bench = bench();
    bench.settings.limits.samples = NonZeroUsize::new(1);
    let mut two = page(native(1));
    two.extend(family("c", COUNTER, vec![message()]));
    let ingested = scrape(&mut bench, &two);
    assert_eq!(ingested.error, Some(ScrapeError::SampleLimit));
    assert_eq!((ingested.n_scraped, ingested.n_added), (2, 2));
}

#[test]
fn a_histogram_that_is_none_fails_the_scrape() {
    let mut bench = bench();
    let negative = message().varint(1, 1).span(12, 1, 2).packed(13, &[1, -2]);
    let ingested = scrape(&mut bench, &page(negative));
    let error = ingested.error.unwrap().to_string();
    assert!(error.contains("negative"), "{error}");
}

#[test]
fn classic_histograms_become_native_ones_under_the_family_name() {
    let mut bench = bench();
    bench.target.histograms.converts_classic = true;
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 7\ng 1\n# EOF\n";
    for _ in 0..2 {
        assert_eq!(scrape_openmetrics(&mut bench, text).error, None);
    }
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"g\"} 1@1000 1@2000",
            "{__name__=\"h\"} {count:3, sum:7, [-Inf,1]:1, (1,+Inf]:2}@1000 \
             {count:3, sum:7, [-Inf,1]:1, (1,+Inf]:2}@2000"
        ]
    );
}

#[test]
fn exemplars_follow_their_sample_in_order_of_time() {
    let mut bench = bench();
    let exemplar = |id, v: f64| message().label("id", id).double(2, v);
    let histogram = native(1)
        .message(16, exemplar("late", 1.0).timestamp(3, 0, 900_000_000))
        .message(16, exemplar("early", 1.0).timestamp(3, 0, 100_000_000))
        .message(16, exemplar("never", 1.0));
    scrape(&mut bench, &page(histogram));
    let text =
        "# TYPE c counter\nc_total 1 # {id=\"x\"} 0.5\nc_total{a=\"b\"} 1 # {} 0.25 1.5\n# EOF\n";
    scrape_openmetrics(&mut bench, text);
    let exemplars: Vec<String> = bench
        .db
        .exemplars()
        .iter()
        .map(|(series, exemplar)| {
            format!(
                "{series} {} {}@{} {}",
                exemplar.labels, exemplar.v, exemplar.t, exemplar.has_own_time
            )
        })
        .collect();
    assert_eq!(
        exemplars,
        [
            "{__name__=\"h\"} {id=\"early\"} 1@100 true",
            "{__name__=\"h\"} {id=\"late\"} 1@900 true",
            "{__name__=\"c_total\"} {id=\"x\"} 0.5@2000 false",
            "{__name__=\"c_total\", a=\"b\"} {} 0.25@1500 true",
        ]
    );
}

#[test]
fn start_timestamps_are_left_out_stored_or_made_zeros() {
    let text = "# TYPE c counter\nc_total 5\nc_created 0.25\n# EOF\n";
    for (start_times, expect) in [
        (
            StartTimes::Ignore,
            vec![
                "{__name__=\"c_created\"} 0.25@1000 0.25@2000",
                "{__name__=\"c_total\"} 5@1000 5@2000",
            ],
        ),
        (
            StartTimes::Store,
            vec!["{__name__=\"c_total\"} 5 since 250@1000 5 since 250@2000"],
        ),
        (
            StartTimes::Zero,
            vec!["{__name__=\"c_total\"} 0@250 5@1000 5@2000"],
        ),
    ] {
        let mut bench = bench();
        bench.settings.start_times = start_times;
        for _ in 0..2 {
            scrape_openmetrics(&mut bench, text);
        }
        assert_eq!(bench.series(), expect, "{start_times:?}");
        assert_eq!(bench.counters.out_of_order.get(), 0);
    }
    let mut bench = bench();
    bench.settings.start_times = StartTimes::Zero;
    scrape(&mut bench, &page(native(1).timestamp(15, 0, 500_000_000)));
    let series = bench.series().join("");
    assert!(
        series.starts_with("{__name__=\"h\"} {count:0, sum:0}@500 {count:4,"),
        "{series}"
    );
}
