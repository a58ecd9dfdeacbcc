//! `gauntlet restore`

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::cli::Output;
use crate::cli::bucket::open::{BucketOptions, OpenBucket};
use crate::cli::bucket::text::{go_time, grouped};
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::foundation::{Clock, SystemClock};
use crate::model::BlockId;
use crate::shipper::{
    RestorePlan, RestoreReport, ShipError, ShippedLog, check_target, list_logs, plan_restore,
    restore,
};
use crate::tsdb::raise_floor;

/// Put the log of a lost host back into an empty data directory (storage.data_dir, or --data-dir). The next start on it
/// replays the log and goes on; blocks stay in the bucket.
#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    #[command(flatten)]
    bucket: BucketOptions,
    /// Which log, where the bucket has more than one; without it they are listed.
    #[arg(long, value_name = "ULID")]
    instance: Option<BlockId>,
    /// Say what would be restored and what is missing, and read and write nothing of it.
    #[arg(long)]
    dry_run: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Restore {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        let directory = self.bucket.data_dir()?;
        check_target(&directory).map_err(|error| failed(&error))?;
        let open = self.bucket.open_elsewhere()?;
        let instance = match self.instance {
            Some(instance) => instance,
            None => the_only_log(&open)?,
        };
        let bucket = &*open.bucket;
        let plan = open.wait(plan_restore(bucket, instance));
        let plan = plan.map_err(|error| failed(&error))?;
        if self.output == Output::Text {
            print_plan(&plan, bucket.name())?;
        }
        let report = match self.dry_run {
            true => None,
            false => Some(run(&open, &plan, &directory)?),
        };
        match self.output {
            Output::Json => print(&as_json(&plan, report.as_ref()).to_string()),
            Output::Text => print_report(report.as_ref(), &plan, &directory),
        }
    }
}

fn the_only_log(open: &OpenBucket) -> Result<BlockId, Failure> {
    let logs = open.wait(list_logs(&*open.bucket));
    let logs = logs.map_err(|error| failed(&error))?;
    match logs.as_slice() {
        [] => Err(Failure::failed(format!(
            "{} has no log: nothing was shipped there (bucket.wal_interval), or it has another prefix",
            open.bucket.name()
        ))),
        [log] => Ok(log.instance),
        logs => {
            let mut lines = vec![format!(
                "{} has {} logs; choose one with --instance:",
                open.bucket.name(),
                logs.len()
            )];
            lines.extend(logs.iter().map(line_of_log));
            Err(Failure::Wrong(lines))
        }
    }
}

fn line_of_log(log: &ShippedLog) -> String {
    let ShippedLog {
        instance,
        labels,
        modified_ms,
        n_objects,
        n_bytes,
        problem,
    } = log;
    let labels = shown(labels);
    let problem = problem.as_ref().map(|problem| format!(": {problem}"));
    format!(
        "{instance} {labels} last written {}, {} bytes in {} objects{}",
        go_time(*modified_ms),
        grouped(*n_bytes),
        grouped(*n_objects),
        problem.unwrap_or_default()
    )
}

fn shown(labels: &[(String, String)]) -> String {
    let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn run(open: &OpenBucket, plan: &RestorePlan, directory: &Path) -> Result<RestoreReport, Failure> {
    let now_ms = u64::try_from(SystemClock.now_ms()).unwrap_or(0);
    let new_instance = BlockId::from_parts(now_ms, rand::random());
    let mut progress = Progress::new("bytes", plan.n_bytes);
    let target = (directory, new_instance);
    let restored = open.wait(restore(&*open.bucket, plan, target, &mut |done| {
        progress.set(done);
    }));
    progress.clear();
    let restored = restored.map_err(|error| failed(&error))?;
    if let Some(floor_ms) = plan.floor_ms {
        raise_floor(directory, floor_ms).map_err(|error| Failure::of(&error))?;
    }
    restored.publish().map_err(|error| failed(&error))
}

fn print_plan(plan: &RestorePlan, bucket: &str) -> Result<(), Failure> {
    print(&format!(
        "log {} of {} in {bucket}",
        plan.instance,
        shown(&plan.labels)
    ))?;
    print(&format!(
        "{} parts, {} bytes; the youngest was written {} by the bucket's clock",
        grouped(plan.n_parts),
        grouped(plan.n_bytes),
        go_time(plan.newest_part_ms)
    ))?;
    match plan.floor_ms {
        Some(floor_ms) => print(&format!(
            "samples before {} are in blocks of the bucket",
            go_time(floor_ms)
        )),
        None => print("no block was cut from this log before"),
    }
}

fn print_report(
    report: Option<&RestoreReport>,
    plan: &RestorePlan,
    directory: &Path,
) -> Result<(), Failure> {
    let missing = report.map_or(&plan.missing, |report| &report.missing);
    for line in missing {
        print(&format!("missing: {line}"))?;
    }
    let Some(report) = report else {
        return print("dry run: nothing was read or written");
    };
    match report.span {
        Some((oldest, newest)) => print(&format!(
            "restored {} samples from {} to {} ({newest} ms) into {}",
            grouped(report.n_samples),
            go_time(oldest),
            go_time(newest),
            directory.display()
        ))?,
        None => print(&format!(
            "restored a log without samples into {}",
            directory.display()
        ))?,
    }
    if missing.is_empty() {
        print("nothing is missing of what was shipped; later samples were on the lost host only")?;
    }
    note("start it with the same data directory: it replays the log");
    Ok(())
}

fn as_json(plan: &RestorePlan, report: Option<&RestoreReport>) -> serde_json::Value {
    json!({
        "instance": plan.instance.to_string(),
        "labels": plan.labels.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "parts": plan.n_parts,
        "bytes": plan.n_bytes,
        "newestPart": plan.newest_part_ms,
        "floor": plan.floor_ms,
        "missing": report.map_or(&plan.missing, |report| &report.missing),
        "restored": report.map(|report| json!({
            "files": report.n_files,
            "bytes": report.n_bytes,
            "samples": report.n_samples,
            "oldest": report.span.map(|(oldest, _)| oldest),
            "newest": report.span.map(|(_, newest)| newest),
        })),
    })
}

fn failed(error: &ShipError) -> Failure {
    if let ShipError::Restore { problem } = error {
        return Failure::wrong(problem);
    }
    Failure::failed(error.to_string())
}
