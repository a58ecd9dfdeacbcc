//! The counters of chunks that follow one another as one counter that never falls.

use crate::model::TimestampMs;

/// Chains counters, of raw chunks or of aggregates. A sample at the time of the one before is the value that the last
/// raw sample really had: what comes next is compared with it.
#[derive(Debug, Default)]
pub(crate) struct CounterChain {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    t: TimestampMs,
    /// What was there.
    v: f64,
    /// What came of it.
    total: f64,
}

impl CounterChain {
    /// Appends what the samples of the next chunk make of the counter.
    pub(crate) fn add(
        &mut self,
        times: &[TimestampMs],
        values: &[f64],
        (out_t, out_v): (&mut Vec<TimestampMs>, &mut Vec<f64>),
    ) {
        for (&t, &v) in times.iter().zip(values) {
            if v.is_nan() {
                continue;
            }
            let total = match &mut self.last {
                None => v,
                Some(last) if last.t < t => last.total + if last.v <= v { v - last.v } else { v },
                Some(last) => {
                    if last.t == t {
                        last.v = v;
                    }
                    continue;
                }
            };
            self.last = Some(Last { t, v, total });
            out_t.push(t);
            out_v.push(total);
        }
    }

    /// The value of the last raw sample.
    pub(crate) fn last_value(&self) -> Option<f64> {
        self.last.map(|last| last.v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_within_and_between_chunks_are_added_up() {
        let mut chain = CounterChain::default();
        let (mut t, mut v) = (Vec::new(), Vec::new());
        let nan = f64::NAN;
        // The first window ends at 4; the true last value there was 3, after a reset.
        chain.add(&[1, 2, 4, 4], &[5.0, nan, 10.0, 3.0], (&mut t, &mut v));
        // From 3 to 7 is no reset, though 7 is below 10; then one, and a sample that goes back in time.
        chain.add(&[6, 8, 7, 9], &[7.0, 2.0, 50.0, 2.0], (&mut t, &mut v));
        assert_eq!(t, [1, 4, 6, 8, 9]);
        assert_eq!(v, [5.0, 10.0, 14.0, 16.0, 16.0]);
        assert_eq!(chain.last_value(), Some(2.0));
    }
}
