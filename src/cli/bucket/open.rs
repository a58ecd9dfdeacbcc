//! Which bucket a command works on, and the runtime that asks it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::runtime::Runtime;

use crate::appliance::local_bucket;
use crate::bucket::{self, Bucket, BucketError, BucketSettings};
use crate::catalog::Catalog;
use crate::cli::config_options::ConfigOptions;
use crate::cli::exit::{Failure, note};
use crate::config::bucket::{load_bucket, parse_bucket};
use crate::config::prometheus::Complaint;
use crate::foundation::{Clock, SystemClock};
use crate::inventory::{self, Inventory};
use crate::model::BlockId;

/// The bucket: named here, or else the one of the appliance's own settings.
#[derive(Debug, Args)]
pub(super) struct BucketOptions {
    /// A bucket as Thanos describes it in YAML.
    #[arg(
        long = "objstore.config-file",
        value_name = "FILE",
        conflicts_with = "objstore_config"
    )]
    objstore_config_file: Option<PathBuf>,
    /// The same, as text. It shows in the list of processes: keys belong into a file.
    #[arg(long = "objstore.config", value_name = "YAML")]
    objstore_config: Option<String>,
    #[command(flatten)]
    appliance: ConfigOptions,
}

/// A bucket and what waits for its answers.
#[derive(Debug)]
pub(super) struct OpenBucket {
    pub(super) bucket: Arc<dyn Bucket>,
    runtime: Runtime,
}

/// Whether something is done, or only told.
#[derive(Debug, Args)]
pub(super) struct DryRun {
    /// Do it, instead of telling what would be done.
    #[arg(long, visible_alias = "no-dry-run")]
    yes: bool,
}

impl DryRun {
    /// Is it to be done?
    pub(super) fn is_real(&self) -> bool {
        self.yes
    }
}

/// A name for a block made now.
pub(super) fn new_id() -> BlockId {
    let now_ms = u64::try_from(SystemClock.now_ms()).unwrap_or(0);
    BlockId::from_parts(now_ms, rand::random())
}

impl BucketOptions {
    /// Opens the bucket that is meant. Nothing is asked of it yet.
    pub(super) fn open(&self) -> Result<OpenBucket, Failure> {
        Ok(OpenBucket {
            bucket: open_bucket(&self.settings()?)?,
            runtime: runtime()?,
        })
    }

    /// Opens the bucket, which must be another one than the directory below the data.
    pub(super) fn open_elsewhere(&self) -> Result<OpenBucket, Failure> {
        let is_named = self.objstore_config_file.is_some() || self.objstore_config.is_some();
        if !is_named && self.appliance.load()?.bucket.config_file.is_none() {
            return Err(Failure::wrong(
                "which bucket? name it with --objstore.config-file, or set bucket.config_file",
            ));
        }
        self.open()
    }

    /// The appliance's data directory.
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        Ok(self.appliance.load()?.data_dir)
    }

    fn settings(&self) -> Result<BucketSettings, Failure> {
        let named = named_settings(
            self.objstore_config_file.as_ref(),
            self.objstore_config.as_deref(),
            "--objstore.config",
        )?;
        match named {
            Some(settings) => Ok(settings),
            None => self.settings_of_appliance(),
        }
    }

    fn settings_of_appliance(&self) -> Result<BucketSettings, Failure> {
        let settings = self.appliance.load()?;
        match &settings.bucket.config_file {
            Some(file) => understood(load_bucket(file)),
            None => Ok(local_bucket(&settings.data_dir)),
        }
    }
}

impl OpenBucket {
    /// Waits for what is asked of the bucket.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Metas and marks of all blocks; `concurrency` are asked for at once.
    pub(super) async fn fetch(&self, concurrency: usize) -> Result<Inventory, BucketError> {
        let catalog = Catalog::absent("a command asks once".to_owned());
        inventory::fetch(&*self.bucket, &catalog, concurrency).await
    }
}

/// The text in a file or in the option itself, with a name for complaints.
pub(super) fn content(
    file: Option<&Path>,
    text: Option<&str>,
    option: &str,
) -> Result<Option<(String, String)>, Failure> {
    match (file, text) {
        (Some(file), _) => match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some((file.display().to_string(), text))),
            Err(error) => Err(Failure::wrong(format!("read {}: {error}", file.display()))),
        },
        (None, Some(text)) => Ok(Some((option.to_owned(), text.to_owned()))),
        (None, None) => Ok(None),
    }
}

/// What a file or a text says, where one of both is given.
pub(super) fn named_settings(
    file: Option<&PathBuf>,
    text: Option<&str>,
    option: &str,
) -> Result<Option<BucketSettings>, Failure> {
    match (file, text) {
        (Some(file), _) => understood(load_bucket(file)).map(Some),
        (None, Some(text)) => understood(parse_bucket(option, text)).map(Some),
        (None, None) => Ok(None),
    }
}

/// Opens a bucket. Nothing is asked of it yet.
pub(super) fn open_bucket(settings: &BucketSettings) -> Result<Arc<dyn Bucket>, Failure> {
    bucket::open(settings).map_err(|error| Failure::wrong(error.chain()))
}

/// A bucket that did not do what it was asked.
pub(super) fn bucket_failed(error: &BucketError) -> Failure {
    Failure::failed(error.chain())
}

fn understood(
    read: Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>>,
) -> Result<BucketSettings, Failure> {
    match read {
        Ok((settings, warnings)) => {
            for warning in &warnings {
                note(&format!("warning: {warning}"));
            }
            Ok(settings)
        }
        Err(complaints) => Err(Failure::Wrong(
            complaints.iter().map(ToString::to_string).collect(),
        )),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("start a runtime: {error}")))
}
