//! One sample of an exposition on its way into a transaction.

use std::sync::Arc;

use crate::exposition::{self, HistogramSample, Parser};
use crate::model::histogram::EXPONENTIAL_SCHEMA_MIN;
use crate::model::{CUSTOM_BUCKETS_SCHEMA, Counts, Exemplar, Histogram, SampleTime, TimestampMs};
use crate::scrape::counters::ScrapeCounters;
use crate::scrape::ingest::Scraped;
use crate::scrape::settings::{HistogramSettings, StartTimes};
use crate::storage::{AppendError, Appender, SeriesRef};

/// Timestamps of a target may be this far ahead of our clock.
const FUTURE_MS_MAX: i64 = 10 * 60_000;

/// A value and its times.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) value: Value,
    /// What the target said, if that is to be believed.
    pub(super) own_t: Option<TimestampMs>,
    /// When its counting began; zero is unknown.
    pub(super) start_t: TimestampMs,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Float(f64),
    Histogram(Counts, Arc<Histogram>),
}

impl Sample {
    /// Its time, and whether that is too far ahead.
    fn time(&self, scraped: &Scraped<'_>) -> Result<TimestampMs, AppendError> {
        let t = self.own_t.unwrap_or(scraped.t);
        let newest = scraped.now_ms.saturating_add(FUTURE_MS_MAX);
        if newest < t {
            return Err(AppendError::TooFarAhead { newest });
        }
        Ok(t)
    }

    /// Stages the sample.
    #[inline]
    pub(super) fn append(
        &self,
        appender: &mut dyn Appender,
        series: SeriesRef,
        scraped: &Scraped<'_>,
    ) -> Result<(), AppendError> {
        let t = self.time(scraped)?;
        let mut start_t = self.start_t;
        if start_t != 0 && scraped.settings.start_times == StartTimes::Zero {
            self.append_start(appender, series, t)?;
            start_t = 0;
        }
        let at = SampleTime { t, start_t };
        match &self.value {
            Value::Float(v) => appender.append_at(series, at, *v),
            Value::Histogram(counts, histogram) => {
                appender.append_histogram(series, at, *counts, histogram)
            }
        }
    }

    /// Stages a zero where the counting began. A start that is not news is refused as out of order, as it should be.
    fn append_start(
        &self,
        appender: &mut dyn Appender,
        series: SeriesRef,
        t: TimestampMs,
    ) -> Result<(), AppendError> {
        if t <= self.start_t {
            return Ok(());
        }
        let at = SampleTime::from(self.start_t);
        appender.discard_out_of_order(true);
        let appended = match &self.value {
            Value::Float(_) => appender.append_at(series, at, 0.0),
            Value::Histogram(counts, histogram) => {
                let zero = Histogram {
                    schema: histogram.schema,
                    zero_threshold: histogram.zero_threshold,
                    custom_bounds: Arc::clone(&histogram.custom_bounds),
                    ..Histogram::default()
                };
                appender.append_histogram(series, at, *counts, &Arc::new(zero))
            }
        };
        appender.discard_out_of_order(false);
        match appended {
            Err(AppendError::UnknownSeries) => Err(AppendError::UnknownSeries),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Value {
    /// Makes a histogram as coarse as settings want it; false when it has too many buckets even so.
    pub(super) fn of_histogram(
        sample: HistogramSample,
        settings: &HistogramSettings,
    ) -> (Self, bool) {
        let HistogramSample {
            mut histogram,
            counts,
        } = sample;
        let is_exponential = histogram.schema != CUSTOM_BUCKETS_SCHEMA;
        if is_exponential && settings.schema_max < histogram.schema {
            histogram.reduce_to(settings.schema_max);
        }
        let mut fits = true;
        if let Some(limit) = settings.buckets_max {
            let is_over = |histogram: &Histogram| {
                limit.get() < histogram.positive.counts.len() + histogram.negative.counts.len()
            };
            while is_over(&histogram) {
                if !is_exponential || histogram.schema <= EXPONENTIAL_SCHEMA_MIN {
                    fits = false;
                    break;
                }
                histogram.reduce_to(histogram.schema - 1);
            }
        }
        (Self::Histogram(counts, Arc::new(histogram)), fits)
    }

    fn is_histogram(&self) -> bool {
        matches!(self, Self::Histogram(..))
    }
}

/// Stages the exemplars of the sample that was parsed last. Those of native histograms have to say their time: without
/// one, nobody can tell an exemplar that is repeated from a new one.
pub(super) fn append_exemplars(
    appender: &mut dyn Appender,
    series: SeriesRef,
    parser: &mut Parser<'_>,
    (sample, scraped): (&Sample, &Scraped<'_>),
    counters: &ScrapeCounters,
) {
    let mut found: Vec<Exemplar> = Vec::new();
    let mut buffer = exposition::Exemplar::default();
    while parser.next_exemplar(&mut buffer) {
        if buffer.t.is_none() && sample.value.is_histogram() {
            continue;
        }
        let Ok(labels) = buffer.labels.to_labels() else {
            continue;
        };
        found.push(Exemplar {
            labels,
            v: buffer.v,
            t: buffer.t.unwrap_or(sample.own_t.unwrap_or(scraped.t)),
            has_own_time: buffer.t.is_some(),
        });
    }
    if found.is_empty() {
        return;
    }
    found.sort_by(|left, right| {
        left.t
            .cmp(&right.t)
            .then_with(|| left.v.total_cmp(&right.v))
            .then_with(|| left.labels.iter().cmp(right.labels.iter()))
    });
    let newest = scraped.now_ms.saturating_add(FUTURE_MS_MAX);
    let mut n_late = 0;
    for exemplar in &found {
        if newest < exemplar.t {
            continue;
        }
        match appender.exemplar(series, exemplar) {
            Err(AppendError::OutOfOrderExemplar { .. }) => n_late += 1,
            Err(error) => tracing::debug!(error = %error, "an exemplar was not taken"),
            Ok(()) => (),
        }
    }
    // Some of a set are known from the scrape before; only a set without news is worth counting.
    if n_late == found.len() {
        counters
            .exemplars_out_of_order
            .add(u64::try_from(n_late).unwrap_or(u64::MAX));
    }
}
