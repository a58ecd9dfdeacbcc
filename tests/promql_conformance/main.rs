//! Runs PromQL scripts: the shared ones, those in `GAUNTLET_PROMQL_TESTDATA`, and our own under `tests/promql`.
//!
//! Every question has to pass but those in `tests/promql/not-yet.txt`, which have to be about native histograms or start
//! times; `GAUNTLET_PROMQL_SHOW_NOT_YET=1` shows why they fail.

mod not_yet;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use gauntlet::promql::parse::{parse_expr, pretty};
use gauntlet::promql::testing::{
    Answer, CaseResult, Evaluator, Times, open_memory_store, run_script,
};
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryOutput};
use gauntlet::storage::Queryable;

use crate::not_yet::NotYet;

/// The engine as scripts expect it.
struct ScriptEngine(Engine);

impl ScriptEngine {
    fn new() -> Self {
        let settings = EngineSettings {
            lookback_ms: 300_000,
            samples_max: 10_000,
            timeout_ms: 100_000,
            subquery_step_ms: 60_000,
            delayed_name_removal: true,
            ..EngineSettings::default()
        };
        Self(Engine::new(settings, None))
    }
}

fn answer(output: QueryOutput) -> Answer {
    Answer {
        value: output.value,
        warnings: output.warnings,
        infos: output.infos,
    }
}

impl Evaluator for ScriptEngine {
    fn instant(&self, store: &Arc<dyn Queryable>, query: &str, t: i64) -> Result<Answer, String> {
        self.0
            .instant(Arc::clone(store), query, t, &QueryOptions::default())
            .map(answer)
            .map_err(|error| error.to_string())
    }

    fn range(
        &self,
        store: &Arc<dyn Queryable>,
        query: &str,
        times: Times,
    ) -> Result<Answer, String> {
        let Times {
            start,
            end,
            step_ms,
        } = times;
        self.0
            .range(
                Arc::clone(store),
                query,
                start,
                end,
                step_ms,
                &QueryOptions::default(),
            )
            .map(answer)
            .map_err(|error| error.to_string())
    }
}

/// What all files together came to.
#[derive(Default)]
struct Tally {
    passed: usize,
    not_yet: usize,
    failed: usize,
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

fn run_file(path: &Path, engine: &ScriptEngine, not_yet: &mut NotYet, tally: &mut Tally) {
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let results = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| {
            run_script(&text, engine, &open_memory_store).map_err(|error| error.to_string())
        });
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            say(&format!("{file}: {error}"));
            tally.failed += 1;
            return;
        }
    };
    let (mut passed, mut waiting, mut failed) = (0, 0, 0);
    for result in &results {
        if let Err(why) = round_trip(&result.expr) {
            failed += 1;
            say(&format!("{file}:{}: {}: {why}", result.line, result.expr));
        }
    }
    for result in &results {
        match verdict(&file, result, not_yet) {
            Ok(true) => passed += 1,
            Ok(false) => waiting += 1,
            Err(why) => {
                failed += 1;
                say(&format!("{file}:{}: {}: {why}", result.line, result.expr));
            }
        }
    }
    say(&format!(
        "{}: {passed} passed, {failed} failed, {waiting} not yet",
        path.display()
    ));
    tally.passed += passed;
    tally.failed += failed;
    tally.not_yet += waiting;
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
    let engine = ScriptEngine::new();
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
    } = tally;
    say(&format!(
        "promql conformance: {passed} passed, {failed} failed, {waiting} not yet"
    ));
    not_yet.report();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
