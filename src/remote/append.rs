//! A request into the head: what is taken, what is refused and in which words.

use std::fmt;

use thiserror::Error;

use crate::foundation::proto::ProtoError;
use crate::foundation::verdict::Verdict;
use crate::model::{Label, Labels, METRIC_NAME, Metadata, SeriesKey, TimestampMs};
use crate::remote::read::{MetadataMessage, RequestItem, RequestReader, SeriesReader};
use crate::remote::snappy::{SnappyError, decompress};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// Samples further ahead of the clock than this are out of bounds, as in Prometheus.
pub const FUTURE_MS_MAX: i64 = 10 * 60 * 1000;

/// Labels of a refused series that are shown; the rest of a longer text is cut.
const SHOWN_BYTES_MAX: usize = 1024;

/// Bounds of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteLimits {
    /// Bytes of the request once it is decompressed.
    pub decoded_bytes_max: usize,
    /// The clock, against which the future is measured.
    pub now_ms: TimestampMs,
}

/// Why nothing of a request was taken.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The compression.
    #[error(transparent)]
    Snappy(#[from] SnappyError),
    /// The message.
    #[error(transparent)]
    Proto(#[from] ProtoError),
    /// The storage, which could not go on.
    #[error(transparent)]
    Storage(AppendError),
}

impl WriteError {
    /// Malformed requests are never sent again; the storage may recover.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Snappy(_) | Self::Proto(_) => Verdict::Refuse,
            Self::Storage(_) => Verdict::RetryAfter(std::time::Duration::from_secs(5)),
        }
    }
}

/// Why a sample or a series was not taken while the rest of the request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// Older than the newest sample of its series.
    OutOfOrder,
    /// Too far in the past or the future.
    OutOfBounds,
    /// Older than the out-of-order window.
    TooOld,
    /// Another value at the time of a sample that is there.
    Duplicate,
    /// The labels are no label set with a metric name.
    InvalidLabels,
}

/// The first sample that was refused for one reason, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub kind: RefusalKind,
    /// In words.
    pub text: String,
    /// Labels of the first series it happened to.
    pub series: String,
    /// Time of the first sample it happened to; `None` when it was the series itself.
    pub t: Option<TimestampMs>,
    /// Samples, or series, it happened to.
    pub count: u64,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: series {}", self.text, self.series)?;
        if let Some(t) = self.t {
            write!(f, ", timestamp {t}")?;
        }
        match self.count {
            1 => Ok(()),
            count => write!(f, " (and {} more)", count - 1),
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteReport {
    /// Series of which samples were taken.
    pub n_series: u64,
    /// Samples taken.
    pub n_samples: u64,
    /// Metadata that was noted with a series of the request.
    pub n_metadata: u64,
    /// Metadata of families that no series of the request belongs to.
    pub n_metadata_unmatched: u64,
    /// Native histograms, which are not stored.
    pub n_histograms_skipped: u64,
    /// Exemplars, which are not stored.
    pub n_exemplars_skipped: u64,
    /// The first refusal of each kind.
    pub refusals: Vec<Refusal>,
}

impl WriteReport {
    /// One line for each kind of thing that was left out although nothing was wrong with it.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (count, what) in [
            (self.n_histograms_skipped, "native histograms"),
            (self.n_exemplars_skipped, "exemplars"),
        ] {
            if count > 0 {
                notes.push(format!("{count} {what} were skipped: they are not stored"));
            }
        }
        notes
    }

    fn refuse(
        &mut self,
        kind: RefusalKind,
        text: String,
        labels: &[Label<'_>],
        t: Option<TimestampMs>,
    ) {
        if let Some(refusal) = self.refusals.iter_mut().find(|here| here.kind == kind) {
            refusal.count += 1;
            return;
        }
        let refusal = Refusal {
            kind,
            text,
            series: shown(labels),
            t,
            count: 1,
        };
        self.refusals.push(refusal);
    }
}

/// Decompresses `body` into `scratch`, reads it, and appends its floats in one transaction.
///
/// Refused samples and series are reported and the rest is committed; when the storage cannot go on, nothing is.
/// A known series costs no allocation, nor does any sample.
pub fn append_write_request(
    body: &[u8],
    limits: WriteLimits,
    storage: &dyn Appendable,
    scratch: &mut Vec<u8>,
) -> Result<WriteReport, WriteError> {
    decompress(body, limits.decoded_bytes_max, scratch)?;
    let request: &[u8] = scratch;
    let metadata = collect_metadata(request)?;
    let mut appender = storage.appender();
    let mut writer = Writer {
        appender: appender.as_mut(),
        newest_t: limits.now_ms.saturating_add(FUTURE_MS_MAX),
        metadata,
        report: WriteReport::default(),
    };
    let written = writer.write(request);
    let mut report = writer.report;
    let is_matched = |entry: &&MetadataEntry<'_>| entry.is_matched;
    report.n_metadata = writer.metadata.iter().filter(is_matched).count() as u64;
    report.n_metadata_unmatched = writer.metadata.len() as u64 - report.n_metadata;
    if let Err(error) = written {
        appender.rollback();
        return Err(error);
    }
    appender.commit().map_err(WriteError::Storage)?;
    Ok(report)
}

struct MetadataEntry<'a> {
    message: MetadataMessage<'a>,
    is_matched: bool,
}

/// Senders put metadata behind the series, so it is looked for first; sorted by family.
fn collect_metadata(request: &[u8]) -> Result<Vec<MetadataEntry<'_>>, ProtoError> {
    let mut reader = RequestReader::new(request);
    let mut out = Vec::new();
    while let Some(item) = reader.next_item()? {
        if let RequestItem::Metadata(message) = item {
            out.push(MetadataEntry {
                message,
                is_matched: false,
            });
        }
    }
    out.sort_by_key(|entry| entry.message.family);
    Ok(out)
}

struct Writer<'a, 'b> {
    appender: &'a mut (dyn Appender + 'a),
    newest_t: TimestampMs,
    metadata: Vec<MetadataEntry<'b>>,
    report: WriteReport,
}

impl<'b> Writer<'_, 'b> {
    fn write(&mut self, request: &'b [u8]) -> Result<(), WriteError> {
        let mut reader = RequestReader::new(request);
        let mut labels: Vec<Label<'b>> = Vec::with_capacity(32);
        while let Some(item) = reader.next_item()? {
            if let RequestItem::Series(mut series) = item {
                self.write_series(&mut series, &mut labels)?;
            }
        }
        Ok(())
    }

    fn write_series(
        &mut self,
        series: &mut SeriesReader<'b>,
        labels: &mut Vec<Label<'b>>,
    ) -> Result<(), WriteError> {
        let extras = series.labels(labels)?;
        self.report.n_histograms_skipped += extras.n_histograms;
        self.report.n_exemplars_skipped += extras.n_exemplars;
        let problem = if extras.has_bad_text {
            Some("invalid labels: a name or value is not valid UTF-8".to_owned())
        } else {
            arrange(labels)
        };
        if let Some(text) = problem {
            self.report
                .refuse(RefusalKind::InvalidLabels, text, labels, None);
            return Ok(());
        }
        let mut reference: Option<SeriesRef> = None;
        let mut n_taken = 0u64;
        let outcome = series.samples(|t, v| {
            let appended = self.append_one(&mut reference, labels, t, v);
            n_taken += u64::from(appended == Ok(()));
            match appended {
                Ok(()) => Ok(()),
                Err(error) => self.sort_out(error, labels, t),
            }
        });
        self.report.n_samples += n_taken;
        self.report.n_series += u64::from(n_taken > 0);
        outcome?;
        match reference {
            Some(reference) if !self.metadata.is_empty() => self.note_metadata(reference, labels),
            _ => Ok(()),
        }
    }

    fn append_one(
        &mut self,
        reference: &mut Option<SeriesRef>,
        labels: &[Label<'b>],
        t: TimestampMs,
        v: f64,
    ) -> Result<(), AppendError> {
        if self.newest_t < t {
            return Err(AppendError::TooFarAhead {
                newest: self.newest_t,
            });
        }
        let series = match *reference {
            Some(series) => series,
            None => {
                let key = SeriesKey::of(labels.iter().copied());
                let found = self
                    .appender
                    .series(key, &mut || Labels::from_sorted(labels))?;
                *reference = Some(found);
                found
            }
        };
        self.appender.append(series, t, v)
    }

    /// A refusal of one sample is noted; anything else ends the request.
    fn sort_out(
        &mut self,
        error: AppendError,
        labels: &[Label<'_>],
        t: TimestampMs,
    ) -> Result<(), WriteError> {
        let kind = match error {
            AppendError::OutOfOrder { .. } => RefusalKind::OutOfOrder,
            AppendError::OutOfBounds { .. } | AppendError::TooFarAhead { .. } => {
                RefusalKind::OutOfBounds
            }
            AppendError::TooOld { .. } => RefusalKind::TooOld,
            AppendError::Duplicate => RefusalKind::Duplicate,
            AppendError::Labels(_) | AppendError::EmptyLabels => RefusalKind::InvalidLabels,
            AppendError::UnknownSeries
            | AppendError::Histogram(_)
            | AppendError::OutOfOrderExemplar { .. }
            | AppendError::ExemplarLabels { .. }
            | AppendError::Wal(_)
            | AppendError::Closed(_) => {
                return Err(WriteError::Storage(error));
            }
        };
        self.report.refuse(kind, error.to_string(), labels, Some(t));
        Ok(())
    }

    fn note_metadata(&mut self, series: SeriesRef, labels: &[Label<'_>]) -> Result<(), WriteError> {
        let name = labels
            .iter()
            .find(|(name, _)| *name == METRIC_NAME)
            .map_or("", |(_, value)| *value);
        for family in families(name) {
            let found = self
                .metadata
                .binary_search_by(|entry| entry.message.family.cmp(family))
                .ok()
                .and_then(|position| self.metadata.get_mut(position));
            if let Some(entry) = found {
                entry.is_matched = true;
                let metadata = Metadata {
                    metric_type: entry.message.metric_type,
                    help: entry.message.help.to_owned(),
                    unit: entry.message.unit.to_owned(),
                };
                return self
                    .appender
                    .metadata(series, &metadata)
                    .map_err(WriteError::Storage);
            }
        }
        Ok(())
    }
}

/// The families a series of this name can belong to.
fn families(name: &str) -> impl Iterator<Item = &str> {
    let suffixes = ["_total", "_bucket", "_sum", "_count", "_info", "_created"];
    std::iter::once(name).chain(
        suffixes
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix)),
    )
}

/// Sorts by name and drops empty values, as every label set is; tells what makes it none.
fn arrange(labels: &mut Vec<Label<'_>>) -> Option<String> {
    if labels.iter().any(|(name, _)| name.is_empty()) {
        return Some("invalid labels: empty label name".to_owned());
    }
    if !labels.is_sorted_by_key(|(name, _)| *name) {
        labels.sort_by_key(|(name, _)| *name);
    }
    let mut pairs = labels.iter().zip(labels.iter().skip(1));
    if let Some(((name, _), _)) = pairs.find(|((left, _), (right, _))| left == right) {
        return Some(format!("invalid labels: label name {name:?} is not unique"));
    }
    labels.retain(|(_, value)| !value.is_empty());
    let has_name = labels.iter().any(|(name, _)| *name == METRIC_NAME);
    (!has_name).then(|| "invalid labels: no metric name (label \"__name__\")".to_owned())
}

/// The labels as they would be printed, duplicates and all.
fn shown(labels: &[Label<'_>]) -> String {
    let mut out = String::from("{");
    for (position, (name, value)) in labels.iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        if SHOWN_BYTES_MAX < out.len() + name.len() + value.len() {
            out.push('…');
            break;
        }
        out.push_str(&format!("{name}={value:?}"));
    }
    out.push('}');
    out
}
