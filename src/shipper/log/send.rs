//! The log to the bucket, part by part.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{Bucket, BucketError};
use crate::foundation::Clock;
use crate::foundation::checksum::crc32c;
use crate::model::{BlockId, Labels, TimestampMs};
use crate::shipper::error::ShipError;
use crate::shipper::local::failed;
use crate::shipper::log::counters::LogCounters;
use crate::shipper::log::disk::{
    Disk, DiskFile, Held, LogView, WAL, WBL, YOUNG, has_parts, read_piece,
};
use crate::shipper::log::names::{self, Part};
use crate::shipper::log::state::{CheckpointState, Instance, LogState, STATE_BYTES_MAX};
use crate::shipper::log::upkeep::{
    JOINED_FOR_MS, LOOK_EVERY_MS, covered, joinable, joined, remove_abandoned,
};

/// Largest part: bounds the memory of a pass.
const PART_BYTES_MAX: u64 = 8 << 20;

/// Whose log is shipped.
#[derive(Debug, Clone)]
pub struct LogShipperSettings {
    /// The data directory.
    pub directory: PathBuf,
    /// Labels of the appliance, by which its log is found again.
    pub external: Labels,
    /// Name of the log in the bucket, where the data directory has none yet.
    pub new_instance: BlockId,
    /// Logs of other hosts go when nothing was added to them for so long; `None` lets them stay.
    pub abandoned_after_ms: Option<i64>,
    /// Where what happens is counted.
    pub counters: Arc<LogCounters>,
}

/// What one pass did.
#[derive(Debug, Default)]
pub struct LogReport {
    /// Parts that went up.
    pub n_parts: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// Bytes that are only here, as far as is known.
    pub backlog_bytes: u64,
    /// Parts of what is in blocks wait in the bucket, because not all those blocks are there.
    pub waits_for_blocks: bool,
    /// What ended the pass early.
    pub failed: Option<ShipError>,
}

/// A file as the bucket has it.
#[derive(Debug, Default)]
struct Sent {
    parts: Vec<Part>,
    keys: Vec<String>,
    /// What is here is known to begin with what is there.
    is_checked: bool,
}

impl Sent {
    fn n_bytes(&self) -> u64 {
        self.parts.last().map_or(0, Part::end)
    }

    fn is_whole(&self) -> bool {
        self.parts.last().is_some_and(|part| part.is_last)
    }
}

/// Ships what is new of the log. Never waits for anything that writes it, and nothing that writes it waits for this.
#[derive(Debug)]
pub struct LogShipper {
    settings: LogShipperSettings,
    bucket: Arc<dyn Bucket>,
    clock: Arc<dyn Clock>,
    instance: Option<Instance>,
    /// `None` until the bucket has been asked.
    files: Option<BTreeMap<String, Sent>>,
    state: Option<LogState>,
    held: Held,
    was_replaying: bool,
    /// Keys of parts whose bytes are in another part too, by file, and since when.
    joined: Vec<(String, String, TimestampMs)>,
    /// When logs of others were looked at.
    looked_ms: Option<TimestampMs>,
}

impl LogShipper {
    /// Asks nobody yet.
    pub fn new(
        settings: LogShipperSettings,
        bucket: Arc<dyn Bucket>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            bucket,
            clock,
            instance: None,
            files: None,
            state: None,
            held: Held::new(),
            was_replaying: false,
            joined: Vec::new(),
            looked_ms: None,
        }
    }

    /// Where passes are counted.
    pub fn counters(&self) -> &Arc<LogCounters> {
        &self.settings.counters
    }

    /// Ships everything up to where `view` says that the logs end.
    ///
    /// Parts go up in the order of the log and each is there before the next one is sent: whatever fails, the bucket has
    /// a beginning of the log without holes.
    pub async fn pass(&mut self, view: &LogView) -> LogReport {
        let mut report = LogReport::default();
        report.failed = self.try_pass(view, &mut report).await.err();
        if report.failed.is_none() {
            report.failed = self.look_at_others().await.err();
        }
        let now_ms = self.clock.now_ms();
        let n_parts = self.files.iter().flat_map(BTreeMap::values);
        let n_parts = n_parts.map(|file| file.keys.len() as u64).sum();
        self.settings.counters.note(&report, n_parts, now_ms);
        report
    }

    async fn try_pass(&mut self, view: &LogView, report: &mut LogReport) -> Result<(), ShipError> {
        let instance = self.instance()?;
        if self.files.is_none() {
            self.ask(instance).await?;
        }
        if self.was_replaying && !view.is_replaying {
            // The replay may have repaired what was sent meanwhile.
            let files = self.files.iter_mut().flat_map(BTreeMap::values_mut);
            files.for_each(|sent| sent.is_checked = false);
            self.held.clear();
        }
        self.was_replaying = view.is_replaying;
        let disk = self.look(view).await?;
        report.backlog_bytes = self.backlog(&disk);
        self.drop_unknown(&disk).await?;
        if self.state.is_none() {
            self.adopt(&disk, view, report).await?;
        }
        for file in &disk.segments {
            self.send(file, report).await?;
            report.backlog_bytes = self.backlog(&disk);
        }
        self.join(&disk).await?;
        report.waits_for_blocks = !disk.has_all_blocks;
        if disk.has_all_blocks {
            self.adopt(&disk, view, report).await?;
            self.retire(view).await?;
            if !view.is_replaying {
                self.forget_restored().await?;
            }
        }
        Ok(())
    }

    /// The name of this log; made with the first pass.
    fn instance(&mut self) -> Result<BlockId, ShipError> {
        if let Some(instance) = &self.instance {
            return Ok(instance.instance);
        }
        let dir = &self.settings.directory;
        let instance = match Instance::read(dir)? {
            Some(instance) => instance,
            None => {
                let instance = Instance::new(self.settings.new_instance, None);
                instance.write(dir)?;
                instance
            }
        };
        let id = instance.instance;
        self.instance = Some(instance);
        Ok(id)
    }

    /// What the bucket has of this log.
    async fn ask(&mut self, instance: BlockId) -> Result<(), ShipError> {
        let listed = self.bucket.list(&names::instance_dir(instance)).await;
        let listed = listed.map_err(in_bucket)?;
        let key = names::state_key(instance);
        self.state = match self.bucket.get(&key, STATE_BYTES_MAX).await {
            Ok(text) => LogState::decode(&text).ok(),
            Err(error) if error.is_not_found() => None,
            Err(cause) => return Err(in_bucket(cause)),
        };
        let now_ms = self.clock.now_ms();
        let files = names::files(instance, &listed).into_iter();
        let files = files.map(|(name, file)| {
            let mut sent = Sent {
                parts: file.chain(),
                keys: file.keys,
                is_checked: false,
            };
            // Closed segments do not change; a young head begins anew with the same names.
            sent.is_checked = sent.is_whole() && !name.starts_with(YOUNG);
            let covered = covered(&sent.keys, &sent.parts).cloned();
            self.joined
                .extend(covered.map(|key| (name.clone(), key, now_ms)));
            (name, sent)
        });
        self.files = Some(files.collect());
        Ok(())
    }

    async fn look(&mut self, view: &LogView) -> Result<Disk, ShipError> {
        let (dir, view) = (self.settings.directory.clone(), view.clone());
        let files = self.files.iter().flatten();
        let whole = files.filter(|(_, sent)| sent.is_whole() && sent.is_checked);
        let whole: BTreeSet<String> = whole.map(|(name, _)| name.clone()).collect();
        let held = self.held.clone();
        let looked = off_the_runtime(move || {
            let mut disk = Disk::look(&dir, &view)?;
            let held = disk.hold(held, &whole);
            Ok((disk, held))
        });
        let (disk, held) = looked.await?;
        self.held = held;
        Ok(disk)
    }

    fn sent(&mut self, name: &str) -> &mut Sent {
        let files = self.files.get_or_insert_default();
        files.entry(name.to_owned()).or_default()
    }

    fn backlog(&self, disk: &Disk) -> u64 {
        let sent = |file: &DiskFile| {
            let sent = self.files.as_ref().and_then(|files| files.get(&file.name));
            sent.map_or(0, Sent::n_bytes)
        };
        let here = disk.segments.iter();
        here.map(|file| file.upto.saturating_sub(sent(file))).sum()
    }

    /// Segments that the bucket has and that are yet to come here: the data directory is older than the bucket.
    async fn drop_unknown(&mut self, disk: &Disk) -> Result<(), ShipError> {
        let names = self.files.iter().flat_map(BTreeMap::keys);
        let is_unknown = |name: &&String| {
            let (log, number) = log_and_number(name);
            let newest = disk.newest.iter().find(|(known, _)| known == log);
            number.is_some_and(|number| newest.is_some_and(|(_, newest)| *newest < number))
        };
        let unknown: Vec<String> = names.filter(is_unknown).cloned().collect();
        // The newest first: what is left is a beginning at any moment.
        for name in unknown.iter().rev() {
            self.remove(name).await?;
        }
        Ok(())
    }

    /// Sends what is new of a file.
    async fn send(&mut self, file: &DiskFile, report: &mut LogReport) -> Result<(), ShipError> {
        let sent = self.sent(&file.name);
        // The file system was put back, or the segment was repaired.
        let is_other = sent.is_whole() && (!file.is_closed || sent.n_bytes() != file.upto);
        if !sent.is_checked || is_other {
            self.check(file).await?;
        }
        loop {
            let sent = self.sent(&file.name);
            let offset = sent.n_bytes();
            let n_bytes = file.upto.saturating_sub(offset).min(PART_BYTES_MAX);
            let is_last = file.is_closed && offset + n_bytes == file.upto;
            if sent.is_whole() || (n_bytes == 0 && !is_last) {
                return Ok(());
            }
            let from = file.clone();
            let piece = off_the_runtime(move || read_piece(&from, offset, n_bytes)).await;
            let piece = match piece {
                // In a block by now, or in a checkpoint.
                Err(ShipError::Local { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                    return Ok(());
                }
                piece => piece?,
            };
            let part = Part {
                offset,
                n_bytes,
                crc32c: crc32c(&piece),
                is_last,
            };
            let instance = self.instance()?;
            let dir = names::instance_dir(instance);
            let key = format!("{dir}/{}/{}", file.name, part.name());
            let sent = self.sent(&file.name);
            // Known before it is there: it has to go again even if the answer is lost.
            if sent.keys.last() != Some(&key) {
                sent.keys.push(key.clone());
            }
            let put = self.bucket.put(&key, Bytes::from(piece)).await;
            put.map_err(in_bucket)?;
            self.sent(&file.name).parts.push(part);
            report.n_parts += 1;
            report.n_bytes += n_bytes;
        }
    }

    /// A file that another life sent, or that may have been repaired since, goes on only where it begins alike.
    async fn check(&mut self, file: &DiskFile) -> Result<(), ShipError> {
        let parts = self.sent(&file.name).parts.clone();
        let here = file.clone();
        let is_same = off_the_runtime(move || Ok(has_parts(&here, &parts))).await?;
        if !is_same {
            self.remove(&file.name).await?;
        }
        self.sent(&file.name).is_checked = true;
        Ok(())
    }

    /// The log begins from now on with the newest checkpoint. Its older part is in blocks of the bucket.
    async fn adopt(
        &mut self,
        disk: &Disk,
        view: &LogView,
        report: &mut LogReport,
    ) -> Result<(), ShipError> {
        let mut state = self.wanted(disk, view);
        if let Some(now) = &self.state {
            state.at_ms = now.at_ms;
            // Written again now and then, so that nobody takes the log for one that nobody has any more.
            let is_fresh = self.clock.now_ms() < now.at_ms.saturating_add(LOOK_EVERY_MS);
            if *now == state && is_fresh {
                return Ok(());
            }
        }
        for (_, file) in disk.checkpoint.iter().flat_map(|(_, files)| files) {
            self.send(file, report).await?;
            if !self.sent(&file.name).is_whole() {
                // Another checkpoint has taken its place.
                return Ok(());
            }
        }
        state.at_ms = self.clock.now_ms();
        let key = names::state_key(self.instance()?);
        let text = Bytes::from(state.encode());
        self.bucket
            .put(&key, text.clone())
            .await
            .map_err(in_bucket)?;
        let there = self.bucket.get(&key, STATE_BYTES_MAX).await;
        if there.map_err(in_bucket)? != text {
            let problem = "it was not written as it was sent".to_owned();
            return Err(ShipError::Log { key, problem });
        }
        self.state = Some(state);
        Ok(())
    }

    fn wanted(&self, disk: &Disk, view: &LogView) -> LogState {
        let labels = self.settings.external.iter();
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let checkpoint = disk.checkpoint.as_ref();
        let known_floor = self.state.as_ref().and_then(|state| state.floor_ms);
        let floor = view.floor_ms.filter(|_| disk.has_all_blocks);
        LogState {
            floor_ms: floor.max(known_floor),
            checkpoint: checkpoint.map(|(number, files)| CheckpointState {
                number: *number,
                segments: files.iter().map(|(n, file)| (*n, file.upto)).collect(),
            }),
            wal_first: disk.wal_first,
            wbl_first: disk.wbl_first,
            ..LogState::new(labels.collect())
        }
    }

    /// Removes what the state says is not needed.
    async fn retire(&mut self, view: &LogView) -> Result<(), ShipError> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let checkpoint = state.checkpoint.as_ref();
        let checkpoint = checkpoint.map(|it| format!("{WAL}/checkpoint.{:08}", it.number));
        let is_over = |name: &&String| {
            let (log, number) = log_and_number(name);
            match (log, number) {
                (WAL, Some(number)) => number < state.wal_first,
                (WBL, Some(number)) => number < state.wbl_first,
                // What the young head had is in the log, which has just been sent.
                (log, _) if log.starts_with(YOUNG) => !view.is_replaying,
                (log, _) => Some(log) != checkpoint.as_deref(),
            }
        };
        let names = self.files.iter().flat_map(BTreeMap::keys);
        let over: Vec<String> = names.filter(is_over).cloned().collect();
        for name in over {
            self.remove(&name).await?;
            self.settings.counters.note_retired();
        }
        Ok(())
    }

    /// Makes one part of many small ones, at most one a pass, and removes those that have been replaced long enough.
    async fn join(&mut self, disk: &Disk) -> Result<(), ShipError> {
        let now_ms = self.clock.now_ms();
        let is_over = |(.., since): &(String, String, TimestampMs)| since + JOINED_FOR_MS <= now_ms;
        while let Some(at) = self.joined.iter().position(is_over) {
            let (name, key, _) = self.joined.swap_remove(at);
            let file = self.files.as_mut().and_then(|files| files.get_mut(&name));
            // With the file all of its keys went.
            if let Some(file) = file.filter(|file| file.keys.contains(&key)) {
                self.bucket.delete(&key).await.map_err(in_bucket)?;
                file.keys.retain(|known| *known != key);
            }
        }
        for file in &disk.segments {
            let parts = self.sent(&file.name).parts.clone();
            if let Some(run) = joinable(&parts)
                && let Some(run_parts) = parts.get(run.clone())
                && let Some((part, bytes)) = read_joined(file, run_parts).await?
            {
                let dir = names::instance_dir(self.instance()?);
                let key = format!("{dir}/{}/{}", file.name, part.name());
                let sent = self.sent(&file.name);
                if !sent.keys.contains(&key) {
                    sent.keys.push(key.clone());
                }
                let put = self.bucket.put(&key, Bytes::from(bytes)).await;
                put.map_err(in_bucket)?;
                let sent = self.sent(&file.name);
                sent.parts.splice(run, [part]);
                let replaced: Vec<String> = covered(&sent.keys, &[part]).cloned().collect();
                let replaced = replaced.into_iter();
                self.joined
                    .extend(replaced.map(|key| (file.name.clone(), key, now_ms)));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Once a day: what nobody has written for long goes.
    async fn look_at_others(&mut self) -> Result<(), ShipError> {
        let now_ms = self.clock.now_ms();
        let is_due = |at_ms: TimestampMs| at_ms.saturating_add(LOOK_EVERY_MS) <= now_ms;
        let Some(kept_ms) = self.settings.abandoned_after_ms else {
            return Ok(());
        };
        if self.looked_ms.is_none_or(is_due) {
            let own = self.instance()?;
            remove_abandoned(&*self.bucket, own, (now_ms, kept_ms)).await?;
            self.looked_ms = Some(now_ms);
        }
        Ok(())
    }

    /// Removes a file from the bucket; the last part first, so that a beginning is left at any moment.
    async fn remove(&mut self, name: &str) -> Result<(), ShipError> {
        let mut keys = self.sent(name).keys.clone();
        keys.sort_unstable();
        for key in keys.iter().rev() {
            self.bucket.delete(key).await.map_err(in_bucket)?;
        }
        self.files.get_or_insert_default().remove(name);
        Ok(())
    }

    /// The log that was restored here is in the bucket under this name now, so the other one may go.
    async fn forget_restored(&mut self) -> Result<(), ShipError> {
        let Some(old) = self.instance.as_ref().and_then(|it| it.restored_from) else {
            return Ok(());
        };
        let listed = self.bucket.list(&names::instance_dir(old)).await;
        let state = names::state_key(old);
        self.bucket.delete(&state).await.map_err(in_bucket)?;
        for info in listed.map_err(in_bucket)? {
            self.bucket.delete(&info.key).await.map_err(in_bucket)?;
        }
        let instance = Instance::new(self.instance()?, None);
        instance.write(&self.settings.directory)?;
        self.instance = Some(instance);
        Ok(())
    }
}

/// The part that takes the place of `parts`, and its bytes; `None` where the file is gone or is another one.
async fn read_joined(
    file: &DiskFile,
    parts: &[Part],
) -> Result<Option<(Part, Vec<u8>)>, ShipError> {
    let Some((first, last)) = parts.first().zip(parts.last()) else {
        return Ok(None);
    };
    let (from, offset, n_bytes) = (file.clone(), first.offset, last.end() - first.offset);
    let piece = off_the_runtime(move || read_piece(&from, offset, n_bytes)).await;
    match piece {
        Err(ShipError::Local { .. }) => Ok(None),
        piece => {
            let piece = piece?;
            Ok(joined(parts, &piece).map(|part| (part, piece)))
        }
    }
}

/// The directory and the number of a segment's name.
fn log_and_number(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once('/') {
        Some((log, number)) => (log, number.parse().ok()),
        None => (name, None),
    }
}

fn in_bucket(cause: BucketError) -> ShipError {
    ShipError::LogBucket { cause }
}

async fn off_the_runtime<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ShipError> + Send + 'static,
) -> Result<T, ShipError> {
    let done = tokio::task::spawn_blocking(run).await;
    let panicked = |panic| failed("read the log", "wal".as_ref())(io::Error::other(panic));
    done.unwrap_or_else(|panic| Err(panicked(panic)))
}
