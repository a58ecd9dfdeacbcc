//! `prometheus.WriteRequest` and `io.prometheus.write.v2.Request`, read in place: no label is copied, and only label
//! lists, symbol tables and the buckets of one histogram take memory.

use crate::foundation::proto::{Fields, ProtoError, Slice, Value};
use crate::model::{Counts, Histogram, Label, Metadata, MetricType, SampleTime, TimestampMs};
use crate::remote::message::{read_exemplar, read_histogram, read_sample};
use crate::remote::symbols::Symbols;

/// Versions of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteVersion {
    /// `prometheus.WriteRequest`
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

/// Walks a decompressed request.
#[derive(Debug, Clone)]
pub struct RequestReader<'a> {
    fields: Fields<'a>,
    symbols: Option<Symbols<'a>>,
}

/// One part of a request.
#[derive(Debug, Clone, Copy)]
pub enum RequestItem<'a> {
    /// Labels and samples.
    Series(SeriesReader<'a>),
    /// What a metric family is.
    Metadata(MetadataMessage<'a>),
}

/// One series, still encoded.
#[derive(Debug, Clone, Copy)]
pub struct SeriesReader<'a> {
    message: Slice<'a>,
    /// From the first float on, once the labels were read.
    samples: Option<Slice<'a>>,
}

/// What is in a series besides floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeriesExtras<'a> {
    /// Floats are there.
    pub has_samples: bool,
    /// Native histograms are there.
    pub has_histograms: bool,
    /// Exemplars are there.
    pub has_exemplars: bool,
    /// What is wrong with a label; such a label is left out.
    pub bad_label: Option<&'static str>,
    /// What a request of version 2 says of the series.
    pub metadata: Option<MetadataMessage<'a>>,
}

const NOT_UTF8: &str = "a name or value is not valid UTF-8";
const NO_SYMBOL: &str = "a label refers to a symbol that is not there or not valid UTF-8";
const ODD_SYMBOLS: &str = "labels are not pairs of symbols";

/// `prometheus.MetricMetadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataMessage<'a> {
    /// The metric family.
    pub family: &'a str,
    /// What it is.
    pub metric_type: MetricType,
    /// In words.
    pub help: &'a str,
    /// Of its values.
    pub unit: &'a str,
}

impl MetadataMessage<'_> {
    /// As the storage keeps it.
    pub(super) fn to_metadata(self) -> Metadata {
        Metadata {
            metric_type: self.metric_type,
            help: self.help.to_owned(),
            unit: self.unit.to_owned(),
        }
    }
}

impl<'a> RequestReader<'a> {
    /// Starts at the first field; the symbols of version 2 are read at once.
    pub fn new(request: &'a [u8], version: WriteVersion) -> Result<Self, ProtoError> {
        let slice = Slice {
            bytes: request,
            offset: 0,
        };
        let (what, symbols) = match version {
            WriteVersion::V1 => ("WriteRequest", None),
            WriteVersion::V2 => ("Request", Some(Symbols::read(request)?)),
        };
        Ok(Self {
            fields: Fields::new(slice, what),
            symbols,
        })
    }

    /// The next series or metadata; fields of other numbers are passed over.
    pub fn next_item(&mut self) -> Result<Option<RequestItem<'a>>, ProtoError> {
        let series_number = if self.symbols.is_some() { 5 } else { 1 };
        while let Some((number, value)) = self.fields.next_field()? {
            match (number, value) {
                (number, Value::Bytes(message)) if number == series_number => {
                    return Ok(Some(RequestItem::Series(SeriesReader {
                        message,
                        samples: None,
                    })));
                }
                (3, Value::Bytes(message)) if self.symbols.is_none() => {
                    return read_metadata(message).map(|item| Some(RequestItem::Metadata(item)));
                }
                (number, _) if number == series_number => {
                    return Err(self.fields.error("wrong wire type"));
                }
                (3, _) if self.symbols.is_none() => {
                    return Err(self.fields.error("wrong wire type"));
                }
                _ => (),
            }
        }
        Ok(None)
    }

    /// Fills `labels`, as sent and in the order sent, and tells what else there is.
    pub fn labels(
        &self,
        series: &mut SeriesReader<'a>,
        labels: &mut Vec<Label<'a>>,
    ) -> Result<SeriesExtras<'a>, ProtoError> {
        labels.clear();
        let mut extras = SeriesExtras::default();
        let mut fields = Fields::new(series.message, "TimeSeries");
        loop {
            let before = fields.rest();
            let Some((number, value)) = fields.next_field()? else {
                break;
            };
            match (number, value) {
                (1, Value::Bytes(content)) => {
                    if let Err(bad) = self.push_labels(content, labels)? {
                        extras.bad_label = Some(bad);
                    }
                }
                (2, Value::Bytes(_)) => {
                    extras.has_samples = true;
                    series.samples = series.samples.or(Some(before));
                }
                (number, Value::Bytes(_)) if number == self.histogram_number() => {
                    extras.has_histograms = true;
                }
                (3 | 4, Value::Bytes(_)) => extras.has_exemplars = true,
                (5, Value::Bytes(message)) => extras.metadata = self.series_metadata(message)?,
                (1..=4, Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32) => {
                    return Err(fields.error("wrong wire type"));
                }
                _ => (),
            }
        }
        Ok(extras)
    }

    /// Hands every native histogram to `take`, in the order sent; stops at its error.
    pub fn histograms<E: From<ProtoError>>(
        &self,
        series: &SeriesReader<'a>,
        mut take: impl FnMut(SampleTime, Counts, Histogram) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut fields = Fields::new(series.message, "TimeSeries");
        while let Some((number, value)) = fields.next_field()? {
            if let Value::Bytes(message) = value
                && number == self.histogram_number()
            {
                let (at, counts, histogram) = read_histogram(message)?;
                take(at, counts, histogram)?;
            }
        }
        Ok(())
    }

    /// Hands every exemplar to `take`, in the order sent: what is wrong with a label of it, labels, value, time.
    pub fn exemplars<E: From<ProtoError>>(
        &self,
        series: &SeriesReader<'a>,
        labels: &mut Vec<Label<'a>>,
        mut take: impl FnMut(ExemplarMessage<'_, 'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let exemplar_number = 7 - self.histogram_number();
        let mut fields = Fields::new(series.message, "TimeSeries");
        while let Some((number, value)) = fields.next_field()? {
            let Value::Bytes(message) = value else {
                continue;
            };
            if number != exemplar_number {
                continue;
            }
            labels.clear();
            let mut bad_label = None;
            let mut inner = Fields::new(message, "Exemplar");
            while let Some((number, value)) = inner.next_field()? {
                if let (1, Value::Bytes(content)) = (number, value) {
                    bad_label = self.push_labels(content, labels)?.err().or(bad_label);
                }
            }
            let (v, t) = read_exemplar(message)?;
            take(ExemplarMessage {
                bad_label,
                labels,
                v,
                t,
            })?;
        }
        Ok(())
    }

    /// The third and the fourth field of a series changed places between the versions.
    fn histogram_number(&self) -> u64 {
        if self.symbols.is_some() { 3 } else { 4 }
    }

    /// One label of version 1, or all of version 2. The inner error is what is wrong with a label.
    #[inline]
    fn push_labels(
        &self,
        content: Slice<'a>,
        labels: &mut Vec<Label<'a>>,
    ) -> Result<Result<(), &'static str>, ProtoError> {
        let Some(symbols) = &self.symbols else {
            return Ok(match read_label(content)? {
                Some(label) => {
                    labels.push(label);
                    Ok(())
                }
                None => Err(NOT_UTF8),
            });
        };
        let mut packed = Fields::new(content, "labels_refs");
        while !packed.is_at_end() {
            let name = packed.varint()?;
            if packed.is_at_end() {
                return Ok(Err(ODD_SYMBOLS));
            }
            let value = packed.varint()?;
            match symbols.get(name).zip(symbols.get(value)) {
                Some(label) => labels.push(label),
                None => return Ok(Err(NO_SYMBOL)),
            }
        }
        Ok(Ok(()))
    }

    /// `Metadata` of version 2; `None` when it refers to what is not there.
    fn series_metadata(
        &self,
        message: Slice<'a>,
    ) -> Result<Option<MetadataMessage<'a>>, ProtoError> {
        let Some(symbols) = &self.symbols else {
            return Ok(None);
        };
        let mut fields = Fields::new(message, "Metadata");
        let (mut metric_type, mut help, mut unit) = (MetricType::Unknown, 0, 0);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Value::Varint(raw)) => metric_type = metric_type_of(raw),
                (3, Value::Varint(raw)) => help = raw,
                (4, Value::Varint(raw)) => unit = raw,
                (1 | 3 | 4, _) => return Err(fields.error("wrong wire type")),
                _ => (),
            }
        }
        let texts = symbols.get(help).zip(symbols.get(unit));
        Ok(texts.map(|(help, unit)| MetadataMessage {
            family: "",
            metric_type,
            help,
            unit,
        }))
    }
}

/// One exemplar.
#[derive(Debug)]
pub struct ExemplarMessage<'b, 'a> {
    /// What is wrong with a label; such a label is left out.
    pub bad_label: Option<&'static str>,
    /// As sent and in the order sent.
    pub labels: &'b mut Vec<Label<'a>>,
    /// What was observed.
    pub v: f64,
    /// When.
    pub t: TimestampMs,
}

impl<'a> SeriesReader<'a> {
    /// All of it.
    pub(super) fn message(&self) -> Slice<'a> {
        self.message
    }

    /// Hands every float to `take`, in the order sent; stops at its error.
    pub fn samples<E: From<ProtoError>>(
        &self,
        mut take: impl FnMut(SampleTime, f64) -> Result<(), E>,
    ) -> Result<(), E> {
        // Labels come first in every known sender's messages and were walked over already.
        let message = self.samples.unwrap_or(self.message);
        let mut fields = Fields::new(message, "TimeSeries");
        while let Some((number, value)) = fields.next_field()? {
            if let (2, Value::Bytes(sample)) = (number, value) {
                let (at, v) = read_sample(sample)?;
                take(at, v)?;
            }
        }
        Ok(())
    }
}

/// Name, then value, each with a length of one byte and nothing else: what every known sender writes.
fn usual_label(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, name_len @ 0..0x80, rest @ ..] = message else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let [0x12, value_len @ 0..0x80, value @ ..] = rest else {
        return None;
    };
    (usize::from(*value_len) == value.len()).then_some((name, value))
}

fn read_label(message: Slice<'_>) -> Result<Option<Label<'_>>, ProtoError> {
    if let Some((name, value)) = usual_label(message.bytes) {
        return Ok(str::from_utf8(name).ok().zip(str::from_utf8(value).ok()));
    }
    let mut fields = Fields::new(message, "Label");
    let (mut name, mut label_value): (&[u8], &[u8]) = (b"", b"");
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Bytes(text)) => name = text.bytes,
            (2, Value::Bytes(text)) => label_value = text.bytes,
            (1 | 2, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok(str::from_utf8(name)
        .ok()
        .zip(str::from_utf8(label_value).ok()))
}

fn read_metadata(message: Slice<'_>) -> Result<MetadataMessage<'_>, ProtoError> {
    let mut fields = Fields::new(message, "MetricMetadata");
    let mut out = MetadataMessage::default();
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Varint(raw)) => out.metric_type = metric_type_of(raw),
            (2, Value::Bytes(text)) => out.family = str::from_utf8(text.bytes).unwrap_or_default(),
            (4, Value::Bytes(text)) => out.help = str::from_utf8(text.bytes).unwrap_or_default(),
            (5, Value::Bytes(text)) => out.unit = str::from_utf8(text.bytes).unwrap_or_default(),
            (1 | 2 | 4 | 5, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok(out)
}

/// The numbers of `MetricType`, which both versions share.
fn metric_type_of(raw: u64) -> MetricType {
    match raw {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}
