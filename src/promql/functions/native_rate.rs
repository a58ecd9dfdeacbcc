//! `rate`, `increase`, `delta`, `irate` and `idelta` where there are native histograms or start times.
#![expect(
    clippy::cast_precision_loss,
    reason = "times are far below 2^53 milliseconds"
)]

use std::sync::Arc;

use crate::model::{Histogram, ResetHint, TimestampMs};
use crate::promql::annotations::HistogramOperation;
use crate::promql::functions::mixed::{
    Either, MixedSample, MixedWindow, Remarks, is_start_overlap, is_start_reset,
};
use crate::promql::value::PointValue;

/// What a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Falls are resets, and values below zero do not exist.
    pub(crate) is_counter: bool,
    /// Divided by the length of the range.
    pub(crate) is_rate: bool,
}

/// The change between the first and the last sample.
enum Change {
    Float(f64),
    Histogram(Histogram),
}

/// What histograms made worth saying; said only when there is a result.
#[derive(Default)]
struct Said {
    not_counter: bool,
    not_gauge: bool,
    overlap: bool,
    reconciled: [bool; 2],
}

/// Where exponential and custom buckets met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clash {
    /// In the first and the last histogram, before anything else was looked at: what these two gave rise to is said.
    Ends,
    /// Anywhere else.
    Between,
}

impl Said {
    fn say(&self, remarks: &Remarks<'_>) {
        if self.not_counter {
            remarks
                .notes
                .histogram_not_counter(remarks.name, remarks.at);
        }
        if self.not_gauge {
            remarks.notes.histogram_not_gauge(remarks.name, remarks.at);
        }
        if self.overlap {
            remarks
                .notes
                .start_time_overlap(remarks.name, 1, remarks.at);
        }
        let operations = [
            HistogramOperation::Addition,
            HistogramOperation::Subtraction,
        ];
        for (operation, reconciled) in operations.into_iter().zip(self.reconciled) {
            if reconciled {
                remarks.reconciled(operation);
            }
        }
    }

    /// `left + right`; nothing when exponential meets custom.
    fn add(&mut self, left: &mut Histogram, right: &Histogram) -> Option<()> {
        self.reconciled[0] |= left.add(right).ok()?.reconciled;
        Some(())
    }

    /// `left - right`; nothing when exponential meets custom.
    fn sub(&mut self, left: &mut Histogram, right: &Histogram) -> Option<()> {
        self.reconciled[1] |= left.sub(right).ok()?.reconciled;
        Some(())
    }
}

/// The change over a range, carried on to its ends where samples come close enough; with a start time inside the range
/// the counter is known to have been zero then.
pub(crate) fn extrapolated(
    w: &MixedWindow<'_>,
    kind: Kind,
    remarks: &Remarks<'_>,
) -> Option<PointValue> {
    if w.is_mixed() {
        remarks.mixed();
        return None;
    }
    let first = w.samples().next()?;
    let n = w.floats.t.len() + w.h.len();
    let last_t = w.floats.t.last().or(w.ht.last()).copied()?;
    let mut change = if w.h.is_empty() {
        Some(Change::Float(float_change(w, kind, remarks)?))
    } else if n > 1 {
        Some(Change::Histogram(histogram_change(w, kind, remarks)?))
    } else {
        None
    };
    let (start, end) = (w.floats.start, w.floats.end);
    let mut sampled = seconds(last_t - first.t);
    let mut to_start = seconds(first.t - start);
    let mut to_end = seconds(end - last_t);
    let between = if n > 1 { sampled / (n - 1) as f64 } else { 0.0 };
    let threshold = between * 1.1;
    if kind.is_counter && first.st != 0 && start < first.st && first.st < first.t {
        to_start = 0.0;
        sampled = seconds(last_t - first.st);
        change = Some(with_first(change, &first, remarks)?);
    } else if n == 1 {
        return None;
    } else {
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if let Some(to_zero) = change.as_ref().and_then(|change| to_zero(change, &first))
            && kind.is_counter
            && sampled * to_zero < to_start
        {
            to_start = sampled * to_zero;
        }
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if kind.is_rate {
        factor /= w.floats.range_seconds();
    }
    Some(match change? {
        Change::Float(v) => PointValue::Float(v * factor),
        Change::Histogram(histogram) => PointValue::Histogram(Arc::new(histogram.scale(factor))),
    })
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// How far back, in lengths of the sampled part, a counter with this slope was zero.
fn to_zero(change: &Change, first: &MixedSample<'_>) -> Option<f64> {
    let (grown, at_first) = match (change, first.value) {
        (Change::Float(grown), Either::Float(v)) => (*grown, v),
        (Change::Histogram(grown), Either::Histogram(first)) => (grown.count, first.count),
        _ => return None,
    };
    (grown > 0.0 && at_first >= 0.0).then(|| at_first / grown)
}

/// The change when the counter was zero before the first sample.
fn with_first(
    change: Option<Change>,
    first: &MixedSample<'_>,
    remarks: &Remarks<'_>,
) -> Option<Change> {
    Some(match (change, first.value) {
        (Some(Change::Float(v)), Either::Float(first)) => Change::Float(v + first),
        (Some(Change::Histogram(mut histogram)), Either::Histogram(first)) => {
            let mut said = Said::default();
            if said.add(&mut histogram, first).is_none() {
                remarks.mixed_schemas();
                return None;
            }
            said.say(remarks);
            Change::Histogram(histogram)
        }
        (_, Either::Histogram(first)) => Change::Histogram(Histogram::clone(first)),
        (_, Either::Float(first)) => Change::Float(first),
    })
}

fn float_change(w: &MixedWindow<'_>, kind: Kind, remarks: &Remarks<'_>) -> Option<f64> {
    let (first, last) = (w.floats.v.first()?, w.floats.v.last()?);
    let mut value = last - first;
    if !kind.is_counter {
        return Some(value);
    }
    let mut said = Said::default();
    let mut samples = w.samples();
    let mut before = samples.next()?;
    for after in samples {
        said.overlap |= is_start_overlap(&before, &after);
        if let (Either::Float(left), Either::Float(right)) = (before.value, after.value)
            && (right < left || is_start_reset(&before, &after))
        {
            value += left;
        }
        before = after;
    }
    said.say(remarks);
    Some(value)
}

/// The change between the first and the last of at least two histograms; what a counter lost at resets is added.
fn histogram_change(w: &MixedWindow<'_>, kind: Kind, remarks: &Remarks<'_>) -> Option<Histogram> {
    let [first, between @ .., last] = w.h else {
        return None;
    };
    let mut said = Said::default();
    let change = change_or_clash(w, (first, between, last), kind, &mut said);
    if change.is_err() {
        remarks.mixed_schemas();
    }
    if !matches!(change, Err(Clash::Between)) {
        said.say(remarks);
    }
    change.ok()
}

fn change_or_clash(
    w: &MixedWindow<'_>,
    (first, between, last): (&Arc<Histogram>, &[Arc<Histogram>], &Arc<Histogram>),
    kind: Kind,
    said: &mut Said,
) -> Result<Histogram, Clash> {
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    let before_reset;
    let mut from: &Histogram = first;
    if kind.is_counter {
        said.not_counter = is_gauge(first) || is_gauge(last);
        let second = between.first().unwrap_or(last);
        let mut samples = w.samples();
        let pair = samples.next().zip(samples.next());
        if pair.is_some_and(|(before, now)| is_start_reset(&before, &now))
            || second.detect_reset(first)
        {
            // Nothing is known of the first but that it was before a reset: its layout does not matter.
            before_reset = Histogram {
                schema: second.schema,
                custom_bounds: Arc::clone(&second.custom_bounds),
                ..Histogram::default()
            };
            from = &before_reset;
        }
    }
    let has_custom = from.has_custom_buckets();
    if last.has_custom_buckets() != has_custom {
        return Err(Clash::Ends);
    }
    let mut schema = last.schema.min(from.schema);
    if kind.is_counter {
        for histogram in between {
            if histogram.has_custom_buckets() != has_custom {
                return Err(Clash::Between);
            }
            said.not_counter |= is_gauge(histogram);
            schema = schema.min(histogram.schema);
        }
    } else {
        said.not_gauge = !is_gauge(first) || !is_gauge(last);
    }
    let mut change = Histogram::clone(last);
    change.reduce_to(schema);
    said.sub(&mut change, from).ok_or(Clash::Between)?;
    if kind.is_counter {
        restore(w, from, &mut change, said).ok_or(Clash::Between)?;
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    Ok(change)
}

/// Adds what a counter lost at resets, `from` standing for the first sample. Nothing when exponential and custom buckets
/// meet.
fn restore<'a>(
    w: &MixedWindow<'a>,
    mut from: &'a Histogram,
    change: &mut Histogram,
    said: &mut Said,
) -> Option<()> {
    let mut samples = w.samples();
    let mut before = samples.next()?;
    for after in samples {
        said.overlap |= is_start_overlap(&before, &after);
        if let Either::Histogram(histogram) = after.value {
            if is_start_reset(&before, &after) || histogram.detect_reset(from) {
                said.add(change, from)?;
            }
            from = histogram;
        }
        before = after;
    }
    Some(())
}

/// The change between the last two samples; per second and with resets restored for `is_counter`.
pub(crate) fn instant(
    w: &MixedWindow<'_>,
    is_counter: bool,
    remarks: &Remarks<'_>,
) -> Option<PointValue> {
    let (before, now) = w.last_two()?;
    let between = now.t - before.t;
    if between == 0 {
        return None;
    }
    match (before.value, now.value) {
        (Either::Float(left), Either::Float(right)) => {
            let is_reset = is_counter && (right < left || is_start_reset(&before, &now));
            let change = if is_reset { right } else { right - left };
            let per = if is_counter { seconds(between) } else { 1.0 };
            Some(PointValue::Float(change / per))
        }
        (Either::Histogram(left), Either::Histogram(right)) => {
            let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
            let mut said = Said {
                not_counter: is_counter && (is_gauge(left) || is_gauge(right)),
                not_gauge: !(is_counter || is_gauge(left) && is_gauge(right)),
                ..Said::default()
            };
            let mut change = Histogram::clone(right);
            let is_reset =
                is_counter && (is_start_reset(&before, &now) || right.detect_reset(left));
            let fits = is_reset || said.sub(&mut change, left).is_some();
            said.say(remarks);
            if !fits {
                remarks.mixed_schemas();
                return None;
            }
            change.reset_hint = ResetHint::Gauge;
            change.compact();
            if is_counter {
                change = change.divide(seconds(between));
            }
            Some(PointValue::Histogram(Arc::new(change)))
        }
        _ => {
            remarks.mixed();
            None
        }
    }
}

/// The line between two neighbours, at `t`. A counter that was reset between them began again at zero.
pub(crate) fn between(
    (t0, left): (TimestampMs, &Histogram),
    (t1, right): (TimestampMs, &Histogram),
    t: TimestampMs,
    is_counter: bool,
    remarks: &Remarks<'_>,
) -> Option<Histogram> {
    if t == t0 {
        return Some(left.clone());
    }
    if t == t1 {
        return Some(right.clone());
    }
    let part = (t - t0) as f64 / (t1 - t0) as f64;
    if is_counter && right.detect_reset(left) {
        return Some(right.scale(part));
    }
    let mut said = Said::default();
    let mut line = right.clone();
    let fits = said.sub(&mut line, left).is_some();
    let mut line = line.scale(part);
    if !fits || said.add(&mut line, left).is_none() {
        remarks.mixed_schemas();
        return None;
    }
    said.say(remarks);
    Some(line)
}

/// A smoothed instant value: on the line between the neighbours, or the one before when there is none after.
pub(crate) fn smooth_at(
    (times, histograms): (&[TimestampMs], &[Arc<Histogram>]),
    t: TimestampMs,
    remarks: &Remarks<'_>,
) -> Option<Arc<Histogram>> {
    let after = times.partition_point(|here| *here < t);
    let next = times.get(after).zip(histograms.get(after));
    if let Some((next_t, histogram)) = next
        && *next_t == t
    {
        return Some(Arc::clone(histogram));
    }
    let before = after.checked_sub(1)?;
    let (before_t, left) = (*times.get(before)?, histograms.get(before)?);
    let Some((next_t, right)) = next else {
        // What it says of the sample before it is not true of a value that is repeated.
        return Some(Arc::new(Histogram {
            reset_hint: ResetHint::Unknown,
            ..Histogram::clone(left)
        }));
    };
    if left.has_custom_buckets() != right.has_custom_buckets() {
        remarks.mixed_schemas();
        return None;
    }
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    let is_counter = !is_gauge(left) || !is_gauge(right);
    let line = between((before_t, left), (*next_t, right), t, is_counter, remarks)?;
    Some(Arc::new(line))
}

/// The samples that an anchored or smoothed range is made of, and the histograms at its edges.
struct Edges {
    first: usize,
    last: usize,
    left: Histogram,
    right: Histogram,
}

/// The change from one edge of an `anchored` or `smoothed` range to the other; nothing is carried on beyond samples.
pub(crate) fn extended(
    w: &MixedWindow<'_>,
    is_smoothed: bool,
    kind: Kind,
    remarks: &Remarks<'_>,
) -> Option<PointValue> {
    if w.is_mixed() {
        remarks.mixed();
        return None;
    }
    let edges = edges(w, is_smoothed, kind.is_counter, remarks)?;
    let mut said = Said::default();
    if !kind.is_counter {
        let hints = [edges.left.reset_hint, edges.right.reset_hint];
        said.not_gauge = hints != [ResetHint::Gauge; 2];
    }
    let Some(mut change) = change_between(w, &edges, (is_smoothed, kind), &mut said) else {
        said.say(remarks);
        remarks.mixed_schemas();
        return None;
    };
    said.say(remarks);
    if kind.is_rate {
        change = change.divide(w.floats.range_seconds());
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    Some(PointValue::Histogram(Arc::new(change)))
}

fn edges(
    w: &MixedWindow<'_>,
    is_smoothed: bool,
    is_counter: bool,
    remarks: &Remarks<'_>,
) -> Option<Edges> {
    let (start, end) = (w.floats.start, w.floats.end);
    let mut last = w.h.len().checked_sub(1)?;
    let before_last = w.ht.get(..last)?;
    let first = before_last
        .partition_point(|t| *t <= start)
        .saturating_sub(1);
    if is_smoothed {
        last = before_last.partition_point(|t| *t < end);
    }
    let (first_t, last_t) = (*w.ht.get(first)?, *w.ht.get(last)?);
    if last_t <= start || (is_smoothed && first_t > end) {
        return None;
    }
    let inside = w.h.get(first..=last)?;
    let has_custom = inside.first()?.has_custom_buckets();
    for histogram in inside {
        if histogram.has_custom_buckets() != has_custom {
            remarks.mixed_schemas();
            return None;
        }
        if is_counter && histogram.reset_hint == ResetHint::Gauge {
            remarks
                .notes
                .histogram_not_counter(remarks.name, remarks.at);
        }
    }
    let at = |i: usize| Some((*w.ht.get(i)?, &**w.h.get(i)?));
    let left = if is_smoothed && first_t < start {
        between(at(first)?, at(first + 1)?, start, is_counter, remarks)?
    } else {
        at(first)?.1.clone()
    };
    let right = if is_smoothed && last > 0 && last_t > end {
        between(at(last - 1)?, at(last)?, end, is_counter, remarks)?
    } else {
        at(last)?.1.clone()
    };
    Some(Edges {
        first,
        last,
        left,
        right,
    })
}

/// Nothing when exponential and custom buckets meet.
fn change_between(
    w: &MixedWindow<'_>,
    edges: &Edges,
    (is_smoothed, kind): (bool, Kind),
    said: &mut Said,
) -> Option<Histogram> {
    let mut change = edges.right.clone();
    said.sub(&mut change, &edges.left)?;
    if !kind.is_counter {
        return Some(change);
    }
    // The edges stand for the first and the last sample, so only what lies between them is looked at.
    let mut next = edges.first + 1;
    let mut before = &edges.left;
    if is_smoothed
        && *w.ht.get(edges.first)? < w.floats.start
        && w.h.get(next)?.detect_reset(w.h.get(edges.first)?)
    {
        // The reset lies across the left edge, which took it into account.
        before = w.h.get(next)?;
        next += 1;
    }
    if next > edges.last {
        // The edges lie between the same two samples, or are one sample.
        return Some(change);
    }
    let mut lost: Option<Histogram> = None;
    let between = w.h.get(next..edges.last).unwrap_or_default();
    for after in between.iter().map(|h| &**h).chain([&edges.right]) {
        if after.detect_reset(before) {
            match &mut lost {
                Some(lost) => said.add(lost, before)?,
                None => lost = Some(before.clone()),
            }
        }
        before = after;
    }
    if let Some(lost) = lost {
        said.add(&mut change, &lost)?;
    }
    Some(change)
}
