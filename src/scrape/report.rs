//! The series we write about every scrape.

use crate::model::{Labels, SeriesKey, TimestampMs, stale_nan};
use crate::scrape::client::FetchError;
use crate::scrape::error::ScrapeError;
use crate::scrape::ingest::{Ingested, Scraped, report_labels};
use crate::scrape::target::Target;
use crate::storage::{AppendError, Appender, SeriesRef};

const NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
const EXTRA_NAMES: [&str; 3] = [
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// Values of the report series, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    values: [f64; 5],
    extra: Option<[f64; 3]>,
}

impl Report {
    /// The report about one scrape.
    pub(super) fn of(scraped: &Scraped<'_>, ingested: &Ingested) -> Self {
        let is_up = ingested.error.is_none();
        let values = [
            f64::from(u8::from(is_up)),
            scraped.duration_seconds,
            as_f64(ingested.n_scraped),
            as_f64(ingested.n_added),
            as_f64(ingested.n_series_added),
        ];
        let body_bytes = match &scraped.body {
            Ok((body, _)) => as_f64(body.len()),
            Err(ScrapeError::Fetch(FetchError::BodySize)) => -1.0,
            Err(_) => 0.0,
        };
        let limit = scraped.settings.limits.samples;
        let extra = [
            as_f64(usize::try_from(scraped.target.timeout_ms).unwrap_or(0)) / 1000.0,
            limit.map_or(0.0, |limit| as_f64(limit.get())),
            body_bytes,
        ];
        Self {
            values,
            extra: scraped.settings.extra_metrics.then_some(extra),
        }
    }

    /// The end of all report series.
    pub(super) fn ended() -> Self {
        Self {
            values: [stale_nan(); 5],
            extra: Some([stale_nan(); 3]),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one scrape stay far below 2^53"
)]
fn as_f64(n: usize) -> f64 {
    n as f64
}

/// The report series of one target, found once.
#[derive(Debug, Default)]
pub(super) struct ReportSeries {
    series: Vec<One>,
}

#[derive(Debug)]
struct One {
    name: &'static str,
    labels: Labels,
    key: SeriesKey,
    series: Option<SeriesRef>,
}

impl ReportSeries {
    /// Appends `report`. A sample that a newer one forestalled is not worth a word.
    pub(super) fn append(
        &mut self,
        appender: &mut dyn Appender,
        target: &Target,
        report: &Report,
        t: TimestampMs,
    ) {
        let is_end = report
            .extra
            .is_some_and(|extra| extra.iter().all(|v| v.is_nan()));
        let extra = report.extra.unwrap_or_default();
        let n_extra = if report.extra.is_some() {
            EXTRA_NAMES.len()
        } else {
            0
        };
        let values = report.values.iter().chain(extra.iter().take(n_extra));
        for (name, v) in NAMES.iter().chain(&EXTRA_NAMES).zip(values) {
            if is_end && !self.series.iter().any(|one| one.name == *name) {
                continue;
            }
            match self.append_one(appender, target, name, (t, *v)) {
                Ok(())
                | Err(
                    AppendError::OutOfOrder { .. }
                    | AppendError::OutOfBounds { .. }
                    | AppendError::Duplicate,
                ) => (),
                Err(error) => {
                    tracing::warn!(series = *name, error = %error, "sample about a scrape was lost");
                }
            }
        }
    }

    fn append_one(
        &mut self,
        appender: &mut dyn Appender,
        target: &Target,
        name: &'static str,
        (t, v): (TimestampMs, f64),
    ) -> Result<(), AppendError> {
        let at = match self.series.iter().position(|one| one.name == name) {
            Some(at) => at,
            None => {
                let labels = report_labels(name, &target.labels);
                let key = labels.key();
                self.series.push(One {
                    name,
                    labels,
                    key,
                    series: None,
                });
                self.series.len() - 1
            }
        };
        let Some(one) = self.series.get_mut(at) else {
            return Ok(());
        };
        if let Some(series) = one.series {
            match appender.append(series, t, v) {
                Err(AppendError::UnknownSeries) => (),
                result => return result,
            }
        }
        let series = appender.series(one.key, &mut || Ok(one.labels.clone()))?;
        one.series = Some(series);
        appender.append(series, t, v)
    }
}
