//! Runs PromQL scripts: the shared ones, those in `GAUNTLET_PROMQL_TESTDATA`, and our own under `tests/promql`.
//!
//! Each script also runs against a block, a bucket, a head and a head out of its log; and once more for each kind of
//! expectation with one of them changed, which has to be seen.
//!
//! Every question has to pass.

mod mutate;
mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use gauntlet::promql::Engine;
use gauntlet::promql::parse::{parse_expr, pretty};
use gauntlet::promql::testing::{LoadedData, open_memory_store, run_script, script_settings};
use gauntlet::storage::Queryable;

use crate::mutate::check_mutations;
use crate::stores::{open_block, open_gateway, open_head, open_replayed_head};

/// What all files together came to.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Expectations that were changed and seen to fail.
    changed: usize,
    /// By store other than memory: cases that were answered from it.
    elsewhere: BTreeMap<&'static str, usize>,
}

/// The scripts of a directory, by name.
fn scripts(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "test")
        })
        .collect();
    paths.sort();
    paths
}

/// Where scripts run besides memory.
type OtherStore = (
    &'static str,
    fn(&LoadedData) -> Result<Arc<dyn Queryable>, String>,
);

const OTHER_STORES: [OtherStore; 4] = [
    ("block", open_block),
    ("gateway", open_gateway),
    ("head", open_head),
    ("replayed head", open_replayed_head),
];

fn run_file(path: &Path, engine: &Engine, tally: &mut Tally) {
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let ran = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| {
            let results = run_script(&text, engine, &open_memory_store);
            Ok((results.map_err(|error| error.to_string())?, text))
        });
    let (results, text) = match ran {
        Ok(ran) => ran,
        Err(error) => {
            say(&format!("{file}: {error}"));
            tally.failed += 1;
            return;
        }
    };
    let mut failed = 0;
    let mut passing = BTreeSet::new();
    for result in &results {
        if let Err(why) = round_trip(&result.expr) {
            failed += 1;
            say(&format!("{file}:{}: {}: {why}", result.line, result.expr));
        }
        match &result.outcome {
            Ok(()) => {
                passing.insert(result.line);
            }
            Err(why) => {
                failed += 1;
                say(&format!("{file}:{}: {}: {why}", result.line, result.expr));
            }
        }
    }
    match check_mutations(&text, &passing, engine) {
        Ok(n_changed) => tally.changed += n_changed,
        Err(why) => {
            failed += 1;
            say(&format!("{file}: {why}"));
        }
    }
    for store in OTHER_STORES {
        failed += run_elsewhere(store, (&file, &text), &passing, (engine, tally));
    }
    let passed = passing.len();
    say(&format!(
        "{}: {passed} passed, {failed} failed",
        path.display()
    ));
    tally.passed += passed;
    tally.failed += failed;
}

/// Runs a script against another store and returns how many cases failed there that pass in memory.
fn run_elsewhere(
    (name, open): OtherStore,
    (file, text): (&str, &str),
    passing: &BTreeSet<usize>,
    (engine, tally): (&Engine, &mut Tally),
) -> usize {
    let results = match run_script(text, engine, &open) {
        Ok(results) => results,
        Err(error) => {
            say(&format!("{file} in a {name}: {error}"));
            return 1;
        }
    };
    let mut failed = 0;
    for result in results {
        if !passing.contains(&result.line) {
            continue;
        }
        *tally.elsewhere.entry(name).or_default() += 1;
        if let Err(why) = result.outcome {
            failed += 1;
            let (line, expr) = (result.line, result.expr);
            say(&format!("{file}:{line} in a {name}: {expr}: {why}"));
        }
    }
    failed
}

/// What an expression prints, short or pretty, parses to what prints the same.
fn round_trip(text: &str) -> Result<(), String> {
    let expr = parse_expr(text).map_err(|error| error.to_string())?;
    let printed = expr.to_string();
    // Prometheus prints braces without matchers as nothing, and text that is not UTF-8 cannot be written down.
    if printed.contains(", )") || printed.contains(char::REPLACEMENT_CHARACTER) {
        return Ok(());
    }
    for print in [printed.clone(), pretty(&expr)] {
        let again = parse_expr(&print).map_err(|error| format!("prints {print}: {error}"))?;
        if again.to_string() != printed {
            return Err(format!("prints {print}, which prints {again}"));
        }
    }
    Ok(())
}

/// Tells whoever runs the tests.
#[expect(clippy::print_stdout, reason = "this is a test program of its own")]
fn say(text: &str) {
    println!("{text}");
}

fn main() -> ExitCode {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = manifest.join("tests/promql");
    let mut dirs = vec![own.clone()];
    let shared = manifest.join("../shared/conformance/promql");
    if shared.is_dir() {
        dirs.push(shared);
    } else {
        say(&format!(
            "MISSING: {} is not there; the shared scripts do not run",
            shared.display()
        ));
    }
    let extra = std::env::var("GAUNTLET_PROMQL_TESTDATA").unwrap_or_default();
    dirs.extend(
        extra
            .split(':')
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from),
    );
    let engine = Engine::new(script_settings(), None);
    let mut tally = Tally::default();
    for dir in dirs {
        let paths = scripts(&dir);
        if paths.is_empty() {
            say(&format!("{}: no scripts", dir.display()));
            tally.failed += 1;
        }
        for path in paths {
            run_file(&path, &engine, &mut tally);
        }
    }
    let Tally {
        passed,
        failed,
        changed,
        elsewhere,
    } = tally;
    let elsewhere: Vec<String> = elsewhere
        .iter()
        .map(|(store, n)| format!("{n} in a {store}"))
        .collect();
    say(&format!(
        "promql conformance: {passed} passed ({}), {failed} failed; {changed} changed expectations seen",
        elsewhere.join(", ")
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
