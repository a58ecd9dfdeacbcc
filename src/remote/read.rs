//! `prometheus.WriteRequest`, read in place: nothing is copied, and only label lists take memory, once per request.

use crate::foundation::proto::{Fields, ProtoError, Slice, Value};
use crate::model::{Label, MetricType, TimestampMs};

/// Walks a decompressed request.
#[derive(Debug, Clone, Copy)]
pub struct RequestReader<'a> {
    fields: Fields<'a>,
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
pub struct SeriesExtras {
    /// Native histograms.
    pub n_histograms: u64,
    /// Exemplars.
    pub n_exemplars: u64,
    /// A name or value is not UTF-8; such a label is left out.
    pub has_bad_text: bool,
}

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

impl<'a> RequestReader<'a> {
    /// Starts at the first field.
    pub fn new(request: &'a [u8]) -> Self {
        let slice = Slice {
            bytes: request,
            offset: 0,
        };
        Self {
            fields: Fields::new(slice, "WriteRequest"),
        }
    }

    /// The next series or metadata; fields of other numbers are passed over.
    pub fn next_item(&mut self) -> Result<Option<RequestItem<'a>>, ProtoError> {
        while let Some((number, value)) = self.fields.next_field()? {
            match (number, value) {
                (1, Value::Bytes(message)) => {
                    return Ok(Some(RequestItem::Series(SeriesReader {
                        message,
                        samples: None,
                    })));
                }
                (3, Value::Bytes(message)) => {
                    return read_metadata(message).map(|item| Some(RequestItem::Metadata(item)));
                }
                (1 | 3, _) => return Err(self.fields.error("wrong wire type")),
                _ => (),
            }
        }
        Ok(None)
    }
}

impl<'a> SeriesReader<'a> {
    /// Fills `labels`, as sent and in the order sent, and counts what is not a float.
    pub fn labels(&mut self, labels: &mut Vec<Label<'a>>) -> Result<SeriesExtras, ProtoError> {
        labels.clear();
        let mut extras = SeriesExtras::default();
        let mut fields = Fields::new(self.message, "TimeSeries");
        loop {
            let before = fields.rest();
            let Some((number, value)) = fields.next_field()? else {
                break;
            };
            match (number, value) {
                (1, Value::Bytes(label)) => match read_label(label)? {
                    Some(label) => labels.push(label),
                    None => extras.has_bad_text = true,
                },
                (2, Value::Bytes(_)) if self.samples.is_none() => self.samples = Some(before),
                (3, Value::Bytes(_)) => extras.n_exemplars += 1,
                (4, Value::Bytes(_)) => extras.n_histograms += 1,
                (1..=4, Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32) => {
                    return Err(fields.error("wrong wire type"));
                }
                _ => (),
            }
        }
        Ok(extras)
    }

    /// Hands every float to `take`, in the order sent; stops at its error.
    pub fn samples<E: From<ProtoError>>(
        &self,
        mut take: impl FnMut(TimestampMs, f64) -> Result<(), E>,
    ) -> Result<(), E> {
        // Labels come first in every known sender's messages and were walked over already.
        let message = self.samples.unwrap_or(self.message);
        let mut fields = Fields::new(message, "TimeSeries");
        while let Some((number, value)) = fields.next_field()? {
            if let (2, Value::Bytes(sample)) = (number, value) {
                let (t, v) = read_sample(sample)?;
                take(t, v)?;
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

fn read_sample(message: Slice<'_>) -> Result<(TimestampMs, f64), ProtoError> {
    let mut fields = Fields::new(message, "Sample");
    let (mut t, mut v) = (0, 0f64);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            (2, Value::Varint(raw)) => t = raw.cast_signed(),
            (1 | 2, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok((t, v))
}

fn read_metadata(message: Slice<'_>) -> Result<MetadataMessage<'_>, ProtoError> {
    let mut fields = Fields::new(message, "MetricMetadata");
    let mut out = MetadataMessage::default();
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Varint(raw)) => out.metric_type = metric_type(raw),
            (2, Value::Bytes(text)) => out.family = str::from_utf8(text.bytes).unwrap_or_default(),
            (4, Value::Bytes(text)) => out.help = str::from_utf8(text.bytes).unwrap_or_default(),
            (5, Value::Bytes(text)) => out.unit = str::from_utf8(text.bytes).unwrap_or_default(),
            (1 | 2 | 4 | 5, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok(out)
}

/// The numbers of `MetricMetadata.MetricType`.
fn metric_type(raw: u64) -> MetricType {
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
