//! `io.prometheus.client`, message by message, read in place.

use crate::foundation::proto::{Fields, ProtoError, Slice, Value, low_32_bits, sint32, zigzag};
use crate::model::TimestampMs;
use crate::model::histogram::{BucketSpan, read_span, whole};

/// What the metrics of a family hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Kind {
    fn of(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Summary,
            3 => Self::Untyped,
            4 => Self::Histogram,
            5 => Self::GaugeHistogram,
            _ => return None,
        })
    }

    /// The field of a metric that holds its content.
    fn field(self) -> u64 {
        match self {
            Self::Gauge => 2,
            Self::Counter => 3,
            Self::Summary => 4,
            Self::Untyped => 5,
            Self::Histogram | Self::GaugeHistogram => 7,
        }
    }
}

/// `MetricFamily`; its metrics are read as they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'a> {
    pub(super) name: &'a [u8],
    pub(super) help: &'a [u8],
    pub(super) unit: &'a [u8],
    /// `Err` holds a number that stands for nothing.
    pub(super) kind: Result<Kind, u64>,
    pub(super) metrics: Fields<'a>,
    pub(super) has_metrics: bool,
}

impl<'a> Family<'a> {
    pub(super) fn read(message: Slice<'a>) -> Result<Self, ProtoError> {
        let mut fields = Fields::new(message, "MetricFamily");
        let mut family = Self {
            name: b"",
            help: b"",
            unit: b"",
            kind: Ok(Kind::default()),
            metrics: fields,
            has_metrics: false,
        };
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Value::Bytes(text)) => family.name = text.bytes,
                (2, Value::Bytes(text)) => family.help = text.bytes,
                (3, Value::Varint(raw)) => family.kind = Kind::of(raw).ok_or(raw),
                (4, Value::Bytes(_)) => family.has_metrics = true,
                (5, Value::Bytes(text)) => family.unit = text.bytes,
                (1..=5, _) => return Err(fields.error("wrong wire type")),
                _ => (),
            }
        }
        Ok(family)
    }
}

/// `Metric` with the content its family's type calls for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'a> {
    message: Slice<'a>,
    pub(super) content: Slice<'a>,
    pub(super) t: Option<TimestampMs>,
}

const NOTHING: Slice<'static> = Slice {
    bytes: b"",
    offset: 0,
};

impl<'a> Metric<'a> {
    pub(super) fn empty() -> Self {
        Self {
            message: NOTHING,
            content: NOTHING,
            t: None,
        }
    }

    /// The next metric among the fields of a family.
    pub(super) fn next(fields: &mut Fields<'a>, kind: Kind) -> Result<Option<Self>, ProtoError> {
        while let Some((number, value)) = fields.next_field()? {
            if let (4, Value::Bytes(message)) = (number, value) {
                return Self::read(message, kind).map(Some);
            }
        }
        Ok(None)
    }

    /// Where it stands in the exposition.
    pub(super) fn offset(&self) -> usize {
        self.message.offset
    }

    fn read(message: Slice<'a>, kind: Kind) -> Result<Self, ProtoError> {
        let mut fields = Fields::new(message, "Metric");
        let mut metric = Self {
            message,
            ..Self::empty()
        };
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (6, Value::Varint(raw)) => {
                    // The format cannot tell zero from nothing.
                    metric.t = Some(raw.cast_signed()).filter(|t| *t != 0);
                }
                (number, Value::Bytes(content)) if number == kind.field() => {
                    metric.content = content;
                }
                (1..=5 | 7, Value::Bytes(_)) | (8.., _) => (),
                _ => return Err(fields.error("wrong wire type")),
            }
        }
        Ok(metric)
    }

    /// Hands every label to `take`, in the order sent.
    pub(super) fn labels<E: From<ProtoError>>(
        &self,
        take: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        each_label(Fields::new(self.message, "Metric"), take)
    }
}

/// `LabelPair`s, which stand in field 1 of metrics and exemplars.
pub(super) fn each_label<'a, E: From<ProtoError>>(
    mut fields: Fields<'a>,
    mut take: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    while let Some((number, value)) = fields.next_field()? {
        let (1, Value::Bytes(message)) = (number, value) else {
            continue;
        };
        let mut pair = Fields::new(message, "LabelPair");
        let (mut name, mut label_value): (&[u8], &[u8]) = (b"", b"");
        while let Some((number, value)) = pair.next_field()? {
            match (number, value) {
                (1, Value::Bytes(text)) => name = text.bytes,
                (2, Value::Bytes(text)) => label_value = text.bytes,
                (1 | 2, _) => return Err(pair.error("wrong wire type").into()),
                _ => (),
            }
        }
        take(name, label_value)?;
    }
    Ok(())
}

/// `Counter`, `Gauge` or `Untyped`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Single<'a> {
    pub(super) v: f64,
    pub(super) exemplar: Option<Slice<'a>>,
    pub(super) start: Option<TimestampMs>,
}

impl<'a> Single<'a> {
    pub(super) fn read(message: Slice<'a>, kind: Kind) -> Result<Self, ProtoError> {
        let mut fields = Fields::new(message, "Counter, Gauge or Untyped");
        let mut single = Self::default();
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Value::Fixed64(bits)) => single.v = f64::from_bits(bits),
                (2 | 3, _) if kind != Kind::Counter => (),
                (2, Value::Bytes(message)) => single.exemplar = Some(message),
                (3, Value::Bytes(message)) => single.start = Some(read_timestamp(message)?),
                (1..=3, _) => return Err(fields.error("wrong wire type")),
                _ => (),
            }
        }
        Ok(single)
    }
}

/// `Summary`; its quantiles are read as they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary<'a> {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) start: Option<TimestampMs>,
    pub(super) quantiles: Fields<'a>,
}

impl<'a> Summary<'a> {
    pub(super) fn read(message: Slice<'a>) -> Result<Self, ProtoError> {
        let mut fields = Fields::new(message, "Summary");
        let mut summary = Self {
            count: 0,
            sum: 0.0,
            start: None,
            quantiles: fields,
        };
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Value::Varint(count)) => summary.count = count,
                (2, Value::Fixed64(bits)) => summary.sum = f64::from_bits(bits),
                (3, Value::Bytes(_)) => (),
                (4, Value::Bytes(message)) => summary.start = Some(read_timestamp(message)?),
                (1..=4, _) => return Err(fields.error("wrong wire type")),
                _ => (),
            }
        }
        Ok(summary)
    }

    /// All observations.
    pub(super) fn float_count(&self) -> f64 {
        whole(self.count)
    }

    /// The next quantile and its value.
    pub(super) fn next_quantile(&mut self) -> Result<Option<(f64, f64)>, ProtoError> {
        while let Some((number, value)) = self.quantiles.next_field()? {
            let (3, Value::Bytes(message)) = (number, value) else {
                continue;
            };
            let mut fields = Fields::new(message, "Quantile");
            let (mut quantile, mut v) = (0.0, 0.0);
            while let Some((number, value)) = fields.next_field()? {
                match (number, value) {
                    (1, Value::Fixed64(bits)) => quantile = f64::from_bits(bits),
                    (2, Value::Fixed64(bits)) => v = f64::from_bits(bits),
                    (1 | 2, _) => return Err(fields.error("wrong wire type")),
                    _ => (),
                }
            }
            return Ok(Some((quantile, v)));
        }
        Ok(None)
    }
}

/// `Histogram` without its lists, which are read as they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct HistogramMessage<'a> {
    message: Slice<'a>,
    pub(super) count: u64,
    pub(super) count_float: f64,
    pub(super) sum: f64,
    pub(super) start: Option<TimestampMs>,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: u64,
    pub(super) zero_count_float: f64,
    pub(super) has_spans: bool,
    pub(super) has_buckets: bool,
    pub(super) has_exemplars: bool,
}

/// `Bucket`
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BucketMessage<'a> {
    pub(super) upper_bound: f64,
    /// Observations up to the bound.
    pub(super) count: f64,
    pub(super) exemplar: Option<Slice<'a>>,
}

/// The lists of one sign.
#[derive(Debug, Clone, Default)]
pub(super) struct SideMessage {
    pub(super) spans: Vec<BucketSpan>,
    pub(super) deltas: Vec<i64>,
    pub(super) counts: Vec<f64>,
}

impl<'a> HistogramMessage<'a> {
    pub(super) fn empty() -> Self {
        Self {
            message: NOTHING,
            count: 0,
            count_float: 0.0,
            sum: 0.0,
            start: None,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0,
            zero_count_float: 0.0,
            has_spans: false,
            has_buckets: false,
            has_exemplars: false,
        }
    }

    pub(super) fn read(message: Slice<'a>) -> Result<Self, ProtoError> {
        let mut fields = Fields::new(message, "Histogram");
        let mut out = Self {
            message,
            ..Self::empty()
        };
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Value::Varint(count)) => out.count = count,
                (2, Value::Fixed64(bits)) => out.sum = f64::from_bits(bits),
                (3, Value::Bytes(_)) => out.has_buckets = true,
                (4, Value::Fixed64(bits)) => out.count_float = f64::from_bits(bits),
                (5, Value::Varint(raw)) => out.schema = sint32(raw),
                (6, Value::Fixed64(bits)) => out.zero_threshold = f64::from_bits(bits),
                (7, Value::Varint(count)) => out.zero_count = count,
                (8, Value::Fixed64(bits)) => out.zero_count_float = f64::from_bits(bits),
                (9 | 12, Value::Bytes(_)) => out.has_spans = true,
                (10 | 13, Value::Bytes(_) | Value::Varint(_))
                | (11 | 14, Value::Bytes(_) | Value::Fixed64(_))
                | (17.., _) => (),
                (15, Value::Bytes(message)) => out.start = Some(read_timestamp(message)?),
                (16, Value::Bytes(_)) => out.has_exemplars = true,
                _ => return Err(fields.error("wrong wire type")),
            }
        }
        Ok(out)
    }

    /// Is it more than a classic histogram?
    pub(super) fn is_native(&self) -> bool {
        self.has_spans || 0.0 < self.zero_threshold || 0 < self.zero_count
    }

    /// Are its counts any numbers, not whole ones?
    pub(super) fn is_float(&self) -> bool {
        0.0 < self.count_float || 0.0 < self.zero_count_float
    }

    /// All observations, of whichever kind.
    pub(super) fn any_count(&self) -> f64 {
        if self.count_float == 0.0 {
            whole(self.count)
        } else {
            self.count_float
        }
    }

    /// Where it stands in the exposition.
    pub(super) fn offset(&self) -> usize {
        self.message.offset
    }

    /// All its fields, for [`next_bucket`] and [`next_exemplar`].
    pub(super) fn fields(&self) -> Fields<'a> {
        Fields::new(self.message, "Histogram")
    }

    /// The lists of one sign: of observations below zero, or above.
    pub(super) fn side(&self, is_positive: bool) -> Result<SideMessage, ProtoError> {
        let shift = if is_positive { 3 } else { 0 };
        let mut side = SideMessage::default();
        let mut fields = self.fields();
        while let Some((number, value)) = fields.next_field()? {
            match (number.wrapping_sub(shift), value) {
                (9, Value::Bytes(message)) => side.spans.push(read_span(message)?),
                (10, Value::Varint(raw)) => side.deltas.push(zigzag(raw)),
                (10, Value::Bytes(packed)) => {
                    let mut packed = Fields::new(packed, "packed deltas");
                    while !packed.is_at_end() {
                        side.deltas.push(zigzag(packed.varint()?));
                    }
                }
                (11, Value::Fixed64(bits)) => side.counts.push(f64::from_bits(bits)),
                (11, Value::Bytes(packed)) => {
                    let mut packed = Fields::new(packed, "packed counts");
                    while !packed.is_at_end() {
                        side.counts.push(f64::from_bits(packed.fixed64()?));
                    }
                }
                _ => (),
            }
        }
        Ok(side)
    }
}

/// The next classic bucket among the fields of a histogram.
pub(super) fn next_bucket<'a>(
    fields: &mut Fields<'a>,
) -> Result<Option<BucketMessage<'a>>, ProtoError> {
    while let Some((number, value)) = fields.next_field()? {
        let (3, Value::Bytes(message)) = (number, value) else {
            continue;
        };
        let mut fields = Fields::new(message, "Bucket");
        let mut bucket = BucketMessage::default();
        let mut count = 0;
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Value::Varint(raw)) => count = raw,
                (2, Value::Fixed64(bits)) => bucket.upper_bound = f64::from_bits(bits),
                (3, Value::Bytes(message)) => bucket.exemplar = Some(message),
                (4, Value::Fixed64(bits)) => bucket.count = f64::from_bits(bits),
                (1..=4, _) => return Err(fields.error("wrong wire type")),
                _ => (),
            }
        }
        if bucket.count == 0.0 {
            bucket.count = whole(count);
        }
        return Ok(Some(bucket));
    }
    Ok(None)
}

/// The next exemplar that a native histogram has of its own.
pub(super) fn next_exemplar<'a>(fields: &mut Fields<'a>) -> Result<Option<Slice<'a>>, ProtoError> {
    while let Some((number, value)) = fields.next_field()? {
        if let (16, Value::Bytes(message)) = (number, value) {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// Value and time of an `Exemplar`; [`each_label`] reads its labels.
pub(super) fn read_exemplar(message: Slice<'_>) -> Result<(f64, Option<TimestampMs>), ProtoError> {
    let mut fields = Fields::new(message, "Exemplar");
    let (mut v, mut t) = (0.0, None);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Bytes(_)) => (),
            (2, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            (3, Value::Bytes(message)) => t = Some(read_timestamp(message)?),
            (1..=3, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok((v, t))
}

/// `google.protobuf.Timestamp`, cut to milliseconds.
fn read_timestamp(message: Slice<'_>) -> Result<TimestampMs, ProtoError> {
    let mut fields = Fields::new(message, "Timestamp");
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Varint(raw)) => seconds = raw.cast_signed(),
            (2, Value::Varint(raw)) => nanos = i64::from(low_32_bits(raw).cast_signed()),
            (1 | 2, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok(seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000))
}
