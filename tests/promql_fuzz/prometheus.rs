//! Random queries to us and to a Prometheus that serves a copy of the same block.
//!
//! `GAUNTLET_FUZZ_QUERIES` says how many (20000 for a release), `GAUNTLET_FUZZ_SEED` which, `GAUNTLET_FUZZ_ROUND` asks
//! only the one that a failure names, `GAUNTLET_FUZZ_KEEP` is a new directory for the block and the log.
//! `GAUNTLET_FUZZ_PROMETHEUS` is the path of a Prometheus 3.x instead of the installed one: it is asked for everything
//! 3.14 knows and has to agree to the last bit; with `GAUNTLET_FUZZ_LATE_NAMES=1` both remove metric names in the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::{Agreement, Answer, compare};
use crate::case::{Case, Ours, Times};
use crate::known;
use crate::leaves::Dialect;
use crate::peers::{self, Peer, encode};
use crate::shrink::shrink;
use crate::{data, settings};

/// Queries of a run that is told nothing else.
const QUERIES: u64 = 2_000;

/// Failures that are shrunk and printed before a run gives up.
const FAILURES_MAX: usize = 70;

/// How often a Prometheus that differs is asked again.
const STEADY_ASKS: usize = 7;

/// Both sides.
struct Sides {
    ours: Ours,
    peer: Peer,
    dialect: Dialect,
}

/// What a run found.
#[derive(Default)]
struct Tally {
    same: u64,
    close: u64,
    unsteady: u64,
    errors: u64,
    empty: u64,
    known: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

impl Sides {
    fn theirs(&self, case: &Case) -> Answer {
        let query = match self.dialect {
            Dialect::Both => encode(
                &case
                    .query
                    .replace("double_exponential_smoothing", "holt_winters"),
            ),
            Dialect::Newest => encode(&case.query),
        };
        let Times {
            start,
            end,
            step_ms,
        } = case.times;
        let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
        let path = if step_ms == 0 {
            format!("/api/v1/query?query={query}&time={}", seconds(start))
        } else {
            format!(
                "/api/v1/query_range?query={query}&start={}&end={}&step={}",
                seconds(start),
                seconds(end),
                seconds(step_ms)
            )
        };
        Answer::theirs(&self.peer.get(&path).body)
    }

    /// Ours beside theirs. Where Prometheus hands series on in the order of a hash map, ties and roundings change from
    /// time to time: an answer it gives only sometimes is as good as any.
    fn compare(&self, case: &Case) -> Agreement {
        let ours = self.ours.ask(case);
        let first = self.theirs(case);
        let agreement = self.judged(&ours, &first);
        if !matches!(agreement, Agreement::Different(_)) {
            return agreement;
        }
        for _ in 0..STEADY_ASKS {
            let again = self.theirs(case);
            if !matches!(self.judged(&ours, &again), Agreement::Different(_)) {
                return Agreement::Unsteady;
            }
            if compare(&first, &again) != Agreement::Same {
                return Agreement::Unsteady;
            }
        }
        agreement
    }

    fn judged(&self, ours: &Answer, theirs: &Answer) -> Agreement {
        match compare(ours, theirs) {
            // Where both are of one version nothing rounds differently.
            Agreement::Close if self.dialect.is_newest() => {
                Agreement::Different("the last digits".to_owned())
            }
            other => other,
        }
    }

    fn judge(&self, case: &Case, name: &str, tally: &Mutex<Tally>) {
        let theirs = self.theirs(case);
        let agreement = self.compare(case);
        let is_failure = matches!(agreement, Agreement::Different(_));
        {
            let mut tally = tally.lock().unwrap();
            match (&theirs, &agreement) {
                (_, Agreement::Different(_)) => (),
                (Answer::Error(_), _) => tally.errors += 1,
                (Answer::Series(_, series), _) if series.is_empty() => tally.empty += 1,
                (_, Agreement::Same) => tally.same += 1,
                (_, Agreement::Close) => tally.close += 1,
                (_, Agreement::Unsteady) => tally.unsteady += 1,
            }
            if !is_failure || FAILURES_MAX <= tally.failures.len() {
                return;
            }
        }
        let fails = |case: &Case| {
            known::is_understood_by(self.dialect, case)
                && matches!(self.compare(case), Agreement::Different(_))
        };
        let small = shrink(case, &fails);
        if self.compare(&small) == Agreement::Unsteady {
            tally.lock().unwrap().unsteady += 1;
            return;
        }
        let (ours, theirs) = (self.ours.ask(&small), self.theirs(&small));
        let reason = known::reason(&small, &ours, &theirs, self.dialect);
        let mut tally = tally.lock().unwrap();
        if let Some(reason) = reason {
            *tally.known.entry(reason).or_default() += 1;
            return;
        }
        tally.failures.push(format!(
            "{name}: {case}\n  shrunk: {small}\n    ours:   {}\n    theirs: {}\n    differ in {:?}",
            ours.print(),
            theirs.print(),
            self.compare(&small)
        ));
    }
}

fn start(scratch: &Path) -> Option<Sides> {
    let program = match settings::text("GAUNTLET_FUZZ_PROMETHEUS") {
        Some(path) => PathBuf::from(path),
        None => peers::program("prometheus")?,
    };
    let dialect = if settings::text("GAUNTLET_FUZZ_PROMETHEUS").is_some() {
        Dialect::Newest
    } else {
        Dialect::Both
    };
    let names_go_late = settings::number("GAUNTLET_FUZZ_LATE_NAMES") == Some(1);
    let keep = settings::text("GAUNTLET_FUZZ_KEEP").map(PathBuf::from);
    let scratch = keep.as_deref().unwrap_or(scratch);
    let (ours, copy) = (scratch.join("ours"), scratch.join("theirs"));
    let block = data::write(&ours, dialect);
    peers::copy_tree(&ours, &copy);
    let addr = format!("127.0.0.1:{}", peers::free_port());
    let config = scratch.join("prometheus.yml");
    gauntlet::foundation::durable::replace_file(&config, b"").unwrap();
    let features = match dialect {
        Dialect::Both => "native-histograms,promql-at-modifier,promql-negative-offset",
        Dialect::Newest if names_go_late => {
            "promql-experimental-functions,promql-duration-expr,promql-extended-range-selectors,promql-binop-fill-modifiers,use-start-timestamps,promql-delayed-name-removal"
        }
        Dialect::Newest => {
            "promql-experimental-functions,promql-duration-expr,promql-extended-range-selectors,promql-binop-fill-modifiers,use-start-timestamps"
        }
    };
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", copy.display()))
        .arg(format!("--web.listen-address={addr}"))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--enable-feature={features}"));
    let peer = Peer::start(
        &mut command,
        addr,
        &scratch.join("prometheus.log"),
        "/-/ready",
    );
    Some(Sides {
        ours: Ours::open(&block, names_go_late),
        peer,
        dialect,
    })
}

#[test]
fn random_queries_are_answered_as_prometheus_answers_them() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(sides) = start(scratch.path()) else {
        return;
    };
    let seed = settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(1);
    let rounds = match settings::number("GAUNTLET_FUZZ_ROUND") {
        Some(round) => round..round + 1,
        None => 0..settings::number("GAUNTLET_FUZZ_QUERIES").unwrap_or(QUERIES),
    };
    let next = AtomicU64::new(rounds.start);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if rounds.end <= round || FAILURES_MAX <= tally.lock().unwrap().failures.len() {
                        return;
                    }
                    let case = Case::new(seed, round, sides.dialect);
                    sides.judge(&case, &format!("seed {seed} round {round}"), &tally);
                }
            });
        }
    });
    let Tally {
        same,
        close,
        unsteady,
        errors,
        empty,
        known,
        failures,
    } = tally.into_inner().unwrap();
    println!(
        "queries: {same} the same, {close} close, {unsteady} by chance, {errors} errors and {empty} empty on both sides, {} failures",
        failures.len()
    );
    for (reason, n) in &known {
        println!("known difference, {n} times: {reason}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
