//! About how long an evaluation takes, judged by what the selectors found: whoever asks decides by it where to evaluate.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use std::sync::Arc;

use crate::chunk::n_samples;
use crate::model::Encoding;
use crate::promql::exec::source::{Selected, Series};
use crate::promql::functions::{Func, RangeFn};
use crate::promql::plan::{Call, Grid, Node, Plan, Range, RangeSource};

/// What things take on a machine of today, more or less: a series, a sample decoded, a step of a series.
const SERIES_NS: u64 = 250;
const SAMPLE_NS: u64 = 4;
const CELL_NS: u64 = 8;

/// Plans that are higher take deep stacks, whatever they compute.
const HEIGHT_MAX: usize = 24;

/// What one selector found.
#[derive(Clone, Copy, Default)]
struct Found {
    n_series: u64,
    n_samples: u64,
    length_ms: u64,
}

struct Walk {
    found: Vec<Found>,
    n_series: u64,
}

/// Nanoseconds that evaluating `plan` on one thread takes, about; without end where it reads what no selector found, where
/// there are histograms, and where it is nested deeply.
pub(crate) fn effort_ns(plan: &Plan, grid: Grid, selected: &[Arc<Selected>]) -> u64 {
    let found: Option<Vec<Found>> = selected.iter().map(|selected| found(selected)).collect();
    let Some(found) = found else {
        return u64::MAX;
    };
    let n_series = found.iter().map(|found| found.n_series).sum();
    let walk = Walk { found, n_series };
    walk.node(&plan.root, grid, 0)
}

fn found(selected: &Selected) -> Option<Found> {
    let chunks = selected.series.iter().flat_map(Series::chunks);
    let mut n = 0_u64;
    for chunk in chunks {
        if chunk.encoding.has_histograms() || chunk.encoding == Encoding::Aggregate {
            return None;
        }
        n += n_samples(chunk.encoding, &chunk.data).unwrap_or(0) as u64;
    }
    let interval = selected.interval();
    Some(Found {
        n_series: selected.series.len() as u64,
        n_samples: n,
        length_ms: interval.max.abs_diff(interval.min).max(1),
    })
}

impl Walk {
    fn node(&self, node: &Node, grid: Grid, height: usize) -> u64 {
        if HEIGHT_MAX <= height {
            return u64::MAX;
        }
        let cells = self.n_series.max(1).saturating_mul(grid.n as u64);
        let own = match node {
            Node::Number(_) | Node::Text(_) => grid.n as u64,
            Node::Select(leaf) => self.decoding(leaf.selector),
            Node::Pinned(inner) => return self.node(inner, grid.first(), height + 1),
            Node::Call(call) => return self.call(call, grid, height),
            _ => 0,
        };
        let children = node.children();
        let inner = children
            .iter()
            .map(|child| self.node(child, grid, height + 1));
        let all = inner.fold(own, u64::saturating_add);
        all.saturating_add(cells.saturating_mul(CELL_NS))
    }

    fn call(&self, call: &Call, grid: Grid, height: usize) -> u64 {
        if call.func == Func::Info {
            return u64::MAX;
        }
        let cells = self.n_series.max(1).saturating_mul(grid.n as u64);
        let args = call.args.iter().map(|arg| match arg {
            Node::Range(range) => self.range(range, grid, (sample_ns(call.func), height)),
            other => self.node(other, grid, height + 1),
        });
        let args = args.fold(0, u64::saturating_add);
        args.saturating_add(cells.saturating_mul(CELL_NS))
    }

    /// Windows over samples, each of which is looked at in every window it lies in.
    fn range(&self, range: &Range, grid: Grid, (sample_ns, height): (u64, usize)) -> u64 {
        let range_ms = range.range_ms.unsigned_abs();
        match &range.source {
            RangeSource::Samples(leaf) => {
                let found = self.found.get(leaf.selector).copied().unwrap_or_default();
                let all_windows = range_ms.saturating_mul(grid.n as u64);
                let seen = u128::from(found.n_samples) * u128::from(all_windows);
                let seen = seen / u128::from(found.length_ms);
                let seen = u64::try_from(seen).unwrap_or(u64::MAX);
                self.decoding(leaf.selector)
                    .saturating_add(seen.saturating_mul(sample_ns))
            }
            RangeSource::Subquery(subquery) => {
                let (offset_ms, at) = range.shift();
                let inner = grid.subquery(range.range_ms, offset_ms, at, subquery.step_ms);
                let points = range_ms / subquery.step_ms.unsigned_abs().max(1);
                let seen = (grid.n as u64).saturating_mul(points);
                let seen = seen.saturating_mul(self.n_series.max(1));
                self.node(&subquery.expr, inner, height + 1)
                    .saturating_add(seen.saturating_mul(sample_ns))
            }
        }
    }

    fn decoding(&self, selector: usize) -> u64 {
        let found = self.found.get(selector).copied().unwrap_or_default();
        let series = found.n_series.saturating_mul(SERIES_NS);
        series.saturating_add(found.n_samples.saturating_mul(SAMPLE_NS))
    }
}

/// What a function takes for every sample of every window.
fn sample_ns(func: Func) -> u64 {
    match func {
        // These slide: a window costs the same however many samples it has.
        Func::Range(
            RangeFn::Rate | RangeFn::Increase | RangeFn::MinOverTime | RangeFn::MaxOverTime,
        ) => 0,
        Func::Range(RangeFn::SumOverTime | RangeFn::CountOverTime | RangeFn::LastOverTime) => 2,
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::promql::exec::tests::series;
    use crate::promql::testing::MemoryStore;
    use crate::promql::{Engine, EngineSettings, QueryOptions};
    use crate::storage::Queryable;

    fn effort(query: &str, n_steps: i64) -> u64 {
        let values: Vec<f64> = (0..100u32).map(f64::from).collect();
        let store: Arc<dyn Queryable> = Arc::new(MemoryStore::from_series(vec![
            series(&[("__name__", "x"), ("i", "0")], &values),
            series(&[("__name__", "x"), ("i", "1")], &values),
            series(&[("__name__", "y")], &values),
        ]));
        let engine = Engine::new(EngineSettings::default(), None);
        let options = QueryOptions::default();
        let times = (500_000, 500_000 + (n_steps - 1) * 1_000, 1_000);
        let planned = engine.plan_range(query, times, &options).unwrap();
        engine.select(store, planned).unwrap().effort_ns()
    }

    #[test]
    fn more_series_steps_and_samples_in_windows_take_longer() {
        let ascending = [
            effort("y", 10),
            effort("x", 10),
            effort("rate(x[5m])", 100),
            effort("quantile_over_time(0.5, x[1m])", 100),
            effort("quantile_over_time(0.5, x[5m])", 100),
            effort("quantile_over_time(0.5, x[5m:1s])", 100),
        ];
        assert!(
            ascending.is_sorted_by(|left, right| left < right),
            "{ascending:?}"
        );
    }

    #[test]
    fn nobody_can_tell_what_reads_other_series_or_is_nested_deeply() {
        let nested = |n| format!("{}x{}", "abs(".repeat(n), ")".repeat(n));
        assert!(effort(&nested(20), 1) < u64::MAX);
        assert_eq!(effort(&nested(30), 1), u64::MAX);
        assert_eq!(effort("info(x)", 1), u64::MAX);
    }

    /// Planning recurses: whoever does it on a thread with a small stack bounds the text.
    #[test]
    fn plans_of_five_hundred_bytes_fit_a_small_stack() {
        let texts = [
            format!("1{}", "+1".repeat(255)),
            format!("{}1{}", "(".repeat(148), ")".repeat(148)),
            format!("{}y{}", "abs(".repeat(100), ")".repeat(100)),
            format!("{}1", "-".repeat(148)),
        ];
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        let efforts = thread.spawn(move || texts.map(|text| effort(&text, 1)));
        assert_eq!(efforts.unwrap().join().unwrap().len(), 4);
    }
}
