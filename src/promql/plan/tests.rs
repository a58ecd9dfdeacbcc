//! Plans as printed.

use crate::promql::parse::parse_expr;
use crate::promql::plan::{
    Grid, Plan, PlanContext, build, common, fold, fuse, hints, invariant, plan,
};
use crate::storage::ResolutionBounds;

fn context() -> PlanContext {
    PlanContext {
        resolutions: ResolutionBounds::default(),
        grid: Grid::range(1_000_000, 1_600_000, 60_000),
        end_ms: 1_600_000,
        step_ms: 60_000,
        lookback_ms: 300_000,
        subquery_step_ms: 60_000,
    }
}

fn built(query: &str) -> Plan {
    build::build(&parse_expr(query).unwrap(), &context()).unwrap()
}

fn planned(query: &str) -> String {
    let plan = plan(&parse_expr(query).unwrap(), &context()).unwrap();
    plan.to_string()
}

#[track_caller]
fn prints(plan: &str, lines: &[&str]) {
    assert_eq!(plan.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_plan_prints_operators_types_and_selectors() {
    prints(
        &planned("sum by (job) (rate(c_total{i=\"0\"}[5m] offset 1m)) > bool 2"),
        &[
            "binary > bool: vector",
            "  fused aggregate sum by (job): vector",
            "    call rate: vector",
            "      range 5m of #0 offset 1m: matrix",
            "  number 2: scalar",
            "#0 {i=\"0\",__name__=\"c_total\"} from 640001 to 1540000 for rate",
        ],
    );
}

#[test]
fn durations_and_bounds_are_known_in_a_plan() {
    prints(
        &planned("max_over_time(g[step() * 2:10s] @ end() offset -(1m))"),
        &[
            "once: vector",
            "  call max_over_time: vector",
            "    subquery 2m every 10s @ 1600000 offset -1m: matrix",
            "      select #0: vector",
            "#0 {__name__=\"g\"} from 1250001 to 1660000 for max_over_time",
        ],
    );
    for (query, error) in [
        ("rate(g[1m - 60])", "duration must be greater than 0"),
        ("g offset (1 / (step() - 60))", "division by zero"),
        ("g offset (1 % (step() - 60))", "modulo by zero"),
        (
            "g offset ((0 - step()) ^ 0.5)",
            "duration is NaN or infinite",
        ),
    ] {
        let refused = plan(&parse_expr(query).unwrap(), &context()).unwrap_err();
        assert_eq!(refused.to_string(), error, "{query}");
    }
}

#[test]
fn numbers_fold() {
    let mut plan = built("-(2 ^ 3 + pi() * 0) * g");
    fold::fold_constants(&mut plan.root);
    prints(
        &plan.to_string(),
        &[
            "binary *: vector",
            "  number -8: scalar",
            "  select #0: vector",
            "#0 {__name__=\"g\"} from 0 to 0",
        ],
    );
}

#[test]
fn what_does_not_depend_on_the_step_is_computed_once() {
    let mut plan = built("sum(g @ 100) + g + predict_linear(g[5m] @ 100, 60) + hour(g @ 100)");
    invariant::pin_invariants(&mut plan.root);
    let text = plan.to_string();
    let once: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains("once"))
        .filter(|line| line.contains("once") || line.contains("aggregate"))
        .map(str::trim)
        .collect();
    assert_eq!(
        once,
        ["once: vector", "aggregate sum: vector", "once: vector"]
    );
    assert!(text.contains("call predict_linear: vector\n      range 5m of #2 @ 100000: matrix"));
    assert!(text.contains("call hour: vector\n    once: vector\n      select #3 @ 100000: vector"));
}

#[test]
fn selectors_reach_as_far_as_their_leaves_look() {
    let mut plan = built("g @ 100 offset 1m or xyz smoothed or rate(r[1m] anchored)");
    hints::bound_selectors(&mut plan, &context());
    let bounds: Vec<(i64, i64)> = plan
        .selectors
        .iter()
        .map(|selector| (selector.interval.min, selector.interval.max))
        .collect();
    assert_eq!(
        bounds,
        [
            (100_000 - 60_000 - 299_999, 40_000),
            // The next sample comes within the lookback, the next window up to an hour later.
            (1_000_000 - 299_999, 1_900_000 + 3_600_000),
            (1_000_000 - 60_000 - 299_999, 1_600_000),
        ]
    );
}

#[test]
fn selectors_for_the_same_series_at_the_same_time_are_one() {
    let mut plan = built("rate(g[5m]) / g + g{a=\"1\"} + g offset 1w");
    hints::bound_selectors(&mut plan, &context());
    common::share_selectors(&mut plan);
    let text = plan.to_string();
    let selectors: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        selectors,
        [
            "#0 {__name__=\"g\"} from 700001 to 1600000 shared by 2",
            "#1 {a=\"1\",__name__=\"g\"} from 700001 to 1600000",
            "#2 {__name__=\"g\"} from -604099999 to -603200000",
        ]
    );
    assert!(text.contains("select #2 offset 1w: vector"), "{text}");
}

#[test]
fn selectors_whose_values_nobody_looks_at_ask_for_presence_only() {
    for (query, is_enough) in [
        ("count(g)", true),
        ("group by (a) (-g offset 1m)", true),
        ("absent(g)", true),
        ("max_over_time(count(g)[1h:1m])", true),
        ("count(g) - on() group(g)", true),
        ("g", false),
        ("sum(g)", false),
        ("count(g > 1)", false),
        ("count(g smoothed)", false),
        ("count(rate(g[5m]))", false),
        ("count_values(\"v\", g)", false),
        ("count(g) - on() sum(g)", false),
    ] {
        let mut plan = built(query);
        hints::bound_selectors(&mut plan, &context());
        common::share_selectors(&mut plan);
        let asked: Vec<_> = plan.selectors.iter().map(|it| it.presence_ms).collect();
        assert_eq!(asked, [is_enough.then_some(300_000)], "{query}");
    }
}

#[test]
fn aggregations_of_series_as_they_are_computed_are_fused() {
    let mut plan =
        built("sum by (job) (rate(g[5m])) + topk(1, count(g)) / max(sum_over_time(g[1m:]) + g)");
    fuse::fuse_aggregations(&mut plan);
    let text = plan.to_string();
    let aggregates: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("aggregate"))
        .collect();
    assert_eq!(
        aggregates,
        [
            "fused aggregate sum by (job): vector",
            "aggregate topk: vector",
            "fused aggregate count: vector",
            "aggregate max: vector",
        ]
    );
    let folded: Vec<bool> = plan.selectors.iter().map(|s| s.is_folded).collect();
    assert_eq!(folded, [true, true, false, false]);
}

#[test]
fn selectors_below_counts_and_sums_of_histograms_need_no_buckets() {
    let leaf = |query: &str| {
        let plan = planned(query);
        let line = plan.lines().find(|line| line.contains("#0"));
        line.unwrap().trim().to_owned()
    };
    for query in [
        "histogram_count(h)",
        "histogram_sum(-sum(h))",
        "abs(histogram_avg(h offset 0s))",
    ] {
        assert_eq!(leaf(query), "select #0 without buckets: vector", "{query}");
    }
    assert_eq!(
        leaf("histogram_count(rate(h[5m]))"),
        "range 5m of #0 without buckets: matrix"
    );
    for query in [
        "h",
        "histogram_stddev(h)",
        "histogram_quantile(0.5, h)",
        "histogram_count(h </ 5)",
        "histogram_quantile(0.5, histogram_count(h))",
        "histogram_count(last_over_time(h[5m:1m]))",
        "last_over_time(histogram_count(h)[5m:1m])",
    ] {
        assert_eq!(leaf(query), "select #0: vector", "{query}");
    }
}
