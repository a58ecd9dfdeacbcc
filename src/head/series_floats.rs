//! Many floats of one series at once, as a replay has them.

use crate::head::open_chunk::{ChunkRules, Value, ValueKind};
use crate::head::series::{CommitPoint, Pushed, SeriesState};
use crate::model::{Interval, Sample, SampleTime, TimestampMs};

/// What happened to several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PushedFloats {
    /// So many are in.
    pub(crate) n_appended: usize,
    /// Chunks begun.
    pub(crate) n_chunks: usize,
    /// Chunks closed.
    pub(crate) n_closed: usize,
    /// From the first to the last that are in.
    pub(crate) span: Option<Interval>,
}

impl PushedFloats {
    fn add(&mut self, n: usize, min: TimestampMs, max: TimestampMs) {
        self.n_appended += n;
        // They come in order.
        let min = self.span.map_or(min, |span| span.min);
        self.span = Some(Interval { min, max });
    }
}

impl SeriesState {
    /// What [`SeriesState::push`] does with each of them, for samples that all may see. The first chunk will have about
    /// `n_bytes`; zero where nothing is known of it.
    pub(crate) fn push_floats(
        &mut self,
        floats: &[Sample],
        at_start: CommitPoint,
        (rules, n_bytes): (ChunkRules, usize),
    ) -> PushedFloats {
        debug_assert_eq!(at_start.id, 0, "who may see them is not noted");
        let mut pushed = PushedFloats::default();
        let mut rest = floats;
        while let Some(first) = rest.first() {
            let open = self.open.as_mut();
            let n_next = open.map_or(0, |open| open.append_floats(rest));
            if let Some(last) = n_next.checked_sub(1).and_then(|last| rest.get(last)) {
                (self.kind, self.is_custom) = (ValueKind::Float, false);
                pushed.add(n_next, first.t, last.t);
                rest = rest.get(n_next..).unwrap_or_default();
                continue;
            }
            let had_open = self.has_open();
            let at = SampleTime::from(first.t);
            match self.push(at, Value::Float(first.v), at_start, rules) {
                Ok(Pushed::Appended) => {
                    pushed.n_chunks += usize::from(!had_open);
                    pushed.add(1, first.t, first.t);
                    if !had_open && let Some(open) = &mut self.open {
                        open.expect_bytes(n_bytes);
                    }
                }
                Ok(Pushed::AppendedAndClosed) => {
                    pushed.n_chunks += 1;
                    pushed.n_closed += 1;
                    pushed.add(1, first.t, first.t);
                }
                Ok(Pushed::Same) | Err(_) => (),
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        self.forget_evenness();
        pushed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::chunk_files::ChunkFiles;

    const AT: CommitPoint = CommitPoint {
        id: 0,
        oldest_view: 0,
    };

    fn chunks(state: &SeriesState, files: &ChunkFiles) -> String {
        let slices = state.slices(Interval::ALL, u64::MAX, files, |_| ());
        format!("{slices:?} {:?} {:?}", state.kind, state.open)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn floats_pushed_together_leave_the_chunks_that_one_by_one_leave(
            samples in prop::collection::vec(
                (prop_oneof![20 => 1i64..40, 2 => -50i64..5000, 1 => Just(0)], 0u8..8, any::<f64>()),
                0..900,
            ),
            sizes in prop::collection::vec(1usize..40, 1..40),
            range_ms in prop_oneof![Just(2000i64), Just(20_000), Just(1 << 40)],
            writes_xor2 in any::<bool>(),
            n_bytes in 0usize..2000,
        ) {
            let rules = ChunkRules { range_ms, writes_xor2, keeps_starts: false };
            let mut t = 1000;
            let samples: Vec<Sample> = samples.into_iter().map(|(step, kind, wild)| {
                t += step;
                let v = match kind {
                    0..=2 => 1.5,
                    3..=5 => f64::from(u32::try_from(t & 0xffff).unwrap()),
                    _ => wild,
                };
                Sample { t, v }
            }).collect();
            let dir = tempfile::tempdir().unwrap();
            let files = ChunkFiles::open(dir.path(), 1 << 20, dir.path()).unwrap().0;
            let (mut together, mut by_one) = (SeriesState::default(), SeriesState::default());
            let mut expect = PushedFloats::default();
            for Sample { t, v } in &samples {
                let had_open = by_one.has_open();
                match by_one.push(SampleTime::from(*t), Value::Float(*v), AT, rules) {
                    Ok(Pushed::Appended) => expect.n_chunks += usize::from(!had_open),
                    Ok(Pushed::AppendedAndClosed) => {
                        expect.n_chunks += 1;
                        expect.n_closed += 1;
                    }
                    Ok(Pushed::Same) | Err(_) => continue,
                }
                expect.add(1, *t, *t);
            }
            let mut found = PushedFloats::default();
            let mut rest = samples.as_slice();
            for size in sizes.iter().cycle() {
                let (some, others) = rest.split_at((*size).min(rest.len()));
                rest = others;
                let pushed = together.push_floats(some, AT, (rules, n_bytes));
                found.n_chunks += pushed.n_chunks;
                found.n_closed += pushed.n_closed;
                if let Some(span) = pushed.span {
                    found.add(pushed.n_appended, span.min, span.max);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, expect);
            prop_assert_eq!(chunks(&together, &files), chunks(&by_one, &files));
        }
    }
}
