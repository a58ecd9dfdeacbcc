//! `gauntlet bucket replicate`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bucket::Bucket;
use crate::cli::bucket::chosen::{ChosenTimes, duration, inventory_within};
use crate::cli::bucket::open::{BucketOptions, OpenBucket, named_settings, open_bucket};
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::maintenance::{Replicated, Replication, plan_replication, replicate_block};
use crate::model::{BlockId, Matcher, Resolution};
use crate::promql::parse::parse_selector_matchers;

/// Between two runs, as in Thanos.
const EVERY: Duration = Duration::from_mins(1);
/// Longest time that reading all metas may take.
const TIMEOUT: Duration = Duration::from_mins(5);

/// Copy blocks into another bucket, oldest first; what is there already is not copied again.
#[derive(Debug, Args)]
pub(in crate::cli) struct Replicate {
    #[command(flatten)]
    bucket: BucketOptions,
    /// The bucket that blocks go to, as Thanos describes it in YAML.
    #[arg(
        long = "objstore-to.config-file",
        value_name = "FILE",
        required_unless_present = "to_text",
        conflicts_with = "to_text"
    )]
    to_file: Option<PathBuf>,
    /// The same, as text.
    #[arg(long = "objstore-to.config", value_name = "YAML", id = "to_text")]
    to_text: Option<String>,
    /// Resolutions: 0s, 5m, 1h; may be repeated.
    #[arg(long = "resolution", value_name = "DURATION", default_values = ["0s", "5m", "1h"], value_parser = duration)]
    resolutions: Vec<Duration>,
    /// Least compaction level.
    #[arg(long, value_name = "LEVEL", default_value_t = 1)]
    compaction_min: u32,
    /// Highest compaction level.
    #[arg(long, value_name = "LEVEL", default_value_t = 4)]
    compaction_max: u32,
    /// Compaction levels, instead of least and highest; may be repeated.
    #[arg(long = "compaction", value_name = "LEVEL")]
    compactions: Vec<u32>,
    /// External labels: {cluster="eu", replica!~"b.*"}.
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    matcher: String,
    #[command(flatten)]
    times: ChosenTimes,
    /// These blocks only, whatever else is said, and once; may be repeated.
    #[arg(long = "id", value_name = "ULID")]
    blocks: Vec<BlockId>,
    /// Once, instead of every minute.
    #[arg(long)]
    single_run: bool,
    /// Leave out blocks that are marked for deletion.
    #[arg(long)]
    ignore_marked_for_deletion: bool,
    /// Where files lie on their way; a directory of the system's without.
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,
}

impl Replicate {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let wanted = self.wanted()?;
        let to = named_settings(
            self.to_file.as_ref(),
            self.to_text.as_deref(),
            "--objstore-to.config",
        )?;
        let Some(to) = to else {
            return Err(Failure::wrong("--objstore-to.config-file is missing"));
        };
        let open = self.bucket.open()?;
        let to = open_bucket(&to)?;
        if to.name() == open.bucket.name() {
            note("warning: both buckets have the same name; only their prefixes may differ");
        }
        loop {
            let copied = self.copy_all(&open, &*to, &wanted);
            if self.single_run || !self.blocks.is_empty() {
                return copied;
            }
            // What failed is tried again with what is new.
            if let Err(Failure::Failed(problems)) = copied {
                problems.iter().for_each(|problem| note(problem));
            } else {
                copied?;
            }
            open.wait(tokio::time::sleep(EVERY));
        }
    }

    fn wanted(&self) -> Result<Replication, Failure> {
        let mut resolutions = Vec::new();
        for resolution in &self.resolutions {
            let ms = i64::try_from(resolution.as_millis()).unwrap_or(i64::MAX);
            let Some(resolution) = Resolution::from_ms(ms) else {
                return Err(Failure::wrong(format!(
                    "--resolution {ms}ms: expected one of 0s, 5m, 1h"
                )));
            };
            resolutions.push(resolution);
        }
        let mut levels = self.compactions.clone();
        if levels.is_empty() {
            if self.compaction_max < self.compaction_min {
                return Err(Failure::wrong("--compaction-max is below --compaction-min"));
            }
            levels.extend(self.compaction_min..=self.compaction_max);
        }
        let (min_time, max_time) = self.times.bounds()?;
        Ok(Replication {
            blocks: self.blocks.clone(),
            resolutions,
            levels,
            matchers: self.matchers()?,
            min_time,
            max_time,
            without_marked: self.ignore_marked_for_deletion,
        })
    }

    fn matchers(&self) -> Result<Vec<Matcher>, Failure> {
        let text = self.matcher.trim();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let text = if text.starts_with('{') {
            text.to_owned()
        } else {
            format!("{{{text}}}")
        };
        parse_selector_matchers(&text)
            .map_err(|error| Failure::wrong(format!("--matcher {text}: {error}")))
    }

    fn copy_all(
        &self,
        open: &OpenBucket,
        to: &dyn Bucket,
        wanted: &Replication,
    ) -> Result<(), Failure> {
        let inventory = inventory_within(open, TIMEOUT)?;
        for partial in &inventory.partial {
            note(&format!("{} is not whole, skipped", partial.block));
        }
        let metas = plan_replication(&inventory, wanted);
        let scratch = self.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = scratch.join(format!("gauntlet-replicate-{}", std::process::id()));
        let mut progress = Progress::new("blocks", metas.len() as u64);
        let (mut n_copied, mut n_already) = (0_u64, 0_u64);
        let mut failed = Vec::new();
        for meta in metas {
            let copied = replicate_block(&*open.bucket, to, meta.ulid, &scratch);
            match open.wait(copied) {
                Err(error) => {
                    progress.clear();
                    let Failure::Failed(text) = Failure::of(&error) else {
                        continue;
                    };
                    failed.push(format!("{}: {}", meta.ulid, text.join(": ")));
                }
                Ok(Replicated::Already) => n_already += 1,
                Ok(Replicated::Copied { n_objects, n_bytes }) => {
                    progress.clear();
                    let block = meta.ulid;
                    print(&format!(
                        "copied {block}: {n_objects} objects, {n_bytes} bytes"
                    ))?;
                    n_copied += 1;
                }
            }
            progress.set(n_copied + n_already + failed.len() as u64);
        }
        progress.clear();
        std::fs::remove_dir(&scratch).ok();
        let n_failed = failed.len();
        note(&format!(
            "{n_copied} blocks copied, {n_already} were there, {n_failed} failed"
        ));
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::Failed(failed))
    }
}
