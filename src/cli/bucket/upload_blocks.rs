//! `gauntlet bucket upload-blocks`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::catalog::Catalog;
use crate::cli::Output;
use crate::cli::bucket::open::BucketOptions;
use crate::cli::bucket::text::grouped;
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::foundation::SystemClock;
use crate::model::{ExternalLabels, Labels};
use crate::shipper::{ShipReport, Shipper, ShipperSettings, SkipReason};

/// Upload the blocks of a directory that are not in the bucket, as Prometheus, backfilling or an import left them. What
/// was uploaded stands in thanos.shipper.json of the directory; none of its blocks is changed or deleted.
#[derive(Debug, Args)]
pub(in crate::cli) struct UploadBlocks {
    #[command(flatten)]
    bucket: BucketOptions,
    /// Directory with the blocks.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    path: PathBuf,
    /// External label of all the blocks, at least one; may be repeated.
    #[arg(long = "label", value_name = "NAME=\"VALUE\"", value_parser = name_and_value, required = true)]
    labels: Vec<(String, String)>,
    /// Also upload blocks that were compacted, where the bucket has none of the same labels and times.
    #[arg(long = "shipper.upload-compacted")]
    upload_compacted: bool,
    /// Blocks uploaded at once.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    concurrency: u8,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl UploadBlocks {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let labels: Vec<(&str, &str)> = self
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let external = Labels::new(&labels).map_err(|error| Failure::wrong(error.to_string()))?;
        if external.is_empty() {
            return Err(Failure::wrong(
                "--label: blocks without external labels could not be told from others",
            ));
        }
        if !self.path.is_dir() {
            let path = self.path.display();
            return Err(Failure::wrong(format!("--path {path} is no directory")));
        }
        let open = self.bucket.open()?;
        let settings = ShipperSettings {
            directory: self.path.clone(),
            external: ExternalLabels(external),
            source: "bucket.upload".to_owned(),
            upload_compacted: self.upload_compacted,
            // Whoever writes the directory may be running.
            is_foreign: true,
            counters: Arc::default(),
        };
        let catalog = Catalog::absent("a command asks once".to_owned());
        let clock = Arc::new(SystemClock);
        let mut shipper = Shipper::new(settings, Arc::clone(&open.bucket), catalog, clock);
        let mut progress = Progress::new("blocks", 0);
        let at_once = usize::from(self.concurrency);
        let report = open.wait(shipper.sync_many(at_once, &mut |done, total| {
            progress.set_of(done, total);
        }));
        progress.clear();
        match self.output {
            Output::Json => print(&as_json(&report).to_string())?,
            Output::Text => print_report(&report)?,
        }
        match report.failed {
            Some(error) => Err(Failure::failed(error.to_string())),
            None if report.damaged.is_empty() => Ok(()),
            None => Err(Failure::failed(format!(
                "{} blocks are damaged and were left out",
                report.damaged.len()
            ))),
        }
    }
}

fn print_report(report: &ShipReport) -> Result<(), Failure> {
    for block in &report.shipped {
        print(&format!("{block} is in the bucket"))?;
    }
    for (block, reason) in &report.skipped {
        print(&format!("{block} left out: {}", reason_text(*reason)))?;
    }
    for (path, reason) in &report.damaged {
        note(&format!("{} left out: {reason}", path.display()));
    }
    note(&format!(
        "{} blocks, {} bytes uploaded",
        report.shipped.len(),
        grouped(report.n_bytes)
    ));
    Ok(())
}

fn reason_text(reason: SkipReason) -> String {
    match reason {
        SkipReason::Empty => "it holds no sample".to_owned(),
        SkipReason::Compacted => {
            "it was compacted, and --shipper.upload-compacted is not given".to_owned()
        }
        SkipReason::Overlaps(other) => format!("{other} of the bucket has the same times"),
    }
}

fn as_json(report: &ShipReport) -> serde_json::Value {
    let text = |id: &crate::model::BlockId| id.to_string();
    let skipped = report.skipped.iter();
    let damaged = report.damaged.iter();
    json!({
        "uploaded": report.shipped.iter().map(text).collect::<Vec<_>>(),
        "bytes": report.n_bytes,
        "skipped": skipped.map(|(id, why)| json!({"id": text(id), "reason": reason_text(*why)})).collect::<Vec<_>>(),
        "damaged": damaged.map(|(path, why)| json!({"path": path.display().to_string(), "reason": why})).collect::<Vec<_>>(),
    })
}

/// `name="value"` as Thanos takes it, or without the quotes.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    let expected = || "expected name=\"value\"".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(expected)?;
    let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    if name.is_empty() || (unquoted.is_none() && value.contains('"')) {
        return Err(expected());
    }
    Ok((name.to_owned(), unquoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_taken_with_and_without_quotes() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(name_and_value("a=\"b c\""), pair("a", "b c"));
        assert_eq!(name_and_value("a=b"), pair("a", "b"));
        for wrong in ["a", "=b", "a=\"b", "a=b\""] {
            assert!(name_and_value(wrong).is_err(), "{wrong}");
        }
    }
}
