//! `rate`, `increase`, `delta`, `irate` and `idelta`.
#![expect(
    clippy::cast_precision_loss,
    reason = "times are far below 2^53 milliseconds"
)]

use std::ops::Range;

use crate::promql::functions::same_times::{Run, SameTimes};
use crate::promql::functions::window::Window;
use crate::storage::ResolutionSlice;

/// The falls of a counter: found once per series, looked up per window.
#[derive(Debug, Default)]
pub(crate) struct Falls {
    /// Positions whose value is below the one before, ascending, with that one.
    at: Vec<(usize, f64)>,
    /// How many of them lie before any window still to come.
    passed: usize,
    /// Where samples are windows, and how long those are.
    coarse: Vec<ResolutionSlice>,
    /// How the last window was carried on.
    carry: Option<Carry>,
}

impl Falls {
    /// All falls of a series; reuses the memory of the last one. `coarse` tells where samples are windows, in
    /// order.
    pub(crate) fn find(&mut self, v: &[f64], coarse: &[ResolutionSlice]) {
        self.at.clear();
        self.passed = 0;
        self.coarse.clear();
        self.coarse.extend_from_slice(coarse);
        let later = v.get(1..).unwrap_or_default();
        // Without a branch, for most series never fall.
        if !v
            .iter()
            .zip(later)
            .fold(false, |any, (previous, v)| any | (v < previous))
        {
            return;
        }
        for (i, (previous, v)) in v.iter().zip(later).enumerate() {
            if v < previous {
                self.at.push((i + 1, *previous));
            }
        }
    }

    /// How long the window is that the sample at `t` stands for; zero for a sample as scraped.
    fn window_ms(&self, t: i64) -> i64 {
        let n_before = self.coarse.partition_point(|slice| slice.interval.min <= t);
        let slice = n_before.checked_sub(1).and_then(|at| self.coarse.get(at));
        slice
            .filter(|slice| t <= slice.interval.max)
            .map_or(0, |slice| slice.resolution.as_ms())
    }

    /// Adds what was lost within a window, of which the first position and the length are told, to `value`, fall by fall.
    /// Windows must come in ascending order.
    #[inline]
    fn restore(&mut self, mut value: f64, (offset, len): (usize, usize)) -> f64 {
        while self
            .at
            .get(self.passed)
            .is_some_and(|(position, _)| *position <= offset)
        {
            self.passed += 1;
        }
        for (position, before) in self.at.iter().skip(self.passed) {
            if *position >= offset + len {
                break;
            }
            value += before;
        }
        value
    }
}

/// The change over a range, carried on to its ends where samples come close enough.
///
/// `falls` makes it a counter, `is_rate` divides by the length of the range.
#[inline]
pub(crate) fn extrapolated(
    w: &Window<'_>,
    falls: Option<&mut Falls>,
    is_rate: bool,
) -> Option<f64> {
    let ((first_t, first), (last_t, last)) = w.ends()?;
    let mut value = last - first;
    let lie = Lie::of((first_t, last_t), w, is_rate);
    let Some(falls) = falls else {
        return Some(value * Carry::of(&lie).factor);
    };
    let lie = Lie {
        windows_ms: (falls.window_ms(first_t), falls.window_ms(last_t)),
        ..lie
    };
    value = falls.restore(value, (w.offset, w.v.len()));
    if falls.carry.as_ref().is_none_or(|known| known.lie != lie) {
        falls.carry = Some(Carry::of(&lie));
    }
    let carry = falls.carry.as_ref()?;
    Some(carry.of_counter(value, first))
}

/// Windows of one series, kept for the next: those of one target have their times in common, and then only values differ.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    times: SameTimes,
    runs: Vec<LaidRun>,
    /// Those in a row that are alike are one.
    carries: Vec<Carry>,
    n: u64,
    widest: usize,
}

/// Windows of as many samples, at least two, whose changes are carried on as far.
#[derive(Debug, Clone, Copy)]
struct LaidRun {
    /// The first sample of each window.
    firsts: Run,
    len: usize,
    carry: usize,
}

impl Laid {
    /// Are these the times of the series that is kept?
    pub(crate) fn is_of(&self, times: &[i64]) -> bool {
        self.times.is_of(times)
    }

    /// Has the next series probably the times of this one?
    pub(crate) fn is_worth_it(&mut self, times: &[i64]) -> bool {
        self.times.is_worth_it(times)
    }

    /// Windows of a series of `times` follow.
    pub(crate) fn begin(&mut self, times: &[i64]) {
        self.times.keep(times);
        self.runs.clear();
        self.carries.clear();
        self.n = 0;
        self.widest = 0;
    }

    /// The window of `step`.
    pub(crate) fn add(&mut self, step: usize, w: &Window<'_>, is_rate: bool) {
        self.n += w.t.len() as u64;
        self.widest = self.widest.max(w.t.len());
        let Some(((first_t, _), (last_t, _))) = w.ends() else {
            return;
        };
        let lie = Lie::of((first_t, last_t), w, is_rate);
        if self.carries.last().is_none_or(|last| last.lie != lie) {
            self.carries.push(Carry::of(&lie));
        }
        let (len, carry) = (w.t.len(), self.carries.len() - 1);
        let last = self.runs.last_mut();
        let last = last.filter(|run| (run.len, run.carry) == (len, carry));
        if !last.is_some_and(|run| run.firsts.takes(step, w.offset)) {
            let firsts = Run::new(step, w.offset);
            self.runs.push(LaidRun { firsts, len, carry });
        }
    }

    /// Samples in all windows, and the most in one.
    pub(crate) fn extent(&self) -> (u64, usize) {
        (self.n, self.widest)
    }

    /// Which steps have a change.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Range<usize>> {
        self.runs.iter().map(|run| run.firsts.steps())
    }

    /// The change at every step that has one, of a series with these values, into its place among the steps.
    #[inline]
    pub(crate) fn changes(&self, v: &[f64], falls: &mut Falls, steps: &mut [f64]) {
        for run in &self.runs {
            let Run { from, stride, .. } = run.firsts;
            let out = steps.get_mut(run.firsts.steps());
            let (Some(out), Some(carry)) = (out, self.carries.get(run.carry)) else {
                continue;
            };
            let firsts = v.get(from..).unwrap_or_default();
            let lasts = firsts.get(run.len - 1..).unwrap_or_default();
            // Most counters neither fall nor begin at zero: then each change is a difference times a factor.
            let is_done = falls.at.is_empty()
                && match stride {
                    1 => carry.of_far_counters(firsts.iter().zip(lasts), out),
                    0 => false,
                    stride => {
                        let firsts = firsts.iter().step_by(stride);
                        carry.of_far_counters(firsts.zip(lasts.iter().step_by(stride)), out)
                    }
                };
            if is_done {
                continue;
            }
            for (i, out) in out.iter_mut().enumerate() {
                let from = from + i * stride;
                let window = v.get(from..from + run.len).unwrap_or_default();
                if let (Some(first), Some(last)) = (window.first(), window.last()) {
                    let value = falls.restore(last - first, (from, run.len));
                    *out = carry.of_counter(value, *first);
                }
            }
        }
    }
}

/// How samples lie in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lie {
    to_start_ms: i64,
    to_end_ms: i64,
    sampled_ms: i64,
    n: usize,
    /// How long the windows are that the first and the last sample stand for.
    windows_ms: (i64, i64),
    is_rate: bool,
}

impl Lie {
    /// Of samples as scraped.
    fn of((first_t, last_t): (i64, i64), w: &Window<'_>, is_rate: bool) -> Self {
        Self {
            to_start_ms: first_t - w.start,
            to_end_ms: w.end - last_t,
            sampled_ms: last_t - first_t,
            n: w.t.len(),
            windows_ms: (0, 0),
            is_rate,
        }
    }
}

/// How far a change is carried on; the same for windows in which samples lie the same, and those are many.
#[derive(Debug, Clone, Copy)]
struct Carry {
    lie: Lie,
    sampled: f64,
    to_start: f64,
    to_end: f64,
    factor: f64,
}

impl Carry {
    fn of(lie: &Lie) -> Self {
        let mut to_start = lie.to_start_ms as f64 / 1000.0;
        let mut to_end = lie.to_end_ms as f64 / 1000.0;
        let sampled = lie.sampled_ms as f64 / 1000.0;
        let between = sampled / (lie.n - 1) as f64;
        // Where windows meet raw samples the mean is that of the many.
        let wider = |window_ms: i64| between.max(window_ms as f64 / 1000.0);
        let (at_start, at_end) = (wider(lie.windows_ms.0), wider(lie.windows_ms.1));
        if to_start >= at_start * 1.1 {
            to_start = at_start / 2.0;
        }
        if to_end >= at_end * 1.1 {
            to_end = at_end / 2.0;
        }
        let mut carry = Self {
            lie: *lie,
            sampled,
            to_start,
            to_end,
            factor: 0.0,
        };
        carry.factor = carry.factor_from(to_start);
        carry
    }

    /// What a counter that began at `first` and gained `value` gained over the whole range.
    #[inline]
    fn of_counter(&self, value: f64, first: f64) -> f64 {
        // Where it began at or above what it gained, zero lies further back than it was sampled.
        let is_far_from_zero = first >= value && self.sampled >= self.to_start;
        if value > 0.0 && first >= 0.0 && !is_far_from_zero {
            // A counter does not go below zero, so do not carry it on to before it was zero.
            let to_zero = self.sampled * (first / value);
            if to_zero < self.to_start {
                return value * self.factor_from(to_zero);
            }
        }
        value * self.factor
    }

    /// What counters that never fell gained, of which the first and the last value are told; false where any of them began
    /// near zero, so that [`Self::of_counter`] has to be asked. Without branches, so that several are computed at once.
    #[inline]
    fn of_far_counters<'a>(
        &self,
        ends: impl Iterator<Item = (&'a f64, &'a f64)>,
        out: &mut [f64],
    ) -> bool {
        let is_long = self.sampled >= self.to_start;
        let mut is_any_near = false;
        for (out, (first, last)) in out.iter_mut().zip(ends) {
            let value = last - first;
            let is_far = is_long & (*first >= value);
            is_any_near |= (value > 0.0) & (*first >= 0.0) & !is_far;
            *out = value * self.factor;
        }
        !is_any_near
    }

    fn factor_from(&self, to_start: f64) -> f64 {
        let lie = &self.lie;
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        if lie.is_rate {
            let range_ms = lie.to_start_ms + lie.sampled_ms + lie.to_end_ms;
            factor / (range_ms as f64 / 1000.0)
        } else {
            factor
        }
    }
}

/// The change between the last two samples; per second and with falls restored for `is_counter`.
pub(crate) fn instant(w: &Window<'_>, is_counter: bool) -> Option<f64> {
    let previous = w.t.len().checked_sub(2)?;
    let (t0, t1) = (*w.t.get(previous)?, *w.t.last()?);
    let (v0, v1) = (*w.v.get(previous)?, *w.v.last()?);
    let between = t1 - t0;
    if between == 0 {
        return None;
    }
    if !is_counter {
        return Some(v1 - v0);
    }
    let change = if v1 < v0 { v1 } else { v1 - v0 };
    Some(change / (between as f64 / 1000.0))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;

    fn window<'a>(t: &'a [i64], v: &'a [f64], start: i64, end: i64) -> Window<'a> {
        Window {
            t,
            v,
            start,
            end,
            eval_t: end,
            offset: 0,
        }
    }

    fn increase(w: &Window<'_>) -> Option<f64> {
        let mut falls = Falls::default();
        falls.find(w.v, &[]);
        extrapolated(w, Some(&mut falls), false)
    }

    #[test]
    fn a_counter_is_carried_on_to_both_ends_but_not_below_zero() {
        let w = window(&[20_000, 40_000], &[10.0, 20.0], 0, 60_000);
        assert_eq!(increase(&w), Some(30.0));
        let w = window(&[20_000, 40_000], &[0.0, 10.0], 0, 60_000);
        assert_eq!(increase(&w), Some(20.0));
        assert_eq!(extrapolated(&w, None, false), Some(30.0));
        assert_eq!(extrapolated(&w, None, true), Some(0.5));
    }

    #[test]
    fn what_a_counter_lost_comes_back() {
        let t: Vec<i64> = (0..7).map(|i| i * 300_000).collect();
        let w = window(&t, &[0.0, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0], 0, 1_800_000);
        assert_eq!(increase(&w), Some(7.0));
    }

    #[test]
    fn falls_before_a_window_are_not_its_own() {
        let mut falls = Falls::default();
        let v = [5.0, 1.0, 2.0, 1.0, 4.0];
        falls.find(&v, &[]);
        assert_eq!(falls.restore(0.0, (0, 3)), 5.0);
        assert_eq!(falls.restore(0.0, (1, 3)), 2.0);
        assert_eq!(falls.restore(0.0, (3, 2)), 0.0);
    }

    #[test]
    fn windows_that_are_kept_change_as_those_that_are_looked_for() {
        // Windows that lie alike one by one, all of them, and every other one of which is left out.
        for (jitter_ms, step_ms) in [(3, 9_000), (1, 10_000), (1, 20_000), (1, 5_000)] {
            kept_windows_change_as_others(jitter_ms, step_ms);
        }
    }

    fn kept_windows_change_as_others(jitter_ms: i64, step_ms: i64) {
        let t: Vec<i64> = (0..50).map(|i| i * 10_000 + i % jitter_ms).collect();
        // Rising from afar, rising from zero, and falling every now and then, near zero and far from it.
        let values = [(1e6, 1000), (0.0, 1000), (3.0, 7), (1e6, 7)].map(|(from, period)| {
            let value = |i: u32| from + f64::from(i % period) * 2.5;
            (0..50).map(value).collect::<Vec<f64>>()
        });
        let windows: Vec<(i64, i64)> = (-3..100)
            .map(|i| (i * step_ms + 7, i * step_ms + 45_007))
            .collect();
        let of = |v: &[f64], (start, end): (i64, i64)| {
            let lo = t.partition_point(|t| *t <= start);
            let hi = t.partition_point(|t| *t <= end);
            (lo, hi, v[lo..hi].to_vec())
        };
        for is_rate in [true, false] {
            let mut laid = Laid::default();
            assert_eq!([false, true], [(); 2].map(|()| laid.is_worth_it(&t)));
            laid.begin(&t);
            for (step, (start, end)) in windows.iter().copied().enumerate() {
                let (lo, hi, v) = of(&values[0], (start, end));
                let w = Window {
                    offset: lo,
                    ..window(&t[lo..hi], &v, start, end)
                };
                laid.add(step, &w, is_rate);
            }
            assert!(laid.is_of(&t) && !laid.is_of(&t[1..]));
            for v in &values {
                let mut falls = Falls::default();
                falls.find(v, &[]);
                let mut changes = vec![f64::NAN; windows.len()];
                laid.changes(v, &mut falls, &mut changes);
                let kept = laid.steps().flatten();
                let kept: Vec<_> = kept.map(|step| (step, changes[step].to_bits())).collect();
                falls.find(v, &[]);
                let mut looked_for = Vec::new();
                for (step, (start, end)) in windows.iter().copied().enumerate() {
                    let (lo, hi, v) = of(v, (start, end));
                    let w = Window {
                        offset: lo,
                        ..window(&t[lo..hi], &v, start, end)
                    };
                    let change = extrapolated(&w, Some(&mut falls), is_rate);
                    looked_for.extend(change.map(|v| (step, v.to_bits())));
                }
                assert!(looked_for.len() > 20);
                assert_eq!(kept, looked_for);
            }
        }
    }

    #[test]
    fn the_last_two_samples_make_an_instant_rate() {
        let w = window(&[0, 10_000, 20_000], &[0.0, 50.0, 20.0], -1, 20_000);
        assert_eq!(instant(&w, true), Some(2.0));
        assert_eq!(instant(&w, false), Some(-30.0));
        assert_eq!(instant(&window(&[0], &[0.0], -1, 0), true), None);
    }
}
