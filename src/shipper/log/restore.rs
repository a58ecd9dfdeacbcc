//! A shipped log back into a data directory.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::bucket::Bucket;
use crate::foundation::checksum::crc32c;
use crate::foundation::durable::{
    DurableFile, create_dirs, remove_dir_all, rename_durably, sync_dir,
};
use crate::model::{BlockId, TimestampMs};
use crate::shipper::error::ShipError;
use crate::shipper::local::failed;
use crate::shipper::log::disk::{WAL, WBL, YOUNG};
use crate::shipper::log::names::{self, Part};
use crate::shipper::log::plan::{PlannedFile, RestorePlan};
use crate::shipper::log::state::{INSTANCE_FILE, Instance};
use crate::wal::{
    RecordKind, SegmentReader, decode_histograms, decode_samples, last_checkpoint, list_segments,
};

/// Where a restore that is not finished lies, within the data directory.
const STAGING_DIR: &str = "restore.tmp";
/// Parts read ahead: bounds the memory to as many parts.
const PARTS_AHEAD: usize = 8;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// Files put together.
    pub n_files: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// Samples in them; some may be in blocks too.
    pub n_samples: u64,
    /// Times of the oldest and the newest sample.
    pub span: Option<(TimestampMs, TimestampMs)>,
    /// What is not there although later parts are, and what did not check.
    pub missing: Vec<String>,
}

/// A log that is complete beside its place. What is not published is as if it had not been restored.
#[derive(Debug)]
pub struct RestoredLog {
    directory: PathBuf,
    report: RestoreReport,
}

/// Whether a log may be restored into `directory`; the error says what is in the way.
pub fn check_target(directory: &Path) -> Result<(), ShipError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("list", directory))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", directory))?;
        found.push(entry.file_name().to_string_lossy().into_owned());
    }
    // A restore that did not finish has left what it publishes before the log, and is done again.
    let is_unfinished =
        found.iter().any(|name| name == STAGING_DIR) && !found.iter().any(|name| name == WAL);
    let ours = [STAGING_DIR, WBL, YOUNG, INSTANCE_FILE, "head_floor"];
    let in_the_way = found.iter().find(|name| {
        let is_ours = is_unfinished && ours.contains(&name.as_str());
        *name != "lost+found" && !is_ours
    });
    match in_the_way {
        None => Ok(()),
        Some(name) => Err(ShipError::Restore {
            problem: format!(
                "{} is not empty: {name} is there; restore into a directory that is, nothing is overwritten",
                directory.display()
            ),
        }),
    }
}

/// Reads the parts of `plan`, checks each, and puts the files together beside their place in `directory`. `new_instance`
/// is the name under which the log is shipped from now on; `progress` is told how many bytes are there.
pub async fn restore(
    bucket: &dyn Bucket,
    plan: &RestorePlan,
    (directory, new_instance): (&Path, BlockId),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RestoredLog, ShipError> {
    check_target(directory)?;
    let staging = directory.join(STAGING_DIR);
    match remove_dir_all(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &staging)(error));
        }
        Ok(()) | Err(_) => (),
    }
    create_dirs(&staging.join(WAL)).map_err(failed("create", &staging))?;
    let mut report = RestoreReport {
        missing: plan.missing.clone(),
        ..RestoreReport::default()
    };
    let mut broken: Option<&str> = None;
    for file in &plan.files {
        let log = file.name.rsplit_once('/').map_or("", |(log, _)| log);
        // What comes after bytes that are lost would be a hole; the young head's log comes after all of the other.
        if broken.is_some_and(|broken| broken == log || (broken == WAL && log.starts_with(YOUNG))) {
            continue;
        }
        let before = report.n_bytes;
        let mut told = |n_bytes: u64| progress(before + n_bytes);
        let target = (file, staging.as_path());
        let (n_bytes, flaw) = fetch_file(bucket, plan.instance, target, &mut told).await?;
        report.n_files += 1;
        report.n_bytes += n_bytes;
        if let Some(flaw) = flaw {
            if file.is_vital {
                let problem = format!("{flaw}, and everything later needs it");
                return Err(ShipError::Restore { problem });
            }
            report
                .missing
                .push(format!("{flaw}; what comes later is left out"));
            broken = Some(log);
        }
    }
    let read = staging.clone();
    let counted = tokio::task::spawn_blocking(move || count_samples(&read)).await;
    let counted = counted.map_err(|panic| failed("read", &staging)(io::Error::other(panic)))?;
    (report.n_samples, report.span) = counted?;
    let instance = Instance::new(new_instance, Some(plan.instance));
    instance.write(&staging)?;
    Ok(RestoredLog {
        directory: directory.to_owned(),
        report,
    })
}

impl RestoredLog {
    /// What is there.
    pub fn report(&self) -> &RestoreReport {
        &self.report
    }

    /// Puts everything in its place, the log itself last: a start that finds it finds all of it.
    pub fn publish(self) -> Result<RestoreReport, ShipError> {
        let staging = self.directory.join(STAGING_DIR);
        for name in [YOUNG, WBL, INSTANCE_FILE, WAL] {
            let (from, to) = (staging.join(name), self.directory.join(name));
            if !from.try_exists().map_err(failed("inspect", &from))? {
                continue;
            }
            if to.is_dir() {
                remove_dir_all(&to).map_err(failed("remove", &to))?;
            }
            rename_durably(&from, &to).map_err(failed("rename", &from))?;
        }
        remove_dir_all(&staging).map_err(failed("remove", &staging))?;
        sync_dir(&self.directory).map_err(failed("sync", &self.directory))?;
        Ok(self.report)
    }
}

/// Bytes that were written, and what ended the file early.
async fn fetch_file(
    bucket: &dyn Bucket,
    instance: BlockId,
    (file, staging): (&PlannedFile, &Path),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(u64, Option<String>), ShipError> {
    let path = staging.join(&file.name);
    if let Some(dir) = path.parent() {
        create_dirs(dir).map_err(failed("create", dir))?;
    }
    let dir = names::instance_dir(instance);
    let target = DurableFile::create(&path).map_err(failed("create", &path))?;
    let mut pieces = stream::iter(file.parts.iter().copied())
        .map(|part| {
            let key = format!("{dir}/{}/{}", file.name, part.name());
            async move { (fetch_part(bucket, &key, part).await, key) }
        })
        .buffered(PARTS_AHEAD);
    let mut n_bytes = 0;
    let mut flaw = None;
    while let Some((piece, key)) = pieces.next().await {
        let Some(piece) = piece? else {
            flaw = Some(format!("{key} does not have the bytes its name says"));
            break;
        };
        (&target)
            .write_all(&piece)
            .map_err(failed("write", &path))?;
        n_bytes += piece.len() as u64;
        progress(n_bytes);
    }
    target.sync_all().map_err(failed("sync", &path))?;
    Ok((n_bytes, flaw))
}

/// `None` where there is something else than the name says.
async fn fetch_part(
    bucket: &dyn Bucket,
    key: &str,
    part: Part,
) -> Result<Option<Bytes>, ShipError> {
    if part.n_bytes == 0 {
        return Ok(Some(Bytes::new()));
    }
    match bucket.get(key, part.n_bytes).await {
        Ok(piece) if piece.len() as u64 == part.n_bytes && crc32c(&piece) == part.crc32c => {
            Ok(Some(piece))
        }
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(cause) => Err(ShipError::LogBucket { cause }),
    }
}

/// Samples in order and out of order of all logs below `staging`, and their times.
fn count_samples(staging: &Path) -> Result<(u64, Option<(TimestampMs, TimestampMs)>), ShipError> {
    let mut dirs = Vec::new();
    for root in [staging.to_owned(), staging.join(YOUNG)] {
        let wal = root.join(WAL);
        let checkpoint = last_checkpoint(&wal).map_err(unreadable(&wal))?;
        dirs.extend(checkpoint.map(|checkpoint| checkpoint.path));
        dirs.extend([wal, root.join(WBL)]);
    }
    let mut n_samples = 0;
    let mut span: Option<(TimestampMs, TimestampMs)> = None;
    let mut note = |t: TimestampMs| {
        n_samples += 1;
        let (min, max) = span.unwrap_or((t, t));
        span = Some((min.min(t), max.max(t)));
    };
    let mut samples = Vec::new();
    for dir in dirs {
        for segment in list_segments(&dir).map_err(unreadable(&dir))? {
            let mut reader = SegmentReader::open(&segment.path).map_err(unreadable(&dir))?;
            // The end may be torn, as after a crash: the start that comes cuts it.
            while let Ok(Some(body)) = reader.next_record() {
                samples.clear();
                match RecordKind::of(body) {
                    RecordKind::Samples | RecordKind::SamplesV2 => {
                        decode_samples(body, &mut samples).ok();
                        samples.iter().for_each(|sample| note(sample.t));
                    }
                    RecordKind::Series
                    | RecordKind::Tombstones
                    | RecordKind::Exemplars
                    | RecordKind::MmapMarkers
                    | RecordKind::Metadata
                    | RecordKind::Unknown(_) => (),
                    RecordKind::Histograms
                    | RecordKind::FloatHistograms
                    | RecordKind::CustomHistograms
                    | RecordKind::CustomFloatHistograms
                    | RecordKind::HistogramsV2
                    | RecordKind::FloatHistogramsV2 => {
                        let entries = decode_histograms(body).unwrap_or_default();
                        entries.iter().for_each(|entry| note(entry.at.t));
                    }
                }
            }
        }
    }
    Ok((n_samples, span))
}

fn unreadable(path: &Path) -> impl FnOnce(crate::wal::WalError) -> ShipError {
    let path = path.to_owned();
    move |cause| failed("read", &path)(io::Error::other(cause.to_string()))
}
