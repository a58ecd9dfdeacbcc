//! A request into the head: what is taken, what is refused and in which words.

use std::sync::Arc;

use thiserror::Error;

use crate::foundation::proto::ProtoError;
use crate::foundation::verdict::Verdict;
use crate::model::{
    Exemplar, Label, Labels, METRIC_NAME, MetricType, SeriesKey, Spelling, TimestampMs,
};
use crate::remote::read::{
    ExemplarMessage, MetadataMessage, RequestItem, RequestReader, SeriesExtras, SeriesReader,
    WriteVersion,
};
use crate::remote::refusal::{RefusalKind, WriteReport};
use crate::remote::snappy::{SnappyError, decompress};
use crate::remote::usual::UsualSeries;
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// Bounds of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteLimits {
    /// Bytes of the request once it is decompressed.
    pub decoded_bytes_max: usize,
    /// The clock, against which the future is measured.
    pub now_ms: TimestampMs,
    /// Samples further ahead of the clock than this are refused.
    pub ahead_ms_max: i64,
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

/// Decompresses `body` into `scratch`, reads it, and appends what is in it in one transaction.
///
/// Refused samples and series are reported and the rest is committed; when the storage cannot go on, nothing is.
/// A known series costs no allocation, nor does any float.
pub fn append_write_request(
    (body, version): (&[u8], WriteVersion),
    limits: WriteLimits,
    storage: &dyn Appendable,
    scratch: &mut Vec<u8>,
) -> Result<WriteReport, WriteError> {
    decompress(body, limits.decoded_bytes_max, scratch)?;
    let request: &[u8] = scratch;
    let metadata = match version {
        WriteVersion::V1 => collect_metadata(request)?,
        WriteVersion::V2 => Vec::new(),
    };
    let mut appender = storage.appender();
    let mut writer = Writer {
        appender: appender.as_mut(),
        version,
        newest_t: limits.now_ms.saturating_add(limits.ahead_ms_max),
        metadata,
        refused: None,
        report: WriteReport::default(),
    };
    let written = writer.write(request);
    let mut report = writer.report;
    let is_matched = |entry: &&MetadataEntry<'_>| entry.is_matched;
    let n_matched = writer.metadata.iter().filter(is_matched).count() as u64;
    report.n_metadata += n_matched;
    report.n_metadata_unmatched = writer.metadata.len() as u64 - n_matched;
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
    let mut reader = RequestReader::new(request, WriteVersion::V1)?;
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
    version: WriteVersion,
    newest_t: TimestampMs,
    metadata: Vec<MetadataEntry<'b>>,
    /// The series that was refused something last.
    refused: Option<SeriesKey>,
    report: WriteReport,
}

/// Lists that are used again for the next series.
#[derive(Default)]
struct Scratch<'b> {
    labels: Vec<Label<'b>>,
    exemplar_labels: Vec<Label<'b>>,
}

/// So many series are looked up together.
const SERIES_PER_BATCH: usize = 64;

/// The next series of a request, in its order.
#[derive(Default)]
struct Batch<'b> {
    series: Vec<(SeriesReader<'b>, Option<UsualSeries<'b>>)>,
    /// Of those that are written as usual.
    spellings: Vec<Spelling>,
    found: Vec<Option<SeriesRef>>,
}

impl<'b> Batch<'b> {
    /// False when there are no more.
    fn fill(
        &mut self,
        reader: &mut RequestReader<'b>,
        may_be_usual: bool,
    ) -> Result<bool, ProtoError> {
        self.spellings.clear();
        while self.series.len() < SERIES_PER_BATCH
            && let Some(item) = reader.next_item()?
        {
            let RequestItem::Series(series) = item else {
                continue;
            };
            let usual = may_be_usual
                .then(|| UsualSeries::of(series.message()))
                .flatten();
            if let Some(usual) = usual {
                self.spellings.push(Spelling::of_bytes(usual.labels));
            }
            self.series.push((series, usual));
        }
        Ok(!self.series.is_empty())
    }
}

/// A series of the request, and its reference once something of it was appended.
struct Current<'a, 'b> {
    labels: &'a [Label<'b>],
    reference: Option<SeriesRef>,
}

impl<'b> Writer<'_, 'b> {
    fn write(&mut self, request: &'b [u8]) -> Result<(), WriteError> {
        let mut reader = RequestReader::new(request, self.version)?;
        let mut batch = Batch::default();
        let mut scratch = Scratch::default();
        // What a request says of metrics is looked up by their names.
        let may_be_usual = self.version == WriteVersion::V1 && self.metadata.is_empty();
        while batch.fill(&mut reader, may_be_usual)? {
            let Batch {
                series,
                spellings,
                found,
            } = &mut batch;
            self.appender.by_spelling(spellings, found);
            let mut found = found.drain(..).zip(spellings.iter());
            for (series, usual) in series.drain(..) {
                let Some(usual) = usual else {
                    self.write_series(&reader, series, &mut scratch)?;
                    continue;
                };
                match found.next() {
                    Some((Some(known), _)) => {
                        self.write_known(known, usual, (&reader, series), &mut scratch)?;
                    }
                    unknown => {
                        let reference = self.write_series(&reader, series, &mut scratch)?;
                        if let Some((reference, (_, spelling))) = reference.zip(unknown) {
                            self.appender.learn(*spelling, reference);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A series that was written in the same bytes before: its labels are good and nobody reads them.
    fn write_known(
        &mut self,
        known: SeriesRef,
        usual: UsualSeries<'b>,
        (reader, mut series): (&RequestReader<'b>, SeriesReader<'b>),
        scratch: &mut Scratch<'b>,
    ) -> Result<(), WriteError> {
        let mut n_taken = 0;
        for (at, v) in usual.samples() {
            let appended = if self.newest_t < at.t {
                Err(AppendError::TooFarAhead {
                    newest: self.newest_t,
                })
            } else {
                self.appender.append_at(known, at, v)
            };
            match appended {
                Ok(()) => n_taken += 1,
                Err(error) => {
                    reader.labels(&mut series, &mut scratch.labels)?;
                    arrange(&mut scratch.labels);
                    self.sort_out(error, &scratch.labels, at.t)?;
                }
            }
        }
        self.report.n_samples += n_taken;
        self.report.n_series += u64::from(0 < n_taken);
        Ok(())
    }

    /// Any series, field by field; its reference once something of it was appended.
    fn write_series(
        &mut self,
        reader: &RequestReader<'b>,
        mut series: SeriesReader<'b>,
        scratch: &mut Scratch<'b>,
    ) -> Result<Option<SeriesRef>, WriteError> {
        let Scratch {
            labels,
            exemplar_labels,
        } = scratch;
        let extras = reader.labels(&mut series, labels)?;
        let problem = match extras.bad_label {
            Some(bad) => Some(format!("invalid labels: {bad}")),
            None => arrange(labels).or_else(|| self.lacks_samples(&extras)),
        };
        if let Some(text) = problem {
            self.report.refuse_series(text, labels);
            return Ok(None);
        }
        let mut current = Current {
            labels,
            reference: None,
        };
        let before = self.report.n_samples + self.report.n_histograms;
        self.write_samples(reader, (&series, extras), &mut current)?;
        let after = self.report.n_samples + self.report.n_histograms;
        self.report.n_series += u64::from(before < after);
        if extras.has_exemplars {
            self.write_exemplars(reader, &series, &mut current, exemplar_labels)?;
        }
        let reference = current.reference;
        if let Some(reference) = reference {
            self.note_metadata(reference, (labels, extras.metadata))?;
        }
        Ok(reference)
    }

    /// Version 2 sends no series for its labels alone.
    fn lacks_samples(&self, extras: &SeriesExtras<'_>) -> Option<String> {
        let is_bare = !extras.has_samples && !extras.has_histograms && !extras.has_exemplars;
        (is_bare && self.version == WriteVersion::V2)
            .then(|| "TimeSeries must contain at least one sample or histogram".to_owned())
    }

    fn write_samples(
        &mut self,
        reader: &RequestReader<'b>,
        (series, extras): (&SeriesReader<'b>, SeriesExtras<'b>),
        current: &mut Current<'_, 'b>,
    ) -> Result<(), WriteError> {
        series.samples(|at, v| {
            let appended = self
                .series(at.t, current)
                .and_then(|series| self.appender.append_at(series, at, v));
            match appended {
                Ok(()) => {
                    self.report.n_samples += 1;
                    Ok(())
                }
                Err(error) => self.sort_out(error, current.labels, at.t),
            }
        })?;
        if !extras.has_histograms {
            return Ok(());
        }
        reader.histograms(series, |at, counts, histogram| {
            let appended = self.series(at.t, current).and_then(|series| {
                let histogram = Arc::new(histogram);
                self.appender
                    .append_histogram(series, at, counts, &histogram)
            });
            match appended {
                Ok(()) => {
                    self.report.n_histograms += 1;
                    Ok(())
                }
                Err(error) => self.sort_out(error, current.labels, at.t),
            }
        })
    }

    /// The series of the request, for something at `t`.
    #[inline]
    fn series(
        &mut self,
        t: TimestampMs,
        current: &mut Current<'_, 'b>,
    ) -> Result<SeriesRef, AppendError> {
        if self.newest_t < t {
            return Err(AppendError::TooFarAhead {
                newest: self.newest_t,
            });
        }
        if let Some(series) = current.reference {
            return Ok(series);
        }
        let labels = current.labels;
        let key = SeriesKey::of(labels.iter().copied());
        let found = self
            .appender
            .series(key, &mut || Labels::from_sorted(labels))?;
        current.reference = Some(found);
        Ok(found)
    }

    /// Prometheus sends the exemplars of a series apart from its samples.
    fn write_exemplars(
        &mut self,
        reader: &RequestReader<'b>,
        series: &SeriesReader<'b>,
        current: &mut Current<'_, 'b>,
        labels: &mut Vec<Label<'b>>,
    ) -> Result<(), WriteError> {
        reader.exemplars(series, labels, |message| {
            let ExemplarMessage {
                bad_label,
                labels,
                v,
                t,
            } = message;
            labels.retain(|(_, value)| !value.is_empty());
            labels.sort_by_key(|(name, _)| *name);
            let exemplar = match (bad_label, Labels::from_sorted(labels)) {
                (None, Ok(labels)) => Exemplar {
                    labels,
                    v,
                    t,
                    has_own_time: true,
                },
                (Some(_), _) | (None, Err(_)) => {
                    let text = "invalid labels of an exemplar".to_owned();
                    self.report.refuse_series(text, current.labels);
                    return Ok(());
                }
            };
            let appended = self
                .series(t, current)
                .and_then(|series| self.appender.exemplar(series, &exemplar));
            match appended {
                Ok(()) => {
                    self.report.n_exemplars += 1;
                    Ok(())
                }
                // Senders of version 1 repeat exemplars and cannot be told of one that is not news.
                Err(AppendError::OutOfOrderExemplar { .. }) if self.version == WriteVersion::V1 => {
                    Ok(())
                }
                Err(error) => self.sort_out(error, current.labels, t),
            }
        })
    }

    /// A refusal of one sample is noted; anything else ends the request.
    fn sort_out(
        &mut self,
        error: AppendError,
        labels: &[Label<'_>],
        t: TimestampMs,
    ) -> Result<(), WriteError> {
        match RefusalKind::of(&error) {
            Some(kind) => {
                let key = SeriesKey::of(labels.iter().copied());
                let is_again = self.refused.replace(key) == Some(key);
                if !(is_again && self.report.refuse_again(kind)) {
                    self.report.refuse(kind, &error, labels, t);
                }
                Ok(())
            }
            None => Err(WriteError::Storage(error)),
        }
    }

    fn note_metadata(
        &mut self,
        series: SeriesRef,
        (labels, own): (&[Label<'_>], Option<MetadataMessage<'_>>),
    ) -> Result<(), WriteError> {
        if let Some(own) = own {
            let is_empty = own.metric_type == MetricType::Unknown
                && own.help.is_empty()
                && own.unit.is_empty();
            if is_empty {
                return Ok(());
            }
            self.report.n_metadata += 1;
            return self
                .appender
                .metadata(series, &own.to_metadata())
                .map_err(WriteError::Storage);
        }
        if self.metadata.is_empty() {
            return Ok(());
        }
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
                let metadata = entry.message.to_metadata();
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
