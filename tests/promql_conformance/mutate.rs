//! Scripts with one expectation changed: whoever runs them has to notice.

use std::collections::BTreeSet;

use gauntlet::promql::testing::{Evaluator, open_memory_store, run_script};

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number that is expected.
    Float,
    /// The sum of a histogram that is expected.
    Histogram,
    /// That the query fails.
    Failure,
}

/// Changes one expectation of each kind in turn, among the cases that pass, and runs the script: just the case with the
/// changed expectation has to fail. Returns how many were changed.
pub(crate) fn check_mutations(
    text: &str,
    passing: &BTreeSet<usize>,
    evaluator: &dyn Evaluator,
) -> Result<usize, String> {
    let mut n_changed = 0;
    for kind in [Kind::Float, Kind::Histogram, Kind::Failure] {
        let Some((case, changed)) = mutation(text, passing, kind) else {
            continue;
        };
        let results = run_script(&changed, evaluator, &open_memory_store)
            .map_err(|error| format!("with a changed {kind:?}: {error}"))?;
        let failed: BTreeSet<usize> = results
            .iter()
            .filter(|result| passing.contains(&result.line) && result.outcome.is_err())
            .map(|result| result.line)
            .collect();
        if failed != BTreeSet::from([case]) {
            return Err(format!(
                "the {kind:?} of line {case} is changed, but {failed:?} fail"
            ));
        }
        n_changed += 1;
    }
    if n_changed == 0 {
        return Err("no expectation could be changed".to_owned());
    }
    Ok(n_changed)
}

/// The line of a case, and the script with an expectation of this case changed.
fn mutation(text: &str, passing: &BTreeSet<usize>, kind: Kind) -> Option<(usize, String)> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut case = None;
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        let first = trimmed.split_whitespace().next().unwrap_or_default();
        if first.starts_with("eval") {
            case = passing.contains(&number).then_some(number);
            continue;
        }
        if matches!(first, "load" | "load_with_nhcb" | "clear") || trimmed.is_empty() {
            case = None;
        }
        let (Some(case), false) = (case, trimmed.starts_with('#')) else {
            continue;
        };
        if let Some(changed) = change(line, kind) {
            *lines.get_mut(number - 1)? = changed;
            return Some((case, lines.join("\n")));
        }
    }
    None
}

/// The line with its expectation changed, if it has one of this kind.
fn change(line: &str, kind: Kind) -> Option<String> {
    let is_expect = line.trim_start().starts_with("expect");
    match kind {
        Kind::Failure => {
            let (before, what) = line.split_once("expect fail")?;
            (before.trim().is_empty() && !what.starts_with('_'))
                .then(|| "  expect no_info".to_owned())
        }
        Kind::Float if !is_expect => {
            let at = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
            let (before, value) = line.split_at_checked(at)?;
            let value: f64 = value.parse().ok()?;
            let other = if value.is_finite() {
                value * 2.0 + 1.0
            } else {
                7.0
            };
            Some(format!("{before}{other}"))
        }
        Kind::Histogram if !is_expect && line.contains("{{") => {
            let (before, after) = line.split_once("sum:")?;
            let end = after.find([' ', '}'])?;
            let (sum, rest) = after.split_at_checked(end)?;
            let sum: f64 = sum.parse().ok()?;
            Some(format!("{before}sum:{}{rest}", sum * 2.0 + 1.0))
        }
        Kind::Float | Kind::Histogram => None,
    }
}
