//! What one exposition becomes: labels, limits, timestamps, staleness.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::exposition::{HistogramOptions, MediaType};
use crate::model::{Counts, Exemplar, Histogram, Labels, SampleTime};
use crate::relabel::{RelabelAction, RelabelRule, RelabelSettings};
use crate::scrape::counters::ScrapeCounters;
use crate::scrape::error::ScrapeError;
use crate::scrape::ingest::{Ingest, Ingested, Scraped};
use crate::scrape::settings::IngestSettings;
use crate::scrape::target::Target;
use crate::scrape::testing::{MemoryDb, job};
use crate::storage::{AppendError, Appendable};

/// A target, its settings and a database, scraped every second from 1000.
pub(super) struct Bench {
    pub(super) db: Arc<MemoryDb>,
    ingest: Ingest,
    pub(super) settings: IngestSettings,
    pub(super) target: Target,
    pub(super) counters: Arc<ScrapeCounters>,
    pub(super) t: i64,
}

impl Bench {
    pub(super) fn new(target_labels: &[(&str, &str)]) -> Self {
        let db = MemoryDb::new();
        let counters = Arc::<ScrapeCounters>::default();
        let ingest = Ingest::new(
            Arc::clone(&db) as Arc<dyn Appendable>,
            Arc::clone(&counters),
            Arc::default(),
        );
        let labels = Labels::new(target_labels).unwrap();
        Self {
            db,
            ingest,
            settings: job("a").ingest,
            target: Target {
                discovered: labels.clone(),
                labels,
                url: "http://h/metrics".to_owned(),
                interval_ms: 1_000,
                timeout_ms: 500,
                histograms: HistogramOptions::default(),
                hash: 1,
                identity: 1,
            },
            counters,
            t: 0,
        }
    }

    fn scrape_result(&mut self, body: Result<&str, ScrapeError>) -> Ingested {
        self.scrape_body(body.map(|text| (text.as_bytes(), MediaType::Text)))
    }

    pub(super) fn scrape_body(
        &mut self,
        body: Result<(&[u8], MediaType), ScrapeError>,
    ) -> Ingested {
        self.t += 1_000;
        self.ingest.run(&Scraped {
            target: &self.target,
            settings: &self.settings,
            body,
            t: self.t,
            now_ms: self.t,
            duration_seconds: 0.25,
        })
    }

    fn scrape(&mut self, text: &str) -> Ingested {
        self.scrape_result(Ok(text))
    }

    /// Samples of everything but the reports.
    pub(super) fn series(&self) -> Vec<String> {
        self.db
            .dump()
            .into_iter()
            .filter(|(labels, _)| !labels.contains("\"up\"") && !labels.contains("\"scrape_"))
            .map(|(labels, samples)| {
                let samples: Vec<_> = samples.iter().map(|(t, v)| format!("{v}@{t}")).collect();
                format!("{labels} {}", samples.join(" "))
            })
            .collect()
    }

    pub(super) fn report(&self, name: &str) -> Vec<String> {
        self.db.values(&format!("{{__name__=\"{name}\"}}"))
    }
}

fn rule(action: RelabelAction, source: &str, regex: &str) -> RelabelRule {
    RelabelRule::new(RelabelSettings {
        action: Some(action),
        source_labels: Some(vec![source.to_owned()]),
        regex: Some(regex.to_owned()),
        ..RelabelSettings::default()
    })
    .unwrap()
}

#[test]
fn a_scrape_becomes_samples_and_a_report() {
    let mut bench = Bench::new(&[]);
    let ingested = bench.scrape("a 1\nb{x=\"y\"} 2.5\n");
    assert_eq!(ingested.error, None);
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000",
            "{__name__=\"b\", x=\"y\"} 2.5@1000"
        ]
    );
    for (name, value) in [
        ("up", "1"),
        ("scrape_duration_seconds", "0.25"),
        ("scrape_samples_scraped", "2"),
        ("scrape_samples_post_metric_relabeling", "2"),
        ("scrape_series_added", "2"),
    ] {
        assert_eq!(bench.report(name), [value], "{name}");
    }
    bench.scrape("a 1\nb{x=\"y\"} 2.5\nc 3\n");
    assert_eq!(bench.report("scrape_series_added"), ["2", "1"]);
    assert!(bench.report("scrape_timeout_seconds").is_empty());
}

#[test]
fn extra_series_are_written_when_asked_for() {
    let mut bench = Bench::new(&[]);
    bench.settings.extra_metrics = true;
    bench.settings.limits.samples = NonZeroUsize::new(7);
    bench.scrape("a 1\n");
    bench.scrape_result(Err(crate::scrape::client::FetchError::BodySize.into()));
    assert_eq!(bench.report("scrape_timeout_seconds"), ["0.5", "0.5"]);
    assert_eq!(bench.report("scrape_sample_limit"), ["7", "7"]);
    assert_eq!(bench.report("scrape_body_size_bytes"), ["4", "-1"]);
    assert_eq!(bench.counters.body_size_exceeded.get(), 1);
}

#[test]
fn a_steady_scrape_asks_for_no_label() {
    let mut bench = Bench::new(&[("job", "x")]);
    bench.settings.metric_relabel = vec![rule(RelabelAction::Drop, "__name__", "dropped")];
    let text = "a 1\ndropped 2\nb{x=\"y\"} 3\n";
    bench.scrape(text);
    let n = bench.db.n_label_lookups();
    for _ in 0..10 {
        assert_eq!(bench.scrape(text).n_added, 2);
    }
    assert_eq!(bench.db.n_label_lookups(), n);
    assert_eq!(bench.series().len(), 2);
}

#[test]
fn a_series_the_database_forgot_is_found_again() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\n");
    bench.db.forget_series();
    let ingested = bench.scrape("a 2\n");
    assert_eq!((ingested.error, ingested.n_series_added), (None, 0));
    assert!(
        bench
            .series()
            .contains(&"{__name__=\"a\"} 2@2000".to_owned()),
        "{:?}",
        bench.series()
    );
}

#[test]
fn a_series_that_disappears_gets_one_marker() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\nb 1\n");
    bench.scrape("a 2\n");
    bench.scrape("a 3\n");
    bench.scrape("a 4\nb 4\n");
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000 2@2000 3@3000 4@4000",
            "{__name__=\"b\"} 1@1000 stale@2000 4@4000"
        ]
    );
    assert_eq!(bench.counters.stale_markers.get(), 1);
}

#[test]
fn markers_and_zeros_are_not_put_behind_newer_samples_of_somebody_else() {
    let mut bench = Bench::new(&[("job", "j")]);
    bench.db.take_out_of_order();
    bench.scrape("a 1\nb 1\n");
    for name in ["a", "b", "up"] {
        let mut appender = bench.db.appender();
        let labels = Labels::new(&[("__name__", name), ("job", "j")]).unwrap();
        appender.append_labels(&labels, 9000, 9.0).unwrap();
        appender.commit().unwrap();
    }
    bench.settings.start_times = crate::scrape::settings::StartTimes::Zero;
    for created in ["0.5", "1.5"] {
        let page = format!("# TYPE b counter\nb_total 3\nb_created {created}\na 2\n# EOF\n");
        bench.scrape_body(Ok((page.as_bytes(), MediaType::OpenMetrics)));
    }
    bench.ingest.end(&bench.target, 4000);
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\", job=\"j\"} 1@1000 2@2000 2@3000 9@9000",
            "{__name__=\"b\", job=\"j\"} 1@1000 9@9000",
            "{__name__=\"b_total\", job=\"j\"} 0@500 3@2000 3@3000 stale@4000",
        ]
    );
    assert_eq!(
        bench.db.values("{__name__=\"up\", job=\"j\"}"),
        ["1", "1", "1", "9"]
    );
    assert_eq!(bench.counters.stale_markers.get(), 1);
}

#[test]
fn a_failed_scrape_ends_every_series_and_the_next_one_revives_them() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\nb 1\n");
    let refused = ScrapeError::Fetch(crate::scrape::client::FetchError::Status("500".to_owned()));
    bench.scrape_result(Err(refused.clone()));
    bench.scrape_result(Err(refused));
    bench.scrape("a 4\nb 4\n");
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000 stale@2000 4@4000",
            "{__name__=\"b\"} 1@1000 stale@2000 4@4000"
        ]
    );
    assert_eq!(bench.report("up"), ["1", "0", "0", "1"]);
    assert_eq!(bench.counters.failed_scrapes.get(), 2);
}

#[test]
fn a_scrape_that_breaks_in_the_middle_leaves_nothing_but_markers() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\nb 1\n");
    let ingested = bench.scrape("a 2\nnew 2\nb not-a-number\n");
    assert!(
        matches!(ingested.error, Some(ScrapeError::Parse(_))),
        "{ingested:?}"
    );
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000 stale@2000",
            "{__name__=\"b\"} 1@1000 stale@2000"
        ]
    );
    assert_eq!(bench.report("up"), ["1", "0"]);
    assert_eq!(bench.report("scrape_samples_scraped"), ["2", "2"]);
    bench.scrape("a 3\nnew 3\n");
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000 stale@2000 3@3000",
            "{__name__=\"b\"} 1@1000 stale@2000",
            "{__name__=\"new\"} 3@3000"
        ]
    );
}

#[test]
fn an_empty_answer_is_a_good_scrape_that_ends_everything() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\n");
    assert_eq!(bench.scrape("").error, None);
    assert_eq!(bench.series(), ["{__name__=\"a\"} 1@1000 stale@2000"]);
    assert_eq!(bench.report("up"), ["1", "1"]);
}

#[test]
fn a_removed_target_ends_its_reports_too() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\n");
    let target = bench.target.clone();
    bench.ingest.end(&target, 5_000);
    assert_eq!(bench.series(), ["{__name__=\"a\"} 1@1000 stale@5000"]);
    for name in ["up", "scrape_duration_seconds", "scrape_series_added"] {
        assert_eq!(bench.report(name).last().unwrap(), "stale", "{name}");
    }
    assert!(bench.report("scrape_timeout_seconds").is_empty());
}

#[test]
fn a_change_of_rules_ends_the_series_it_renames() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\nb 1\n");
    bench.settings.metric_relabel = vec![rule(RelabelAction::Drop, "__name__", "a")];
    bench.ingest.forget_texts();
    bench.scrape("a 2\nb 2\n");
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000 stale@2000",
            "{__name__=\"b\"} 1@1000 2@2000"
        ]
    );
}

#[test]
fn target_labels_win_unless_the_target_is_honored() {
    let text = "a{job=\"mine\",instance=\"\",exported_job=\"x\"} 1\n";
    let mut bench = Bench::new(&[("job", "ours"), ("instance", "h:1")]);
    bench.scrape(text);
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\", exported_exported_job=\"mine\", exported_job=\"x\", instance=\"h:1\", job=\"ours\"} 1@1000"
        ]
    );
    let mut bench = Bench::new(&[("job", "ours"), ("instance", "h:1"), ("env", "e")]);
    bench.settings.honor.labels = true;
    bench.scrape(text);
    assert_eq!(
        bench.series(),
        ["{__name__=\"a\", env=\"e\", exported_job=\"x\", job=\"mine\"} 1@1000"]
    );
    let reports: Vec<_> = bench
        .db
        .dump()
        .into_keys()
        .filter(|labels| labels.contains("\"up\""))
        .collect();
    assert_eq!(
        reports,
        ["{__name__=\"up\", env=\"e\", instance=\"h:1\", job=\"ours\"}"]
    );
}

#[test]
fn timestamps_of_the_target_count_unless_told_otherwise() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1 400\nb 1\n");
    bench.scrape("b 2\n");
    // Series with times of their own are not watched for disappearance.
    assert_eq!(
        bench.series(),
        ["{__name__=\"a\"} 1@400", "{__name__=\"b\"} 1@1000 2@2000"]
    );
    let mut bench = Bench::new(&[]);
    bench.settings.honor.track_timestamps_staleness = true;
    bench.scrape("a 1 400\n");
    bench.scrape("b 2\n");
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@400 stale@2000",
            "{__name__=\"b\"} 2@2000"
        ]
    );
    let mut bench = Bench::new(&[]);
    bench.settings.honor.timestamps = false;
    bench.scrape("a 1 400\n");
    bench.scrape("");
    assert_eq!(bench.series(), ["{__name__=\"a\"} 1@1000 stale@2000"]);
}

#[test]
fn refused_samples_are_counted_and_the_scrape_is_good() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1 900\n");
    // Ten minutes ahead is too far; older than the newest is out of order; another value at its time a duplicate.
    let ahead = 2_000 + 600_001;
    let text = format!("far 1 {ahead}\na 2 800\na 3 900\nb 1\nb 2\n");
    let ingested = bench.scrape(&text);
    assert_eq!(ingested.error, None);
    assert_eq!(bench.counters.out_of_bounds.get(), 1);
    assert_eq!(bench.counters.out_of_order.get(), 1);
    assert_eq!(bench.counters.duplicates.get(), 2);
    assert_eq!(
        bench.series(),
        ["{__name__=\"a\"} 1@900", "{__name__=\"b\"} 1@2000"]
    );
    assert_eq!(ingested.n_scraped, 5);
}

#[test]
fn too_many_samples_fail_the_scrape_and_are_counted_to_the_end() {
    let mut bench = Bench::new(&[]);
    bench.settings.limits.samples = NonZeroUsize::new(2);
    assert_eq!(bench.scrape("a 1\nb 1\n").error, None);
    let ingested = bench.scrape("a 2\nb 2\nc 2\nd 2\n");
    assert_eq!(ingested.error, Some(ScrapeError::SampleLimit));
    assert_eq!((ingested.n_scraped, ingested.n_added), (4, 4));
    assert_eq!(bench.counters.sample_limit_exceeded.get(), 1);
    assert_eq!(bench.report("up"), ["1", "0"]);
    assert_eq!(
        bench.series(),
        [
            "{__name__=\"a\"} 1@1000 stale@2000",
            "{__name__=\"b\"} 1@1000 stale@2000"
        ]
    );
}

#[test]
fn label_limits_speak_prometheus_words() {
    let text = "abc{first=\"value\"} 1\n";
    for (limit, expect) in [
        (
            0,
            "label_limit exceeded (metric: abc, number of labels: 2, limit: 1)",
        ),
        (
            1,
            "label_name_length_limit exceeded (metric: abc, label name: __name__, length: 8, limit: 4)",
        ),
        (
            2,
            "label_value_length_limit exceeded (metric: abc, label name: first, value: \"value\", length: 5, limit: 4)",
        ),
    ] {
        let mut bench = Bench::new(&[]);
        let limits = &mut bench.settings.limits;
        match limit {
            0 => limits.labels = NonZeroUsize::new(1),
            1 => limits.label_name_bytes = NonZeroUsize::new(4),
            _ => limits.label_value_bytes = NonZeroUsize::new(4),
        }
        let error = bench.scrape(text).error.unwrap();
        assert_eq!(error.to_string(), expect);
        assert_eq!(bench.report("up"), ["0"]);
        assert_eq!(bench.counters.label_limits_exceeded.get(), 1);
    }
}

#[test]
fn names_that_are_not_allowed_fail_the_scrape() {
    let text = "{\"a.b\",\"x y\"=\"z\"} 1\n";
    assert_eq!(Bench::new(&[]).scrape(text).error, None);
    let mut bench = Bench::new(&[]);
    bench.settings.legacy_names = true;
    assert!(matches!(
        bench.scrape(text).error,
        Some(ScrapeError::Names(_))
    ));
    let mut bench = Bench::new(&[]);
    let nameless = RelabelSettings {
        action: Some(RelabelAction::LabelDrop),
        regex: Some("__name__".to_owned()),
        ..RelabelSettings::default()
    };
    bench.settings.metric_relabel = vec![RelabelRule::new(nameless).unwrap()];
    assert_eq!(
        bench.scrape("a{b=\"c\"} 1\n").error,
        Some(ScrapeError::NoName)
    );
    let twice = Bench::new(&[]).scrape("a{b=\"c\",b=\"d\"} 1\n").error;
    assert!(matches!(twice, Some(ScrapeError::Labels(_))), "{twice:?}");
}

#[test]
fn a_closed_database_fails_the_scrape() {
    let mut bench = Bench::new(&[]);
    bench.scrape("a 1\n");
    bench
        .db
        .fail(Some(AppendError::Closed("on purpose".to_owned())));
    let error = bench.scrape("a 2\n").error;
    assert!(matches!(error, Some(ScrapeError::Append(_))), "{error:?}");
    bench.db.fail(None);
    assert_eq!(bench.scrape("a 3\n").error, None);
    assert_eq!(bench.series(), ["{__name__=\"a\"} 1@1000 3@3000"]);
}

#[test]
fn the_database_of_these_tests_keeps_histograms_and_exemplars() {
    let db = MemoryDb::new();
    let labels = Labels::new(&[("__name__", "a")]).unwrap();
    let exemplar = Exemplar {
        labels: labels.clone(),
        v: 1.0,
        t: 1000,
        has_own_time: false,
    };
    let mut appender = db.appender();
    let series = appender.append_labels(&labels, 1000, 1.0).unwrap();
    for (t, start_t, counts, histogram) in [
        (2000, 0, Counts::Whole, Histogram::default()),
        (3000, 500, Counts::Float, Histogram::default()),
        (4000, 0, Counts::Whole, Histogram::stale()),
    ] {
        let at = SampleTime { t, start_t };
        let appended = appender.append_histogram(series, at, counts, &Arc::new(histogram));
        assert_eq!(appended, Ok(()));
    }
    appender.exemplar(series, &exemplar).unwrap();
    appender.commit().unwrap();
    let shown = db.values(r#"{__name__="a"}"#);
    assert_eq!(
        shown,
        [
            "1",
            "{count:0, sum:0}",
            "float {count:0, sum:0} since 500",
            "stale histogram"
        ]
    );
    assert_eq!(db.exemplars(), [(r#"{__name__="a"}"#.to_owned(), exemplar)]);
}
