//! `gauntlet tsdb create-blocks-from`

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::block::BlockMeta;
use crate::cli::exit::{Failure, note};
use crate::cli::progress::Progress;
use crate::cli::tsdb::columns::print_blocks;
use crate::cli::tsdb::rules::FromRules;
use crate::foundation::mmap::map_file;
use crate::foundation::{Clock, SystemClock};
use crate::model::BlockId;
use crate::model::duration::parse_duration_ms;
use crate::tsdb::{OpenMetricsImport, backfill_range_ms};

/// Make blocks of samples from elsewhere.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateBlocksFrom {
    #[command(subcommand)]
    source: Source,
    #[command(flatten)]
    options: CreateOptions,
}

#[derive(Debug, Args)]
pub(super) struct CreateOptions {
    /// Times and sizes for people.
    #[arg(short = 'r', long, global = true)]
    human_readable: bool,
    /// Do not list the blocks that are made.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Longest range of a block; 2h at least.
    #[arg(long, global = true, default_value = "2h", value_name = "DURATION", value_parser = duration)]
    max_block_duration: Duration,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// An OpenMetrics text in which every sample has a timestamp.
    Openmetrics(FromOpenMetrics),
    /// Recording rules, evaluated by a running server.
    Rules(FromRules),
}

#[derive(Debug, Args)]
struct FromOpenMetrics {
    /// The text; `-` is standard input.
    input_file: PathBuf,
    /// Where the blocks go.
    #[arg(default_value = "gauntlet-data")]
    output_directory: PathBuf,
    /// Put on every series; may be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
}

impl CreateBlocksFrom {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.source {
            Source::Openmetrics(from) => from.run(&self.options),
            Source::Rules(from) => from.run(&self.options),
        }
    }
}

impl FromOpenMetrics {
    fn run(&self, options: &CreateOptions) -> Result<(), Failure> {
        let input = self.read()?;
        let labels = self.labels.clone();
        let import = OpenMetricsImport::new(&input, options.range_ms(), labels)
            .map_err(|error| Failure::of(&error))?;
        let dir = &self.output_directory;
        let mut made = Made::new(dir, options)?;
        let mut progress = Progress::new("samples", import.n_samples());
        let mut n_done = 0;
        progress.set(0);
        for (start, n) in import.blocks() {
            let meta = import
                .write(start, dir, new_id())
                .map_err(|error| Failure::of(&error))?;
            n_done += n;
            progress.clear();
            if let Some(meta) = meta {
                made.list(meta)?;
            }
            progress.set(n_done);
        }
        Ok(())
    }

    fn read(&self) -> Result<bytes::Bytes, Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("read {}: {error}", self.input_file.display()))
        };
        if self.input_file == Path::new("-") {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).map_err(failed)?;
            return Ok(text.into());
        }
        let file = std::fs::metadata(&self.input_file).map_err(failed)?;
        if file.is_file() {
            return map_file(&self.input_file).map_err(failed);
        }
        // A pipe cannot be mapped.
        let text = std::fs::read(&self.input_file).map_err(failed)?;
        Ok(text.into())
    }
}

impl CreateOptions {
    /// Length of the blocks.
    pub(super) fn range_ms(&self) -> i64 {
        let longest = i64::try_from(self.max_block_duration.as_millis());
        backfill_range_ms(longest.unwrap_or(i64::MAX))
    }
}

/// Lists blocks as they are made.
pub(super) struct Made<'a> {
    dir: &'a Path,
    options: &'a CreateOptions,
    has_header: bool,
}

impl<'a> Made<'a> {
    pub(super) fn new(dir: &'a Path, options: &'a CreateOptions) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)
            .map_err(|error| Failure::failed(format!("create {}: {error}", dir.display())))?;
        Ok(Self {
            dir,
            options,
            has_header: false,
        })
    }

    pub(super) fn list(&mut self, meta: BlockMeta) -> Result<(), Failure> {
        if self.options.quiet {
            return Ok(());
        }
        let with_header = !std::mem::replace(&mut self.has_header, true);
        print_blocks(self.dir, &[meta], with_header, self.options.human_readable)
    }
}

/// A name for a block made now.
pub(super) fn new_id() -> BlockId {
    let now_ms = u64::try_from(SystemClock.now_ms()).unwrap_or(0);
    BlockId::from_parts(now_ms, rand::random())
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text).map_err(|error| error.to_string())?;
    u64::try_from(ms)
        .map(Duration::from_millis)
        .map_err(|_negative| "expected a duration that is not negative".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Says what is not done.
pub(super) fn skipped(text: &str) {
    note(&format!("warning: {text}"));
}
