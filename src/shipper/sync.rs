//! All local blocks, once: what is new goes up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};

use crate::block::BlockMeta;
use crate::bucket::{Bucket, keys};
use crate::catalog::{Catalog, UploadRecord};
use crate::foundation::Clock;
use crate::foundation::verdict::Verdict;
use crate::model::{BlockId, ExternalLabels, Labels};
use crate::shipper::counters::ShipCounters;
use crate::shipper::error::ShipError;
use crate::shipper::local::{Staged, remove_staged};
use crate::shipper::overlap::Overlaps;
use crate::shipper::plan::{SkipReason, plan_shipping};
use crate::shipper::ship::{Shipped, Stamp, ship_block};
use crate::shipper::state;

/// After the first failure; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// However long the bucket is away.
const PAUSE_MAX: Duration = Duration::from_mins(10);
/// Label that names an appliance which was given no name.
const DEFAULT_LABEL: &str = "gauntlet";

/// What is shipped, and under which name.
#[derive(Debug, Clone)]
pub struct ShipperSettings {
    /// The data directory, in which blocks lie.
    pub directory: PathBuf,
    /// Labels that name this appliance; without any, nothing is shipped.
    pub external: ExternalLabels,
    /// Who uploads, as `thanos.source` names it.
    pub source: String,
    /// Also ship blocks that were compacted here, where the bucket has none of their times.
    pub upload_compacted: bool,
    /// The directory is another process', which may delete a block at any moment.
    pub is_foreign: bool,
    /// Where passes and uploads are counted; several shippers may share them.
    pub counters: Arc<ShipCounters>,
}

/// `gauntlet="<name of this machine>"`: how an appliance is called that was given no external labels.
pub fn default_external_labels() -> ExternalLabels {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let host = if host.is_empty() { "localhost" } else { &host };
    ExternalLabels(Labels::new(&[(DEFAULT_LABEL, host)]).unwrap_or_else(|_short| Labels::empty()))
}

/// What one pass over the local blocks did.
#[derive(Debug, Default)]
pub struct ShipReport {
    /// Uploaded in this pass, or found in the bucket.
    pub shipped: Vec<BlockId>,
    /// Left alone, and why.
    pub skipped: Vec<(BlockId, SkipReason)>,
    /// Damaged here: set aside, and why.
    pub damaged: Vec<(PathBuf, String)>,
    /// Uploaded bytes.
    pub n_bytes: u64,
    /// What ended the pass early. Blocks of newer data wait.
    pub failed: Option<ShipError>,
    /// After a failure: when to try again.
    pub retry_after: Option<Duration>,
}

impl ShipReport {
    /// Continues with what another shipper did.
    pub fn add(&mut self, other: Self) {
        let Self {
            shipped,
            skipped,
            damaged,
            n_bytes,
            failed,
            retry_after,
        } = other;
        self.shipped.extend(shipped);
        self.skipped.extend(skipped);
        self.damaged.extend(damaged);
        self.n_bytes += n_bytes;
        if self.failed.is_none() {
            self.failed = failed;
        }
        self.retry_after = self.retry_after.max(retry_after);
    }
}

/// A block of the data directory.
type Local = (PathBuf, BlockMeta);

fn is_plain((_, meta): &Local) -> bool {
    meta.compaction.level <= 1
}

/// How many at once, and who is told how many of how many are done.
type How<'a> = (usize, &'a mut (dyn FnMut(u64, u64) + Send));

/// Uploads blocks, oldest first.
#[derive(Debug)]
pub struct Shipper {
    settings: ShipperSettings,
    bucket: Arc<dyn Bucket>,
    catalog: Catalog,
    clock: Arc<dyn Clock>,
    uploaded: BTreeSet<BlockId>,
    /// What the file says, once this life has written it.
    written: Option<Vec<BlockId>>,
    n_failures: u32,
}

impl Shipper {
    /// Reads which blocks were uploaded before.
    pub fn new(
        settings: ShipperSettings,
        bucket: Arc<dyn Bucket>,
        catalog: Catalog,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (uploaded, flaw) = state::read(&settings.directory);
        if let Some(flaw) = flaw {
            tracing::warn!(file = state::STATE_FILE, flaw, "upload state is asked anew");
        }
        Self {
            settings,
            bucket,
            catalog,
            clock,
            uploaded,
            written: None,
            n_failures: 0,
        }
    }

    /// Blocks known to be in the bucket: these may be deleted locally.
    pub fn uploaded(&self) -> &BTreeSet<BlockId> {
        &self.uploaded
    }

    /// Ships every local block that is not in the bucket, one at a time.
    pub async fn sync(&mut self) -> ShipReport {
        self.sync_many(1, &mut |_, _| ()).await
    }

    /// The same, several at once; `progress` is told how many of how many are done. After a failure blocks of newer data may
    /// be there already.
    pub async fn sync_many(
        &mut self,
        at_once: usize,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> ShipReport {
        let mut report = ShipReport::default();
        let how = (at_once, progress);
        let failed = self.try_sync(&mut report, how).await.err();
        let n_damaged = report.damaged.len() as u64;
        let counters = &self.settings.counters;
        counters.note_sync(failed.is_none(), n_damaged, self.settings.upload_compacted);
        match &failed {
            None => self.n_failures = 0,
            Some(error) => {
                self.n_failures = self.n_failures.saturating_add(1);
                report.retry_after = Some(pause_after(self.n_failures, error.verdict()));
            }
        }
        report.failed = failed;
        report
    }

    async fn try_sync(&mut self, report: &mut ShipReport, how: How<'_>) -> Result<(), ShipError> {
        if self.settings.external.0.is_empty() {
            return Err(ShipError::NoExternalLabels);
        }
        if self.settings.is_foreign {
            remove_staged(&self.settings.directory)?;
        }
        let local = read_local_blocks(&self.settings.directory, &mut report.damaged)?;
        let metas = local.iter().map(|(_, meta)| meta);
        let plan = plan_shipping(metas, &self.uploaded, self.settings.upload_compacted);
        report.skipped = plan.skipped;
        // Only what is still here need be known: nobody asks for the others again.
        let mut uploaded = plan.shipped;
        let find = |id: &BlockId| local.iter().find(|(_, meta)| meta.ulid == *id);
        let ship: Vec<&Local> = plan.ship.iter().filter_map(find).collect();
        let result = self.upload(&ship, how, report, &mut uploaded).await;
        if result.is_err() {
            self.settings.counters.note_failure();
        }
        self.remember(uploaded);
        result?;
        self.write_state(&local)
    }

    /// Uploads blocks in their order, runs of plain ones several at once.
    async fn upload(
        &self,
        ship: &[&Local],
        (at_once, progress): How<'_>,
        report: &mut ShipReport,
        uploaded: &mut BTreeSet<BlockId>,
    ) -> Result<(), ShipError> {
        let mut overlaps = Overlaps::default();
        let mut n_done = 0;
        // What was compacted is compared with what the bucket has by then.
        let runs: Vec<&[&Local]> = ship.chunk_by(|a, b| is_plain(a) && is_plain(b)).collect();
        for run in runs {
            if let Some((_, meta)) = run.first().filter(|first| !is_plain(first))
                && let Some(reason) = self.overlap(meta, &mut overlaps).await?
            {
                report.skipped.push((meta.ulid, reason));
                n_done += 1;
                continue;
            }
            let mut shipping = Vec::with_capacity(run.len());
            for local in run {
                shipping.push(self.ship(local).boxed());
            }
            let mut shipping = stream::iter(shipping).buffered(at_once.max(1));
            while let Some(((dir, meta), shipped)) = shipping.next().await {
                let id = meta.ulid;
                match shipped {
                    Ok(shipped) => {
                        self.note(id, shipped, report);
                        uploaded.insert(id);
                    }
                    Err(error) if error.verdict() == Verdict::Quarantine => {
                        report.damaged.push((dir.clone(), error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
                n_done += 1;
                progress(n_done, ship.len() as u64);
            }
        }
        Ok(())
    }

    /// Why a compacted block stays here.
    async fn overlap(
        &self,
        meta: &BlockMeta,
        overlaps: &mut Overlaps,
    ) -> Result<Option<SkipReason>, ShipError> {
        let here = (&*self.bucket, &self.catalog, &self.settings.external.0);
        let other = overlaps.of(meta, here).await?;
        Ok(other.map(SkipReason::Overlaps))
    }

    async fn ship<'a>(&self, local: &'a Local) -> (&'a Local, Result<Shipped, ShipError>) {
        let (dir, meta) = local;
        (local, self.ship_from(dir, meta).await)
    }

    async fn ship_from(&self, dir: &Path, meta: &BlockMeta) -> Result<Shipped, ShipError> {
        let external = &self.settings.external.0;
        let stamp = Stamp {
            external,
            source: &self.settings.source,
            now_ms: self.clock.now_ms(),
        };
        let staged = match self.settings.is_foreign {
            true => Staged::of(&self.settings.directory, meta.ulid)?,
            false => None,
        };
        let dir = staged.as_ref().map_or(dir, Staged::dir);
        ship_block(&*self.bucket, dir, meta, stamp).await
    }

    fn note(&self, block: BlockId, shipped: Shipped, report: &mut ShipReport) {
        report.shipped.push(block);
        if let Shipped::Uploaded { n_files, n_bytes } = shipped {
            report.n_bytes += n_bytes;
            self.settings.counters.note_upload();
            let at_ms = self.clock.now_ms();
            let record = UploadRecord {
                at_ms,
                n_files,
                n_bytes,
            };
            self.catalog.remember_upload(block, &record);
        }
    }

    fn remember(&mut self, uploaded: BTreeSet<BlockId>) {
        for gone in self.uploaded.difference(&uploaded) {
            self.catalog.forget_upload(*gone);
        }
        self.uploaded = uploaded;
    }

    /// After a pass that failed the file stays as it is, as Thanos leaves it.
    fn write_state(&mut self, local: &[(PathBuf, BlockMeta)]) -> Result<(), ShipError> {
        let here = local.iter().map(|(_, meta)| (meta.min_time, meta.ulid));
        let mut list: Vec<_> = here.filter(|(_, id)| self.uploaded.contains(id)).collect();
        list.sort_unstable();
        let list: Vec<BlockId> = list.into_iter().map(|(_, id)| id).collect();
        if self.written.as_ref() == Some(&list) {
            return Ok(());
        }
        let dir = &self.settings.directory;
        state::write(dir, &list).map_err(|cause| ShipError::Local {
            action: "write upload state in",
            path: dir.clone(),
            cause,
        })?;
        self.written = Some(list);
        Ok(())
    }
}

/// Doubles from failure to failure, never less than the error asks for.
fn pause_after(n_failures: u32, verdict: Verdict) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1 << n_failures.saturating_sub(1).min(16));
    let asked = match verdict {
        Verdict::RetryAfter(pause) => pause,
        Verdict::Refuse | Verdict::Missing | Verdict::Quarantine => PAUSE_FIRST,
    };
    doubled.max(asked).min(PAUSE_MAX)
}

/// Directories named by a ULID; what is still being made or deleted has another name.
fn read_local_blocks(
    directory: &Path,
    damaged: &mut Vec<(PathBuf, String)>,
) -> Result<Vec<(PathBuf, BlockMeta)>, ShipError> {
    let failed = |cause| ShipError::Local {
        action: "list blocks in",
        path: directory.to_owned(),
        cause,
    };
    let mut blocks = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(keys::block_of) else {
            continue;
        };
        let dir = entry.path();
        match BlockMeta::read(&dir) {
            Ok(meta) if meta.ulid == id => blocks.push((dir, meta)),
            Ok(meta) => {
                let flaw = format!("meta.json is that of block {}", meta.ulid);
                damaged.push((dir, flaw));
            }
            Err(error) => damaged.push((dir, error.to_string())),
        }
    }
    blocks.sort_by_key(|(_, meta)| meta.ulid);
    Ok(blocks)
}
