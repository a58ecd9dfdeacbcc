//! The protobuf format: metric families, each behind its length.
//!
//! A metric of a family becomes one entry for every series the text formats would have, so that nothing behind the
//! parser needs to know which format it was.

mod histogram;
mod message;

use std::borrow::Cow;

use crate::exposition::entry::{
    Entry, Exemplar, HistogramLine, LabelBuffer, ParseError, SeriesLine, push_key,
};
use crate::exposition::options::ParserOptions;
use crate::foundation::proto::{Fields, Slice};
use crate::model::number::format_openmetrics;
use crate::model::{METRIC_NAME, MetricType, TimestampMs};
use histogram::{converted, native};
use message::{Family, HistogramMessage, Kind, Metric, Single, Summary, each_label};

/// Pulls entries out of a protobuf exposition.
#[derive(Debug, Clone)]
pub(super) struct ProtobufParser<'a> {
    input: Fields<'a>,
    options: ParserOptions,
    family: FamilyHead<'a>,
    metrics: Fields<'a>,
    metric: Metric<'a>,
    step: Step<'a>,
    /// What the series that was yielded last has behind its family's name.
    suffix: &'static str,
    /// Name and value of the label that its metric does not have.
    extra: Option<(&'static str, String)>,
    /// Identifies the labels of the metric.
    labels_text: String,
    text: String,
    start: Option<TimestampMs>,
    exemplars: Exemplars<'a>,
}

/// What is said of a family, checked.
#[derive(Debug, Clone, Copy)]
struct FamilyHead<'a> {
    name: &'a str,
    unit: &'a str,
    kind: Kind,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Family,
    Unit,
    Type,
    Metric,
    SummarySum(Summary<'a>),
    Quantile(Summary<'a>),
    ClassicCount(HistogramMessage<'a>),
    ClassicSum(HistogramMessage<'a>),
    /// With the fields that were not looked at yet.
    ClassicBucket(HistogramMessage<'a>, Fields<'a>),
    Converted(HistogramMessage<'a>),
}

/// Exemplars of the series that was yielded last that were not asked for yet.
#[derive(Debug, Clone, Copy)]
enum Exemplars<'a> {
    None,
    One(Slice<'a>),
    /// Those of a native histogram itself.
    Native(Fields<'a>),
    /// Those of the classic buckets beside a native histogram.
    Buckets(Fields<'a>),
}

/// One series, before it is named.
struct Series {
    suffix: &'static str,
    extra: Option<(&'static str, String)>,
    v: f64,
}

impl<'a> ProtobufParser<'a> {
    /// Starts at the first family.
    pub(super) fn new(input: &'a [u8], options: ParserOptions) -> Self {
        let slice = Slice {
            bytes: input,
            offset: 0,
        };
        let fields = Fields::new(slice, "exposition");
        Self {
            input: fields,
            options,
            family: FamilyHead {
                name: "",
                unit: "",
                kind: Kind::default(),
            },
            metrics: fields,
            metric: Metric::empty(),
            step: Step::Family,
            suffix: "",
            extra: None,
            labels_text: String::new(),
            text: String::new(),
            start: None,
            exemplars: Exemplars::None,
        }
    }

    /// The next entry; `None` at the end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
        loop {
            let series = match self.step {
                Step::Family => match self.next_family()? {
                    None => return Ok(None),
                    Some(Some(help)) => {
                        let name = self.family.name;
                        return Ok(Some(Entry::Help { name, help }));
                    }
                    Some(None) => continue,
                },
                Step::Unit => {
                    self.step = Step::Type;
                    let FamilyHead { name, unit, .. } = self.family;
                    return Ok(Some(Entry::Unit { name, unit }));
                }
                Step::Type => {
                    self.step = Step::Metric;
                    let FamilyHead { name, kind, .. } = self.family;
                    let metric_type = metric_type(kind);
                    return Ok(Some(Entry::Type { name, metric_type }));
                }
                Step::Metric => match self.next_metric()? {
                    Some(Content::Single(series)) => series,
                    Some(Content::Native(histogram)) => return self.native(&histogram).map(Some),
                    Some(Content::Many) | None => continue,
                },
                Step::Converted(histogram) => return self.converted(&histogram).map(Some),
                Step::SummarySum(_)
                | Step::Quantile(_)
                | Step::ClassicCount(_)
                | Step::ClassicSum(_)
                | Step::ClassicBucket(..) => match self.part(self.step)? {
                    Some(series) => series,
                    None => continue,
                },
            };
            return Ok(Some(self.yield_series(series)));
        }
    }

    /// What identifies the series that was yielded last.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Writes the labels of the series that was yielded last.
    pub(super) fn labels(&self, out: &mut LabelBuffer) {
        out.clear();
        out.push_with(
            |arena| arena.push_str(METRIC_NAME),
            |arena| {
                arena.push_str(self.family.name);
                arena.push_str(self.suffix);
            },
        );
        // All was checked when the metric was reached.
        self.metric
            .labels(|name, value| {
                let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
                out.push_with(
                    |arena| arena.push_str(text(name)),
                    |arena| arena.push_str(text(value)),
                );
                Ok::<(), ParseError>(())
            })
            .ok();
        if let Some((name, value)) = &self.extra {
            out.push_with(|arena| arena.push_str(name), |arena| arena.push_str(value));
        }
        out.sort();
    }

    /// Writes the next exemplar of the series that was yielded last; tells whether there was one. Native histograms
    /// have only those that say their time. One that is malformed ends the list.
    pub(super) fn next_exemplar(&mut self, out: &mut Exemplar) -> bool {
        loop {
            let (message, needs_time) = match &mut self.exemplars {
                Exemplars::None => return false,
                Exemplars::One(message) => {
                    let message = *message;
                    self.exemplars = Exemplars::None;
                    (message, false)
                }
                Exemplars::Native(fields) => match message::next_exemplar(fields) {
                    Ok(Some(message)) => (message, true),
                    Ok(None) | Err(_) => return false,
                },
                Exemplars::Buckets(fields) => match message::next_bucket(fields) {
                    Ok(Some(bucket)) => match bucket.exemplar {
                        Some(message) => (message, true),
                        None => continue,
                    },
                    Ok(None) | Err(_) => return false,
                },
            };
            match fill_exemplar(message, out) {
                Ok(()) if needs_time && out.t.is_none() => (),
                Ok(()) => return true,
                Err(_malformed) => return false,
            }
        }
    }

    /// When the counting began.
    pub(super) fn start_timestamp(&self) -> Option<TimestampMs> {
        self.start
    }

    /// The help of the next family: `None` at the end, `Some(None)` for a family without metrics.
    fn next_family(&mut self) -> Result<Option<Option<Cow<'a, str>>>, ParseError> {
        if self.input.is_at_end() {
            return Ok(None);
        }
        let place = self.input.offset();
        let family = Family::read(self.input.delimited()?)?;
        if !family.has_metrics {
            return Ok(Some(None));
        }
        let wrong = |message: String| ParseError::at_offset(place, message);
        let name = str::from_utf8(family.name)
            .ok()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong(format!("invalid metric name: {}", shown(family.name))))?;
        let help = str::from_utf8(family.help).map_err(|_not_utf8| {
            wrong(format!(
                "invalid help for metric {name:?}: {}",
                shown(family.help)
            ))
        })?;
        let unit = str::from_utf8(family.unit).map_err(|_not_utf8| {
            wrong(format!(
                "invalid unit for metric {name:?}: {}",
                shown(family.unit)
            ))
        })?;
        let kind = family
            .kind
            .map_err(|raw| wrong(format!("unknown metric type for metric {name:?}: {raw}")))?;
        self.family = FamilyHead { name, unit, kind };
        self.metrics = family.metrics;
        self.step = if unit.is_empty() {
            Step::Type
        } else {
            Step::Unit
        };
        Ok(Some(Some(Cow::Borrowed(help))))
    }

    /// Reads the next metric and says how it begins.
    fn next_metric(&mut self) -> Result<Option<Content<'a>>, ParseError> {
        let kind = self.family.kind;
        let Some(metric) = Metric::next(&mut self.metrics, kind)? else {
            self.step = Step::Family;
            return Ok(None);
        };
        self.metric = metric;
        self.exemplars = Exemplars::None;
        self.write_labels_text()?;
        match kind {
            Kind::Counter | Kind::Gauge | Kind::Untyped => {
                let single = Single::read(metric.content, kind)?;
                self.start = single.start;
                self.exemplars = single.exemplar.map_or(Exemplars::None, Exemplars::One);
                Ok(Some(Content::Single(Series {
                    suffix: "",
                    extra: None,
                    v: single.v,
                })))
            }
            Kind::Summary => {
                let summary = Summary::read(metric.content)?;
                self.start = summary.start;
                self.step = Step::SummarySum(summary);
                Ok(Some(Content::Single(Series {
                    suffix: "_count",
                    extra: None,
                    v: summary.float_count(),
                })))
            }
            Kind::Histogram | Kind::GaugeHistogram => {
                let histogram = HistogramMessage::read(metric.content)?;
                self.start = histogram.start;
                let options = self.options.histograms;
                let has_classic = histogram.has_buckets && options.keeps_classic;
                if options.native && histogram.is_native() {
                    self.step = if has_classic {
                        Step::ClassicCount(histogram)
                    } else {
                        Step::Metric
                    };
                    return Ok(Some(Content::Native(histogram)));
                }
                self.step = if options.converts_classic && !options.keeps_classic {
                    Step::Converted(histogram)
                } else {
                    Step::ClassicCount(histogram)
                };
                Ok(Some(Content::Many))
            }
        }
    }

    /// One series of a summary or a classic histogram.
    fn part(&mut self, step: Step<'a>) -> Result<Option<Series>, ParseError> {
        self.exemplars = Exemplars::None;
        let series = |suffix, v| Series {
            suffix,
            extra: None,
            v,
        };
        Ok(Some(match step {
            Step::SummarySum(summary) => {
                self.step = Step::Quantile(summary);
                series("_sum", summary.sum)
            }
            Step::Quantile(mut summary) => {
                let Some((quantile, v)) = summary.next_quantile()? else {
                    self.step = Step::Metric;
                    return Ok(None);
                };
                self.step = Step::Quantile(summary);
                Series {
                    suffix: "",
                    extra: Some(("quantile", format_openmetrics(quantile))),
                    v,
                }
            }
            Step::ClassicCount(histogram) => {
                self.step = Step::ClassicSum(histogram);
                series("_count", histogram.any_count())
            }
            Step::ClassicSum(histogram) => {
                self.step = Step::ClassicBucket(histogram, histogram.fields());
                series("_sum", histogram.sum)
            }
            Step::ClassicBucket(histogram, mut fields) => {
                let bucket = message::next_bucket(&mut fields)?.unwrap_or(message::BucketMessage {
                    upper_bound: f64::INFINITY,
                    count: histogram.any_count(),
                    exemplar: None,
                });
                self.exemplars = bucket.exemplar.map_or(Exemplars::None, Exemplars::One);
                let is_native = self.options.histograms.native && histogram.is_native();
                self.step = if bucket.upper_bound != f64::INFINITY {
                    Step::ClassicBucket(histogram, fields)
                } else if self.options.histograms.converts_classic && !is_native {
                    Step::Converted(histogram)
                } else {
                    Step::Metric
                };
                Series {
                    suffix: "_bucket",
                    extra: Some(("le", format_openmetrics(bucket.upper_bound))),
                    v: bucket.count,
                }
            }
            Step::Family | Step::Unit | Step::Type | Step::Metric | Step::Converted(_) => {
                return Ok(None);
            }
        }))
    }

    fn native(&mut self, message: &HistogramMessage<'a>) -> Result<Entry<'_>, ParseError> {
        let is_gauge = self.family.kind == Kind::GaugeHistogram;
        let sample = native(message, is_gauge).map_err(|error| self.in_family(error))?;
        self.exemplars = if message.has_exemplars {
            Exemplars::Native(message.fields())
        } else {
            Exemplars::Buckets(message.fields())
        };
        Ok(self.yield_histogram(sample))
    }

    fn converted(&mut self, message: &HistogramMessage<'a>) -> Result<Entry<'_>, ParseError> {
        let is_gauge = self.family.kind == Kind::GaugeHistogram;
        let sample = converted(message, is_gauge).map_err(|error| self.in_family(error))?;
        self.step = Step::Metric;
        self.exemplars = if message.has_exemplars {
            Exemplars::Native(message.fields())
        } else {
            Exemplars::Buckets(message.fields())
        };
        Ok(self.yield_histogram(sample))
    }

    fn in_family(&self, mut error: ParseError) -> ParseError {
        let start = format!("histogram {:?}: ", self.family.name);
        error.message.insert_str(0, &start);
        error
    }

    fn yield_series(&mut self, series: Series) -> Entry<'_> {
        let Series { suffix, extra, v } = series;
        self.suffix = suffix;
        self.extra = extra;
        self.write_text();
        let t = self.metric.t;
        let text = &self.text;
        Entry::Series(SeriesLine { text, v, t })
    }

    fn yield_histogram(&mut self, sample: Box<crate::exposition::HistogramSample>) -> Entry<'_> {
        self.suffix = "";
        self.extra = None;
        self.write_text();
        let t = self.metric.t;
        Entry::Histogram(HistogramLine { sample, t })
    }

    /// Checks the labels of the metric and writes what identifies them.
    fn write_labels_text(&mut self) -> Result<(), ParseError> {
        self.labels_text.clear();
        let text = &mut self.labels_text;
        let place = self.metric.offset();
        let wrong = |message| ParseError::at_offset(place, message);
        self.metric.labels(|name, value| {
            let name = str::from_utf8(name)
                .ok()
                .filter(|name| !name.is_empty())
                .ok_or_else(|| wrong(format!("invalid label name: {}", shown(name))))?;
            let value = str::from_utf8(value)
                .map_err(|_not_utf8| wrong(format!("invalid label value: {}", shown(value))))?;
            push_key(text, name);
            push_key(text, value);
            Ok(())
        })
    }

    fn write_text(&mut self) {
        self.text.clear();
        push_key(&mut self.text, self.family.name);
        push_key(&mut self.text, self.suffix);
        self.text.push_str(&self.labels_text);
        if let Some((name, value)) = &self.extra {
            push_key(&mut self.text, name);
            push_key(&mut self.text, value);
        }
    }
}

/// How a metric begins.
enum Content<'a> {
    Single(Series),
    Native(HistogramMessage<'a>),
    /// The step says with what.
    Many,
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Summary => MetricType::Summary,
        Kind::Untyped => MetricType::Unknown,
        Kind::Histogram => MetricType::Histogram,
        Kind::GaugeHistogram => MetricType::GaugeHistogram,
    }
}

fn fill_exemplar(message: Slice<'_>, out: &mut Exemplar) -> Result<(), ParseError> {
    (out.v, out.t) = message::read_exemplar(message)?;
    out.labels.clear();
    each_label(Fields::new(message, "Exemplar"), |name, value| {
        let bad = |_not_utf8| {
            ParseError::at_offset(message.offset, "exemplar is not valid UTF-8".to_owned())
        };
        let (name, value) = (
            str::from_utf8(name).map_err(bad)?,
            str::from_utf8(value).map_err(bad)?,
        );
        out.labels
            .push_with(|arena| arena.push_str(name), |arena| arena.push_str(value));
        Ok::<(), ParseError>(())
    })?;
    out.labels.sort();
    Ok(())
}

/// As much of foreign text as an error may hold.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 100;
    bytes
        .get(..SHOWN_BYTES_MAX)
        .unwrap_or(bytes)
        .escape_ascii()
        .to_string()
}
