//! Instant vectors: the newest sample of each series at each step.
#![expect(
    clippy::indexing_slicing,
    reason = "positions stay below the number of samples"
)]

use std::sync::Arc;

use crate::model::{Interval, Labels, is_stale};
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::{Frame, Head, Row, RowMut, WORD_BITS, count_ones, words_for};
use crate::promql::exec::histogram_stats::without_buckets;
use crate::promql::exec::parallel::{SeriesWork, Sink};
use crate::promql::exec::slide::STEPS_KEPT_MAX;
use crate::promql::exec::source::Samples;
use crate::promql::functions::mixed::Remarks;
use crate::promql::functions::same_times::{Run, SameTimes};
use crate::promql::functions::window::Window;
use crate::promql::functions::{extended, native_rate};
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::Extend;
use crate::promql::plan::{Grid, Leaf, Reading};
use crate::storage::Windows;

/// What a step shows of the sample it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Its value.
    Value,
    /// Its time, in seconds.
    Seconds,
    /// The time of a float, in seconds; a histogram itself.
    SecondsOfFloats,
    /// Since when it counts, in seconds; 0 where that is unknown.
    StartSeconds,
}

/// When each step looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) grid: Grid,
    pub(crate) leaf: Leaf,
    pub(crate) lookback_ms: i64,
    /// How long the longest windows are that the storage has; zero where it has samples.
    pub(crate) window_ms: i64,
    pub(crate) show: Show,
}

impl Look {
    /// The time that step `i` looks at.
    fn time(&self, i: usize) -> i64 {
        self.leaf
            .at
            .unwrap_or_else(|| self.grid.time(i))
            .saturating_sub(self.leaf.offset_ms)
    }

    /// Is it the commonest case by far: many steps, and floats only?
    fn shows_plain_floats(&self, samples: &Samples) -> bool {
        let is_plain = samples.ht.is_empty() && samples.coarse.is_empty();
        is_plain && self.show == Show::Value && self.grid.n > 1
    }

    /// Counts the floats that a row shows of one series more.
    pub(super) fn tell_again(&self, evaluator: &Evaluator, row: Row<'_>, sights: &mut Sights) {
        if self.leaf.extend == Some(Extend::Smoothed) {
            return;
        }
        sights.n_shown += count_ones(row.present) as u64;
        if evaluator.tally.is_per_step() {
            evaluator.tally.row(row, self.grid);
        }
    }

    /// How far behind a step it looks.
    fn after_ms(&self) -> i64 {
        match self.leaf.extend {
            Some(Extend::Smoothed) => self.lookback_ms + self.window_ms,
            Some(Extend::Anchored) | None => 0,
        }
    }

    /// From when to when step `i` reads.
    fn seek(&self, i: usize) -> (i64, i64) {
        let at = self.time(i);
        if self.leaf.extend != Some(Extend::Smoothed) {
            return (at.saturating_sub(self.lookback_ms), at);
        }
        let to = at.saturating_add(self.after_ms());
        (to.saturating_sub(self.windows().length_ms()), to)
    }
}

impl Evaluator {
    /// A selector at every step.
    pub(crate) fn select(&self, leaf: Leaf, grid: Grid, show: Show) -> Result<Frame, QueryError> {
        let whole = Frame::new(grid.n, &self.budget);
        self.select_into(leaf, grid, show, (|frame| frame, whole))
    }

    /// When each step of a selector looks.
    pub(super) fn look(&self, leaf: Leaf, grid: Grid, show: Show) -> Look {
        Look {
            grid,
            leaf,
            lookback_ms: self.context.lookback_ms,
            window_ms: self.window_ms(&leaf),
            show,
        }
    }

    /// The same, handed over a few series at a time; see [`Evaluator::over_series_into`].
    pub(crate) fn select_into<T, S>(
        &self,
        leaf: Leaf,
        grid: Grid,
        show: Show,
        (prepare, sink): (impl Fn(Frame) -> T + Send + Sync + 'static, S),
    ) -> Result<S, QueryError>
    where
        T: Send + 'static,
        S: Sink<T>,
    {
        let look = self.look(leaf, grid, show);
        match self.selected.get(leaf.selector) {
            Some(selected) => self.over_series_into(selected, look, grid.n, (prepare, sink)),
            None => Ok(sink),
        }
    }
}

impl SeriesWork for Look {
    type State = Sights;
    type Out = Frame;

    fn reading(&self) -> Reading {
        self.leaf.reading
    }

    fn windows(&self) -> Windows {
        let at = self.time(0);
        let first = Interval {
            min: at.saturating_sub(self.lookback_ms),
            max: at.saturating_add(self.after_ms()),
        };
        match self.leaf.at {
            Some(_) => Windows::of(first),
            None => Windows {
                first,
                step_ms: self.grid.step_ms,
                n: self.grid.n,
            },
        }
    }

    fn begin(&self, mut frame: Frame, n_series: usize) -> Frame {
        frame.expect_rows(n_series);
        frame
    }

    fn series(
        &self,
        evaluator: &Evaluator,
        (labels, samples): (&Labels, &Samples),
        sights: &mut Sights,
        out: &mut Frame,
    ) -> Result<(), QueryError> {
        let stripped;
        let samples = if self.leaf.only_stats && !samples.ht.is_empty() {
            stripped = without_buckets(samples, (0..self.grid.n).map(|i| self.seek(i)));
            &stripped
        } else {
            samples
        };
        if self.leaf.extend == Some(Extend::Smoothed) {
            let mut row = out.push(Head::new(labels.clone()));
            let remarks = Remarks {
                notes: &evaluator.notes,
                name: labels.metric_name(),
                at: self.leaf.span,
            };
            smooth(samples, self, &remarks, &mut row);
        } else {
            let mut row = out.push(Head::new(labels.clone()));
            let n = match sights.of(samples, self) {
                Some(sights) => sights.show(samples, &mut row),
                None => newest(samples, self, &mut row),
            };
            sights.n_shown += n;
            if evaluator.tally.is_per_step() {
                evaluator.tally.row(out.row(out.len() - 1), self.grid);
            }
        }
        out.settle_last()
    }

    fn end(&self, evaluator: &Evaluator, sights: &mut Sights) {
        evaluator.tally.add(sights.n_shown, sights.n_shown);
    }
}

/// Steps a run should have for copying runs to be less than looking at every step.
const STEPS_PER_RUN: usize = 4;

/// Which sample each step shows of series with the same times.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    times: SameTimes,
    runs: Vec<Run>,
    present: Vec<u64>,
    is_of_use: bool,
    /// Samples that steps were shown so far, of whatever series.
    n_shown: u64,
}

impl Sights {
    /// What the steps show of such a series; none where that is to be found out step by step.
    fn of(&mut self, samples: &Samples, look: &Look) -> Option<&Self> {
        if !look.shows_plain_floats(samples) || STEPS_KEPT_MAX < look.grid.n {
            return None;
        }
        if !self.times.is_of(&samples.t) {
            if !self.times.is_worth_it(&samples.t) {
                return None;
            }
            self.find(&samples.t, look);
        }
        let ends = || samples.v.iter().fold(false, |any, v| any | is_stale(*v));
        (self.is_of_use && !ends()).then_some(self)
    }

    fn find(&mut self, times: &[i64], look: &Look) {
        self.times.keep(times);
        self.runs.clear();
        self.present.clear();
        self.present.resize(words_for(look.grid.n), 0);
        let mut passed = Passed(0);
        for step in 0..look.grid.n {
            let at = look.time(step);
            let Some((position, t)) = passed.newest(times, at) else {
                continue;
            };
            if t <= at.saturating_sub(look.lookback_ms) {
                continue;
            }
            self.present[step / WORD_BITS] |= 1 << (step % WORD_BITS);
            let last = self.runs.last_mut();
            if !last.is_some_and(|run| run.takes(step, position)) {
                self.runs.push(Run::new(step, position));
            }
        }
        self.is_of_use = self.runs.len() * STEPS_PER_RUN <= look.grid.n;
    }

    /// What [`newest`] does for a series that never ends.
    fn show(&self, samples: &Samples, row: &mut RowMut<'_>) -> u64 {
        for run in &self.runs {
            let shown = &samples.v[run.from..];
            let slots = &mut row.values[run.steps()];
            match run.stride {
                0 => slots.fill(shown[0]),
                1 => slots.copy_from_slice(&shown[..slots.len()]),
                stride => {
                    let shown = shown.iter().step_by(stride);
                    slots.iter_mut().zip(shown).for_each(|(slot, v)| *slot = *v);
                }
            }
        }
        row.present.copy_from_slice(&self.present);
        count_ones(row.present) as u64
    }
}

/// The newest sample at or before each step, unless it is too old or says the series ended.
pub(crate) fn newest(samples: &Samples, look: &Look, row: &mut RowMut<'_>) -> u64 {
    if look.shows_plain_floats(samples) {
        return newest_floats(samples, look, row);
    }
    let (mut floats, mut histograms) = (Passed(0), Passed(0));
    let mut n = 0;
    if look.grid.n == 1 {
        let at = look.time(0);
        floats.0 = samples.t.partition_point(|t| *t <= at);
    }
    for i in 0..look.grid.n {
        let at = look.time(i);
        let oldest = |t| at.saturating_sub(samples.lookback_ms(t, look.lookback_ms));
        let float = floats.newest(&samples.t, at);
        let histogram = histograms.newest(&samples.ht, at);
        if let Some((position, t)) = histogram
            && float.is_none_or(|(_, float_t)| float_t < t)
        {
            let histogram = &samples.h[position];
            if t > oldest(t) && !histogram.is_stale() {
                // Whoever asks for times is charged for times.
                n += match look.show {
                    Show::Value | Show::SecondsOfFloats => {
                        row.set_histogram(i, Arc::clone(histogram));
                        histogram.n_samples() as u64
                    }
                    Show::Seconds => {
                        row.set(i, seconds(t));
                        1
                    }
                    Show::StartSeconds => {
                        row.set(i, started(&samples.hst, position));
                        1
                    }
                };
            }
            continue;
        }
        let Some((position, t)) = float else {
            continue;
        };
        let v = samples.v[position];
        if t > oldest(t) && !is_stale(v) {
            n += 1;
            row.set(
                i,
                match look.show {
                    Show::Value => v,
                    Show::Seconds | Show::SecondsOfFloats => seconds(t),
                    Show::StartSeconds => started(&samples.st, position),
                },
            );
        }
    }
    n
}

/// The same where [`Look::shows_plain_floats`].
fn newest_floats(samples: &Samples, look: &Look, row: &mut RowMut<'_>) -> u64 {
    let step_ms = if look.leaf.at.is_some() {
        0
    } else {
        look.grid.step_ms
    };
    let mut at = look.time(0);
    let (mut passed, mut n) = (0, 0);
    let (mut t, mut v, mut is_living) = (i64::MIN, 0.0, false);
    for (steps, word) in row.values.chunks_mut(WORD_BITS).zip(&mut *row.present) {
        let mut bits = 0;
        for (bit, slot) in steps.iter_mut().enumerate() {
            if passed < samples.t.len() && samples.t[passed] <= at {
                while passed < samples.t.len() && samples.t[passed] <= at {
                    passed += 1;
                }
                t = samples.t[passed - 1];
                v = samples.v[passed - 1];
                is_living = !is_stale(v);
            }
            *slot = v;
            let is_there = is_living && t > at.saturating_sub(look.lookback_ms);
            bits |= u64::from(is_there) << bit;
            at = at.saturating_add(step_ms);
        }
        *word = bits;
        n += u64::from(bits.count_ones());
    }
    n
}

fn started(starts: &[i64], position: usize) -> f64 {
    seconds(starts.get(position).copied().unwrap_or(0))
}

/// How many samples of a column lie at or before the steps so far.
struct Passed(usize);

impl Passed {
    /// Position and time of the last one at or before `at`; times asked for ascend.
    #[inline]
    fn newest(&mut self, times: &[i64], at: i64) -> Option<(usize, i64)> {
        while self.0 < times.len() && times[self.0] <= at {
            self.0 += 1;
        }
        let position = self.0.checked_sub(1)?;
        Some((position, times[position]))
    }
}

/// Values on the line between the neighbours of each step.
fn smooth(samples: &Samples, look: &Look, remarks: &Remarks<'_>, row: &mut RowMut<'_>) {
    let mut living = Samples::default();
    samples.copy_without_stale(&mut living);
    let around = |times: &[i64], at: i64| {
        let reach_ms = look.lookback_ms + look.window_ms;
        let from = times.partition_point(|t| *t <= at.saturating_sub(reach_ms));
        let window = from..times.partition_point(|t| *t <= at.saturating_add(reach_ms));
        if look.window_ms == 0 {
            return window;
        }
        living.reached(times, (at, at, look.lookback_ms), window)
    };
    for i in 0..look.grid.n {
        let at = look.time(i);
        let (floats, histograms) = (around(&living.t, at), around(&living.ht, at));
        if !floats.is_empty() && !histograms.is_empty() {
            remarks.mixed();
            continue;
        }
        if !histograms.is_empty() {
            let (t, h) = (&living.ht[histograms.clone()], &living.h[histograms]);
            if let Some(histogram) = native_rate::smooth_at((t, h), at, remarks) {
                row.set_histogram(i, histogram);
            }
            continue;
        }
        let window = Window {
            t: &living.t[floats.clone()],
            v: &living.v[floats.clone()],
            start: at,
            end: at,
            eval_t: at,
            offset: floats.start,
        };
        if let Some(v) = extended::smooth_at(&window, at) {
            row.set(i, v);
        }
    }
}

/// Milliseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "times are far below 2^53 milliseconds"
)]
pub(crate) fn seconds(t: i64) -> f64 {
    t as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::foundation::{Cancel, SystemClock};
    use crate::model::{Labels, stale_nan};
    use crate::promql::limits::Budget;
    use crate::promql::parse::ast::Span;

    fn cells(samples: &Samples, look: &Look, sights: Option<&Sights>) -> (Vec<String>, u64) {
        let clock = Arc::new(SystemClock);
        let budget = Arc::new(Budget::new(1 << 20, Cancel::new(), clock, i64::MAX));
        let mut frame = Frame::new(look.grid.n, &budget);
        let mut row = frame.push(Head::new(Labels::empty()));
        let n = match sights {
            Some(sights) => sights.show(samples, &mut row),
            None => newest(samples, look, &mut row),
        };
        let row = frame.row(0);
        let cell = |step| row.get(step).map_or("-".to_owned(), |v| format!("{v}"));
        ((0..look.grid.n).map(cell).collect(), n)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn steps_show_of_the_next_series_what_looking_at_each_shows(
            pauses in prop::collection::vec(prop_oneof![20 => Just(15_000i64), 2 => 1i64..30_000, 1 => 1i64..900_000], 1..200),
            start in -100_000i64..1_000_000,
            step_ms in prop_oneof![Just(15_000i64), Just(60_000), Just(5_000), 1i64..100_000],
            n in 2usize..200,
            lookback_ms in prop_oneof![Just(300_000i64), 1i64..400_000],
            at in prop::option::of(0i64..2_000_000),
            stale_at in prop::option::of(0usize..200),
        ) {
            let mut t = 0;
            let times: Vec<i64> = pauses.iter().map(|pause| { t += pause; t }).collect();
            let series = |from: f64| Samples {
                v: (0..times.len()).map(|i| from + f64::from(u32::try_from(i).unwrap())).collect(),
                t: times.clone(),
                ..Samples::default()
            };
            let leaf = Leaf {
                selector: 0,
                offset_ms: 0,
                at,
                extend: None,
                span: Span { start: 0, end: 0 },
                only_stats: false,
                reading: Reading::default(),
            };
            let grid = Grid { start, step_ms, n };
            let look = Look { grid, leaf, lookback_ms, window_ms: 0, show: Show::Value };
            let mut sights = Sights::default();
            prop_assert!(sights.of(&series(0.5), &look).is_none(), "nothing is known of the first");
            sights.of(&series(1.5), &look);
            sights.is_of_use = true;
            let mut next = series(2.5);
            prop_assert_eq!(cells(&next, &look, Some(&sights)), cells(&next, &look, None));
            prop_assert!(sights.of(&next, &look).is_some());
            if let Some(slot) = stale_at.and_then(|at| next.v.get_mut(at)) {
                *slot = stale_nan();
                prop_assert!(sights.of(&next, &look).is_none(), "it ends");
            }
            next.t[0] -= 1;
            prop_assert!(sights.of(&next, &look).is_none(), "other times");
        }
    }
}
