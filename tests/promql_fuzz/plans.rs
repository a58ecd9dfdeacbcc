//! Random queries by the plan that all rewrites went over, and by the one as it was built: the same to the last bit.
//!
//! `GAUNTLET_FUZZ_QUERIES`, `GAUNTLET_FUZZ_SEED` and `GAUNTLET_FUZZ_ROUND` work as in `prometheus`.

use gauntlet::promql::QueryOptions;

use crate::case::{Case, Ours};
use crate::leaves::Dialect;
use crate::shrink::shrink;
use crate::{data, settings};

/// Queries of a run that is told nothing else.
const QUERIES: u64 = 2_000;

/// Failures that are shrunk and printed before a run gives up.
const FAILURES_MAX: usize = 10;

/// Everything that is said in answer to `case`, or the error. Floats print all their digits and the sign of zero.
fn answer(ours: &Ours, case: &Case, plain_plan: bool) -> String {
    let options = QueryOptions {
        plain_plan,
        ..QueryOptions::default()
    };
    match ours.output(case, &options) {
        Ok(output) => format!(
            "{:?} {:?} {:?}",
            output.value, output.warnings, output.infos
        ),
        Err(error) => error.to_string(),
    }
}

#[test]
fn rewritten_plans_answer_as_plain_ones_do() {
    let scratch = tempfile::tempdir().unwrap();
    let block = data::write(scratch.path(), Dialect::Newest);
    let engines = [Ours::open(&block, false), Ours::open(&block, true)];
    let seed = settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(2);
    let rounds = match settings::number("GAUNTLET_FUZZ_ROUND") {
        Some(round) => round..round + 1,
        None => 0..settings::number("GAUNTLET_FUZZ_QUERIES").unwrap_or(QUERIES),
    };
    let (mut n_answers, mut failures) = (0, Vec::new());
    for round in rounds {
        let case = Case::new(seed, round, Dialect::Newest);
        let ours = &engines[usize::try_from(round % 2).unwrap()];
        let fails = |case: &Case| answer(ours, case, false) != answer(ours, case, true);
        n_answers += 1;
        if !fails(&case) {
            continue;
        }
        let small = shrink(&case, &fails);
        failures.push(format!(
            "seed {seed} round {round}: {case}\n  shrunk: {small}\n    rewritten: {:.2000}\n    plain:     {:.2000}",
            answer(ours, &small, false),
            answer(ours, &small, true)
        ));
        if failures.len() == FAILURES_MAX {
            break;
        }
    }
    println!(
        "plans: {n_answers} queries by both, {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
