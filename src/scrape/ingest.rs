//! One exposition into one transaction.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::exposition::{Entry, LabelBuffer, MediaType, Parser, ParserOptions};
use crate::model::{Label, Labels, LabelsBuilder, METRIC_NAME, TimestampMs, stale_nan};
use crate::relabel;
use crate::scrape::cache::{Known, SeriesCache, Slot};
use crate::scrape::counters::ScrapeCounters;
use crate::scrape::error::ScrapeError;
use crate::scrape::limits::check_label_limits;
use crate::scrape::metadata::MetadataStore;
use crate::scrape::report::{Report, ReportSeries};
use crate::scrape::sample::{Sample, Value, append_exemplars};
use crate::scrape::settings::{IngestSettings, StartTimes};
use crate::scrape::target::{Target, has_valid_names};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// What one scrape brought.
#[derive(Debug)]
pub(super) struct Scraped<'a> {
    pub(super) target: &'a Target,
    pub(super) settings: &'a IngestSettings,
    /// The exposition, or why there is none.
    pub(super) body: Result<(&'a [u8], MediaType), ScrapeError>,
    /// The time of every sample that has none of its own.
    pub(super) t: TimestampMs,
    /// The clock, for the guard against the future.
    pub(super) now_ms: i64,
    /// How long the request took.
    pub(super) duration_seconds: f64,
}

impl Scraped<'_> {
    fn format(&self) -> Option<MediaType> {
        let (_, media_type) = self.body.as_ref().ok()?;
        Some(*media_type)
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Ingested {
    /// Why the scrape counts as failed.
    pub(super) error: Option<ScrapeError>,
    /// Samples in the exposition.
    pub(super) n_scraped: usize,
    /// Samples that relabelling left.
    pub(super) n_added: usize,
    /// Series that were not known before.
    pub(super) n_series_added: usize,
}

/// Everything about a target that lasts from scrape to scrape.
pub(super) struct Ingest {
    appendable: Arc<dyn Appendable>,
    counters: Arc<ScrapeCounters>,
    metadata: Arc<Mutex<MetadataStore>>,
    cache: SeriesCache,
    labels: LabelBuffer,
    reports: ReportSeries,
    /// The format of the last scrape, if that succeeded: every text of the cache was then read in it.
    known_format: Option<MediaType>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").finish_non_exhaustive()
    }
}

impl Ingest {
    pub(super) fn new(
        appendable: Arc<dyn Appendable>,
        counters: Arc<ScrapeCounters>,
        metadata: Arc<Mutex<MetadataStore>>,
    ) -> Self {
        Self {
            appendable,
            counters,
            metadata,
            cache: SeriesCache::default(),
            labels: LabelBuffer::new(),
            reports: ReportSeries::default(),
            known_format: None,
        }
    }

    /// Appends the samples, the stale markers and the report of one scrape in one transaction.
    pub(super) fn run(&mut self, scraped: &Scraped<'_>) -> Ingested {
        let appendable = Arc::clone(&self.appendable);
        let mut appender = appendable.appender();
        let mut ingested = Ingested::default();
        self.cache.begin();
        let result = match &scraped.body {
            Ok((body, media_type)) => {
                let options = ParserOptions {
                    histograms: scraped.target.histograms,
                    start_timestamps: scraped.settings.start_times != StartTimes::Ignore,
                };
                let parser = Parser::new(body, *media_type, options);
                self.append_all(appender.as_mut(), parser, scraped, &mut ingested)
            }
            Err(error) => Err(error.clone()),
        };
        self.known_format = None;
        let stale = match result {
            Ok(()) => {
                self.known_format = scraped.format();
                self.cache.finish()
            }
            Err(error) => {
                if scraped.body.is_ok() {
                    appender.rollback();
                    appender = appendable.appender();
                }
                ingested.error = Some(error);
                let (stale, is_flushed) = self.cache.abandon();
                self.counters.cache_flushes.add(u64::from(is_flushed));
                stale
            }
        };
        self.append_markers(appender.as_mut(), &stale, scraped.t);
        let report = Report::of(scraped, &ingested);
        self.reports
            .append(appender.as_mut(), scraped.target, &report, scraped.t);
        if let Err(error) = appender.commit() {
            ingested.error.get_or_insert(error.into());
        }
        self.metadata.lock().expire(self.cache.scrape());
        self.count(&ingested);
        ingested
    }

    /// The target is gone: ends every series of it, its reports too.
    pub(super) fn end(&mut self, target: &Target, t: TimestampMs) {
        let appendable = Arc::clone(&self.appendable);
        let mut appender = appendable.appender();
        let (stale, _) = self.cache.abandon();
        self.append_markers(appender.as_mut(), &stale, t);
        appender.discard_out_of_order(true);
        self.reports
            .append(appender.as_mut(), target, &Report::ended(), t);
        if let Err(error) = appender.commit() {
            tracing::warn!(error = %error, "stale markers of a removed target were lost");
        }
    }

    /// Other rules hold from now on.
    pub(super) fn forget_texts(&mut self) {
        self.cache.forget_texts();
    }

    fn append_all(
        &mut self,
        appender: &mut dyn Appender,
        mut parser: Parser<'_>,
        scraped: &Scraped<'_>,
        ingested: &mut Ingested,
    ) -> Result<(), ScrapeError> {
        let metadata = Arc::clone(&self.metadata);
        let mut metadata = metadata.lock();
        let settings = scraped.settings;
        let limit = settings.limits.samples;
        let (mut n_samples, mut has_too_many_buckets) = (0, false);
        let mut coming = Vec::new();
        let keeps_format = self.known_format == scraped.format();
        loop {
            if self.cache.announce(&mut coming) {
                appender.expect(&coming);
            }
            let known = if keeps_format {
                self.cache.next_text()
            } else {
                ""
            };
            let (value, t, fits) = match parser.next_entry_like(known)? {
                None => break,
                Some(Entry::Series(line)) => (Value::Float(line.v), line.t, true),
                Some(Entry::Histogram(line)) => {
                    let (value, fits) = Value::of_histogram(*line.sample, &settings.histograms);
                    (value, line.t, fits)
                }
                Some(entry) => {
                    metadata.note(&entry, self.cache.scrape());
                    continue;
                }
            };
            ingested.n_scraped += 1;
            let found = match self.cache.find(parser.text()) {
                Some((_, Known::Dropped, _)) => continue,
                Some((slot, Known::Series(series), again)) => Ok((slot, series, again)),
                None => match self.labels_of(&parser, scraped)? {
                    Some(labels) => Err(labels),
                    None => {
                        self.cache.insert(parser.text(), Known::Dropped);
                        continue;
                    }
                },
            };
            n_samples += 1;
            ingested.n_added += 1;
            has_too_many_buckets |= !fits;
            let is_over = limit.is_some_and(|limit| limit.get() < n_samples);
            let sample = sample_of(&mut parser, (value, t), settings);
            let slot = match found {
                Ok((slot, series, again)) => {
                    if fits && !is_over {
                        let known = (slot, series, again);
                        self.append_known(known, appender, (&mut parser, &sample), scraped)?;
                    }
                    slot
                }
                Err(_) if is_over || !fits => continue,
                Err(labels) => {
                    let series = appender.series(labels.key(), &mut || Ok(labels.clone()))?;
                    let slot = self.cache.insert(parser.text(), Known::Series(series));
                    let is_new =
                        self.append_one(series, appender, (&mut parser, &sample), scraped)?;
                    ingested.n_series_added += usize::from(is_new);
                    slot
                }
            };
            if settings.honor.track_timestamps_staleness || sample.own_t.is_none() {
                self.cache.track(slot);
            }
        }
        let has_too_many = limit.is_some_and(|limit| limit.get() < n_samples);
        self.judge(has_too_many, has_too_many_buckets)
    }

    /// Limits are judged at the end, so that the report tells how much there was.
    fn judge(&self, has_too_many: bool, has_too_many_buckets: bool) -> Result<(), ScrapeError> {
        if has_too_many_buckets {
            self.counters.bucket_limit_exceeded.increment();
        }
        if has_too_many {
            self.counters.sample_limit_exceeded.increment();
            return Err(ScrapeError::SampleLimit);
        }
        if has_too_many_buckets {
            return Err(ScrapeError::BucketLimit);
        }
        Ok(())
    }

    /// Appends to a series whose reference was known from an earlier scrape.
    #[inline]
    fn append_known(
        &mut self,
        (slot, series, again): (Slot, SeriesRef, bool),
        appender: &mut dyn Appender,
        (parser, sample): (&mut Parser<'_>, &Sample),
        scraped: &Scraped<'_>,
    ) -> Result<(), ScrapeError> {
        if again && sample.own_t.is_none() {
            self.counters.duplicates.increment();
            return Ok(());
        }
        match self.append_one(series, appender, (parser, sample), scraped) {
            Err(AppendError::UnknownSeries) => {
                // The database dropped the series meanwhile; the labels are asked for once more.
                let Some(labels) = self.labels_of(parser, scraped)? else {
                    return Ok(());
                };
                let series = appender.series(labels.key(), &mut || Ok(labels.clone()))?;
                self.cache.set_series(slot, series);
                self.append_one(series, appender, (parser, sample), scraped)?;
            }
            result => {
                result?;
            }
        }
        Ok(())
    }

    /// Appends a sample and its exemplars; true when the sample was taken.
    #[inline]
    fn append_one(
        &self,
        series: SeriesRef,
        appender: &mut dyn Appender,
        (parser, sample): (&mut Parser<'_>, &Sample),
        scraped: &Scraped<'_>,
    ) -> Result<bool, AppendError> {
        let is_taken = self.count_refusal(sample.append(appender, series, scraped))?;
        if is_taken {
            let counters = &self.counters;
            append_exemplars(appender, series, parser, (sample, scraped), counters);
        }
        Ok(is_taken)
    }

    /// Counts a refused sample; what concerns more than the sample is passed on. True when it was taken.
    #[inline]
    fn count_refusal(&self, result: Result<(), AppendError>) -> Result<bool, AppendError> {
        let count = match result {
            Ok(()) => return Ok(true),
            Err(AppendError::OutOfOrder { .. }) => &self.counters.out_of_order,
            Err(AppendError::Duplicate) => &self.counters.duplicates,
            Err(
                AppendError::OutOfBounds { .. }
                | AppendError::TooOld { .. }
                | AppendError::TooFarAhead { .. },
            ) => &self.counters.out_of_bounds,
            Err(error) => return Err(error),
        };
        count.increment();
        Ok(false)
    }

    /// The final labels of the line the parser yielded last; `None` when rules drop it.
    fn labels_of(
        &mut self,
        parser: &Parser<'_>,
        scraped: &Scraped<'_>,
    ) -> Result<Option<Labels>, ScrapeError> {
        self.labels.clear();
        parser.labels(&mut self.labels);
        if let Some(name) = self.labels.duplicate() {
            return Err(crate::model::LabelsError::Duplicate(name.to_owned()).into());
        }
        let settings = scraped.settings;
        let Some(labels) = merged(&self.labels, &scraped.target.labels, settings)? else {
            return Ok(None);
        };
        if labels.metric_name().is_empty() {
            return Err(ScrapeError::NoName);
        }
        if !has_valid_names(&labels, settings.legacy_names) {
            return Err(ScrapeError::Names(labels.to_string()));
        }
        if let Err(text) = check_label_limits(&labels, &settings.limits) {
            self.counters.label_limits_exceeded.increment();
            return Err(ScrapeError::LabelLimit(text));
        }
        Ok(Some(labels))
    }

    fn append_markers(&self, appender: &mut dyn Appender, stale: &[SeriesRef], t: TimestampMs) {
        // A series that was dropped or written by a newer scrape needs no marker.
        appender.discard_out_of_order(true);
        for series in stale {
            if appender.append(*series, t, stale_nan()).is_ok() {
                self.counters.stale_markers.increment();
            }
        }
        appender.discard_out_of_order(false);
    }

    fn count(&self, ingested: &Ingested) {
        self.counters.scrapes.increment();
        let Some(error) = &ingested.error else {
            let n = u64::try_from(ingested.n_added).unwrap_or(u64::MAX);
            self.counters.samples.add(n);
            return;
        };
        self.counters.failed_scrapes.increment();
        if *error == ScrapeError::Fetch(crate::scrape::client::FetchError::BodySize) {
            self.counters.body_size_exceeded.increment();
        }
    }
}

/// The value that `parser` yielded last, with the times that count.
#[inline]
fn sample_of(
    parser: &mut Parser<'_>,
    (value, t): (Value, Option<TimestampMs>),
    settings: &IngestSettings,
) -> Sample {
    let mut sample = Sample {
        value,
        own_t: t.filter(|_| settings.honor.timestamps),
        start_t: 0,
    };
    if settings.start_times != StartTimes::Ignore {
        sample.start_t = parser.start_timestamp().unwrap_or(0);
    }
    sample
}

/// Scraped labels and target labels together, relabelled; `None` when a rule drops them.
fn merged(
    scraped: &LabelBuffer,
    target: &Labels,
    settings: &IngestSettings,
) -> Result<Option<Labels>, ScrapeError> {
    let collides = target
        .iter()
        .any(|(name, _)| scraped.iter().any(|(here, _)| here == name));
    if settings.metric_relabel.is_empty() && !collides {
        let mut pairs: Vec<Label<'_>> = scraped.iter().chain(target).collect();
        pairs.sort_unstable_by_key(|(name, _)| *name);
        return Ok(Some(Labels::from_sorted(&pairs)?));
    }
    let mut builder = LabelsBuilder::new();
    for (name, value) in scraped.iter() {
        builder.set(name, value);
    }
    let mut conflicts = Vec::new();
    for (name, value) in target {
        let has_it = scraped.iter().any(|(here, _)| here == name);
        if settings.honor.labels {
            if !has_it {
                builder.set(name, value);
            }
            continue;
        }
        let theirs = scraped.value(name);
        if !theirs.is_empty() {
            conflicts.push((name, theirs));
        }
        builder.set(name, value);
    }
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut renamed = format!("exported_{name}");
        while !builder.get(&renamed).is_empty() {
            renamed.insert_str(0, "exported_");
        }
        builder.set(&renamed, value);
    }
    if !relabel::apply(&settings.metric_relabel, &mut builder) {
        return Ok(None);
    }
    let labels = builder.build()?;
    Ok((!labels.is_empty()).then_some(labels))
}

/// The labels of a series we write about a target.
pub(super) fn report_labels(name: &str, target: &Labels) -> Labels {
    let mut builder = target.to_builder();
    builder.set(METRIC_NAME, name);
    builder.build().unwrap_or_default()
}
