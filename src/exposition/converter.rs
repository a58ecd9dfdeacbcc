//! Classic histograms of a text exposition, line by line, to native ones with listed bounds.

use crate::exposition::classic::{Collector, HistogramSample, Part, part_of};
use crate::exposition::entry::{Entry, Exemplar, HistogramLine, LabelBuffer, push_key};
use crate::model::number::parse_go_float;
use crate::model::{METRIC_NAME, MetricType, SeriesKey, TimestampMs};

/// The label of a bucket's bound.
const BOUND: &str = "le";

/// Watches the lines of an exposition go by and puts histograms together.
#[derive(Debug, Clone, Default)]
pub(super) struct Converter {
    /// What the last `# TYPE` spoke of, if of a histogram.
    family: Option<String>,
    group: Option<Group>,
    collector: Collector,
    /// Of the series that belong to the group.
    exemplars: Vec<Exemplar>,
    n_exemplars: usize,
}

/// Series that make one histogram.
#[derive(Debug, Clone)]
struct Group {
    family: String,
    /// All labels but name and bound.
    key: SeriesKey,
    labels: LabelBuffer,
    t: Option<TimestampMs>,
    start: Option<TimestampMs>,
}

/// A histogram that was put together.
#[derive(Debug, Clone)]
pub(super) struct Emitted {
    pub(super) text: String,
    pub(super) labels: LabelBuffer,
    pub(super) start: Option<TimestampMs>,
    /// In reverse: the next one is the last.
    pub(super) exemplars: Vec<Exemplar>,
}

impl Converter {
    /// Is the series `labels` of another histogram than the one being collected?
    pub(super) fn ends_before(&self, labels: &LabelBuffer) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let name = labels.metric_name();
        let family = part_of(name).map_or(name, |(_, family)| family);
        self.family.is_none() || group.family != family || group.key != group_key(labels)
    }

    /// The end of a histogram, if one was being collected and is one.
    pub(super) fn finish(&mut self) -> Option<(HistogramLine, Emitted)> {
        let group = self.group.take()?;
        let converted = self.collector.convert();
        self.collector.clear();
        self.exemplars.truncate(self.n_exemplars);
        self.n_exemplars = 0;
        let mut exemplars = std::mem::take(&mut self.exemplars);
        let sample = converted.ok().filter(has_possible_bounds)?;
        let mut text = String::new();
        for (name, value) in group.labels.iter() {
            push_key(&mut text, name);
            push_key(&mut text, value);
        }
        exemplars.reverse();
        let line = HistogramLine {
            sample: Box::new(sample),
            t: group.t,
        };
        let emitted = Emitted {
            text,
            labels: group.labels,
            start: group.start,
            exemplars,
        };
        Some((line, emitted))
    }

    /// Takes note of what a `# TYPE` says.
    pub(super) fn note(&mut self, entry: &Entry<'_>) {
        if let Entry::Type { name, metric_type } = entry {
            self.family = (*metric_type == MetricType::Histogram).then(|| (*name).to_owned());
        }
    }

    /// Takes a series that is a part of a histogram; false when it is none. `rest` gives start timestamp and exemplars.
    pub(super) fn take(
        &mut self,
        labels: &LabelBuffer,
        (v, t): (f64, Option<TimestampMs>),
        rest: &mut dyn Details,
    ) -> bool {
        let Some((part, family)) = part_of(labels.metric_name()) else {
            return false;
        };
        if self.family.as_deref() != Some(family) {
            return false;
        }
        let bound = match part {
            Part::Bucket => {
                let bound = parse_go_float(labels.value(BOUND)).filter(|bound| !bound.is_nan());
                if bound.is_none() {
                    return false;
                }
                bound
            }
            Part::Count | Part::Sum => None,
        };
        if self.group.is_none() {
            self.group = Some(Group {
                family: family.to_owned(),
                key: group_key(labels),
                labels: base_labels(labels, family),
                t,
                start: rest.start_timestamp(),
            });
        }
        self.take_exemplars(rest);
        match (part, bound) {
            (Part::Bucket, Some(bound)) => self.collector.bucket(bound, v),
            (Part::Sum, _) => self.collector.sum(v),
            (Part::Count, _) | (Part::Bucket, None) => self.collector.count(v),
        }
        true
    }

    fn take_exemplars(&mut self, rest: &mut dyn Details) {
        loop {
            if self.exemplars.len() <= self.n_exemplars {
                self.exemplars.push(Exemplar::default());
            }
            let Some(next) = self.exemplars.get_mut(self.n_exemplars) else {
                return;
            };
            if !rest.next_exemplar(next) {
                return;
            }
            self.n_exemplars += 1;
        }
    }
}

/// What is known of a series besides labels, time and value.
pub(super) trait Details {
    /// When its counting began.
    fn start_timestamp(&mut self) -> Option<TimestampMs>;

    /// Writes the next exemplar; false when there is none.
    fn next_exemplar(&mut self, out: &mut Exemplar) -> bool;
}

/// Labels that the series of one histogram share.
fn group_key(labels: &LabelBuffer) -> SeriesKey {
    SeriesKey::of(
        labels
            .iter()
            .filter(|(name, _)| !matches!(*name, METRIC_NAME | BOUND)),
    )
}

/// The labels of the native histogram.
fn base_labels(labels: &LabelBuffer, family: &str) -> LabelBuffer {
    let mut out = LabelBuffer::new();
    for (name, value) in labels.iter() {
        let value = if name == METRIC_NAME { family } else { value };
        if name != BOUND {
            out.push_with(|arena| arena.push_str(name), |arena| arena.push_str(value));
        }
    }
    out
}

/// Bounds ascend; what is collected in order does.
fn has_possible_bounds(sample: &HistogramSample) -> bool {
    sample.histogram.custom_bounds.is_sorted_by(|a, b| a < b)
}
