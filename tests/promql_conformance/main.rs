//! Runs PromQL scripts: the shared ones, those in `GAUNTLET_PROMQL_TESTDATA`, and our own under `tests/promql`.
//!
//! Each script also runs against a block, a bucket and, as far as a head keeps what it loads, a head; and once more for
//! each kind of expectation with one of them changed, which has to be seen.
//!
//! Every question has to pass but those in `tests/promql/not-yet.txt`, which have to be about native histograms or start
//! times; `GAUNTLET_PROMQL_SHOW_NOT_YET=1` shows why they fail.

mod mutate;
mod not_yet;
mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use gauntlet::promql::Engine;
use gauntlet::promql::parse::{parse_expr, pretty};
use gauntlet::promql::testing::{
    CaseResult, LoadedData, open_memory_store, run_script, script_settings,
};
use gauntlet::storage::Queryable;

use crate::mutate::check_mutations;
use crate::not_yet::NotYet;
use crate::stores::{open_block, open_gateway, open_head};

/// What all files together came to.
#[derive(Default)]
struct Tally {
    passed: usize,
    not_yet: usize,
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

/// Where scripts run besides memory, and whether a store can hold what a script loads.
type OtherStore = (
    &'static str,
    fn(&LoadedData) -> Result<Arc<dyn Queryable>, String>,
    fn(&LoadedData) -> bool,
);

/// Keeps neither histograms nor start times: what loads them runs in memory instead.
const HEAD: &str = "head";

const OTHER_STORES: [OtherStore; 3] = [
    ("block", open_block, |_| true),
    ("gateway", open_gateway, |_| true),
    (HEAD, open_head, |data| {
        !data.has_histograms() && !data.has_start_times()
    }),
];

fn run_file(path: &Path, engine: &Engine, not_yet: &mut NotYet, tally: &mut Tally) {
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
    let (mut waiting, mut failed) = (0, 0);
    let mut passing = BTreeSet::new();
    for result in &results {
        if let Err(why) = round_trip(&result.expr) {
            failed += 1;
            say(&format!("{file}:{}: {}: {why}", result.line, result.expr));
        }
        match verdict(&file, result, not_yet) {
            Ok(true) => {
                passing.insert(result.line);
            }
            Ok(false) => waiting += 1,
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
        "{}: {passed} passed, {failed} failed, {waiting} not yet",
        path.display()
    ));
    tally.passed += passed;
    tally.failed += failed;
    tally.not_yet += waiting;
}

/// Runs a script against another store and returns how many cases failed there that pass in memory.
fn run_elsewhere(
    (name, open, can_hold): OtherStore,
    (file, text): (&str, &str),
    passing: &BTreeSet<usize>,
    (engine, tally): (&Engine, &mut Tally),
) -> usize {
    let open = move |data: &LoadedData| {
        if can_hold(data) {
            open(data)
        } else {
            open_memory_store(data)
        }
    };
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
        let is_plain = !result.has_histograms && !result.has_start_times;
        if is_plain || name != HEAD {
            *tally.elsewhere.entry(name).or_default() += 1;
        }
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

/// `true`: passed. `false`: failed, and may.
fn verdict(file: &str, result: &CaseResult, not_yet: &mut NotYet) -> Result<bool, String> {
    let is_listed = not_yet.contains(file, result.line, &result.expr);
    match (&result.outcome, is_listed) {
        (Ok(()), _) => Ok(true),
        (Err(why), true) if !result.has_histograms && !result.has_start_times => Err(format!(
            "is in not-yet.txt, but is about neither native histograms nor start times: {why}"
        )),
        (Err(why), true) => {
            if std::env::var_os("GAUNTLET_PROMQL_SHOW_NOT_YET").is_some() {
                say(&format!(
                    "not yet: {file}:{}: {}: {why}",
                    result.line, result.expr
                ));
            }
            Ok(false)
        }
        (Err(why), false) => {
            not_yet.note(file, result);
            Err(why.clone())
        }
    }
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
    let mut not_yet = match NotYet::read(&own.join("not-yet.txt")) {
        Ok(not_yet) => not_yet,
        Err(why) => {
            say(&format!("not-yet.txt: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let engine = Engine::new(script_settings(), None);
    let mut tally = Tally::default();
    for dir in dirs {
        let paths = scripts(&dir);
        if paths.is_empty() {
            say(&format!("{}: no scripts", dir.display()));
            tally.failed += 1;
        }
        for path in paths {
            run_file(&path, &engine, &mut not_yet, &mut tally);
        }
    }
    let Tally {
        passed,
        not_yet: waiting,
        failed,
        changed,
        elsewhere,
    } = tally;
    let elsewhere: Vec<String> = elsewhere
        .iter()
        .map(|(store, n)| format!("{n} in a {store}"))
        .collect();
    say(&format!(
        "promql conformance: {passed} passed ({}), {failed} failed, {waiting} not yet; {changed} changed expectations seen",
        elsewhere.join(", ")
    ));
    not_yet.report();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
