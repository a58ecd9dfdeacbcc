//! The log to the bucket, part by part.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::bucket::{Bucket, BucketError};
use crate::foundation::Clock;
use crate::foundation::checksum::crc32c;
use crate::model::{BlockId, Labels};
use crate::shipper::error::ShipError;
use crate::shipper::local::failed;
use crate::shipper::log::counters::LogCounters;
use crate::shipper::log::disk::{Disk, DiskFile, LogView, YOUNG, has_parts, read_piece};
use crate::shipper::log::keep::Upkeep;
use crate::shipper::log::known::{Known, Next, Sent};
use crate::shipper::log::names::{self, Part};
use crate::shipper::log::state::{Instance, LogState, STATE_BYTES_MAX};
use crate::shipper::log::upkeep::{covered, stray};

/// Largest part.
pub(crate) const PART_BYTES_MAX: u64 = 8 << 20;
/// Bytes of the log that are under way at once: bounds the memory of shipping.
const BYTES_COMING_MAX: u64 = 32 << 20;

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
    /// What may be done about the log in the bucket now; `None` after a pass that failed.
    pub upkeep: Option<Upkeep>,
    /// What ended the pass early.
    pub failed: Option<ShipError>,
}

/// A part that was sent.
#[derive(Debug)]
struct OnItsWay {
    name: String,
    part: Part,
    put: JoinHandle<Result<(), BucketError>>,
}

/// Notes what becomes of a part, once it is dropped.
struct Fate {
    shipper: Arc<LogShipper>,
    name: String,
    part: Part,
    is_there: bool,
}

impl Drop for Fate {
    fn drop(&mut self) {
        if self.is_there {
            self.shipper.known().arrived(&self.name, self.part);
        } else {
            self.shipper.known().lost(&self.name, self.part);
        }
        self.shipper.changed.notify_waiters();
    }
}

/// Ships what is new of the log. Never waits for anything that writes it, and nothing that writes it waits for this.
#[derive(Debug)]
pub struct LogShipper {
    pub(crate) settings: LogShipperSettings,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Something got there or was lost.
    changed: Notify,
    /// Held while a pass sends; while it waits for what it sent the next one may begin.
    sending: tokio::sync::Mutex<()>,
    /// Held by whoever keeps the log in the bucket in order. Who sends may wait for it, never the other way round.
    pub(crate) keeping: tokio::sync::Mutex<()>,
}

impl LogShipper {
    /// Asks nobody yet.
    pub fn new(
        settings: LogShipperSettings,
        bucket: Arc<dyn Bucket>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            bucket,
            clock,
            known: Mutex::default(),
            changed: Notify::new(),
            sending: tokio::sync::Mutex::default(),
            keeping: tokio::sync::Mutex::default(),
        })
    }

    /// Where passes are counted.
    pub fn counters(&self) -> &Arc<LogCounters> {
        &self.settings.counters
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// Ships everything up to where `view` says that the logs end; another pass may begin meanwhile.
    ///
    /// Parts of one file are under way together, and each counts only when all before it are there. Nothing of a file is
    /// sent before all that was sent of the files before it is there. So whatever fails, the bucket has a beginning of the
    /// log without holes.
    pub async fn pass(self: &Arc<Self>, view: &LogView) -> LogReport {
        let mut report = LogReport::default();
        match self.try_pass(view, &mut report).await {
            Ok(disk) => report.upkeep = Some(Upkeep::new(disk, view.clone())),
            Err(error) => report.failed = Some(error),
        }
        let n_stored = self.known().n_keys();
        self.settings.counters.note(&report, n_stored, view.at_ms);
        report
    }

    async fn try_pass(
        self: &Arc<Self>,
        view: &LogView,
        report: &mut LogReport,
    ) -> Result<Disk, ShipError> {
        let sending = self.sending.lock().await;
        let instance = self.instance()?;
        if self.known().files.is_none() {
            self.ask(instance).await?;
        }
        if self.known().was_replaying && !view.is_replaying {
            self.forget_checks().await;
        }
        self.known().was_replaying = view.is_replaying;
        let disk = self.look(view).await?;
        report.backlog_bytes = self.known().backlog(&disk);
        let mut sent = Vec::new();
        let mut failed = self.send_all(&disk, view, &mut sent).await.err();
        let awaited = self.known().last_coming(&disk.segments);
        drop(sending);
        for OnItsWay { name, part, put } in sent {
            match landed(&name, put).await {
                Ok(()) => {
                    report.n_parts += 1;
                    report.n_bytes += part.n_bytes;
                }
                // Why others do not count.
                Err(error) => failed = Some(error),
            }
        }
        // Those of earlier passes too: this one is told to be complete when all that it saw is there.
        for (name, part) in awaited {
            if !self.until(|known| known.is_there(&name, part)).await {
                let key = format!("{name}/{}", part.name());
                failed = failed.or(Some(ShipError::LogBehind { key }));
            }
        }
        report.backlog_bytes = self.known().backlog(&disk);
        match failed {
            Some(error) => Err(error),
            None => Ok(disk),
        }
    }

    /// The replay may have repaired what was sent meanwhile.
    async fn forget_checks(&self) {
        let _nobody_keeps_it = self.keeping.lock().await;
        self.until(|known| known.is_idle().then_some(())).await;
        let mut known = self.known();
        let files = known.files.iter_mut().flat_map(BTreeMap::values_mut);
        files.for_each(|sent| sent.is_checked = false);
        known.held.clear();
    }

    /// The name of this log; made with the first pass.
    pub(crate) fn instance(&self) -> Result<BlockId, ShipError> {
        if let Some(instance) = &self.known().instance {
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
        self.known().instance = Some(instance);
        Ok(id)
    }

    /// What the bucket has of this log.
    async fn ask(&self, instance: BlockId) -> Result<(), ShipError> {
        let listed = self.bucket.list(&names::instance_dir(instance)).await;
        let listed = listed.map_err(in_bucket)?;
        let key = names::state_key(instance);
        let state = match self.bucket.get(&key, STATE_BYTES_MAX).await {
            Ok(text) => LogState::decode(&text).ok(),
            Err(error) if error.is_not_found() => None,
            Err(cause) => return Err(in_bucket(cause)),
        };
        let now_ms = self.clock.now_ms();
        let mut files = BTreeMap::new();
        let mut joined = Vec::new();
        for (name, file) in names::files(instance, &listed) {
            let mut sent = Sent::default();
            sent.parts = file.chain();
            sent.keys = file.keys;
            // Behind a part that did not get there. What takes its place may end elsewhere.
            let strays: Vec<String> = stray(&sent.keys, &sent.parts).cloned().collect();
            for key in strays.iter().rev() {
                self.bucket.delete(key).await.map_err(in_bucket)?;
                sent.keys.retain(|known| known != key);
            }
            // Closed segments do not change; a young head begins anew with the same names.
            sent.is_checked = sent.is_whole() && !name.starts_with(YOUNG);
            let covered = covered(&sent.keys, &sent.parts).cloned();
            joined.extend(covered.map(|key| (name.clone(), key, now_ms)));
            files.insert(name, sent);
        }
        let mut known = self.known();
        (known.state, known.joined, known.files) = (state, joined, Some(files));
        Ok(())
    }

    async fn look(&self, view: &LogView) -> Result<Disk, ShipError> {
        let (dir, view) = (self.settings.directory.clone(), view.clone());
        let (whole, held) = {
            let known = self.known();
            let files = known.files.iter().flatten();
            let whole = files.filter(|(_, sent)| sent.is_whole() && sent.is_checked);
            let whole: BTreeSet<String> = whole.map(|(name, _)| name.clone()).collect();
            (whole, known.held.clone())
        };
        let looked = off_the_runtime(move || {
            let mut disk = Disk::look(&dir, &view)?;
            let held = disk.hold(held, &whole);
            Ok((disk, held))
        });
        let (disk, held) = looked.await?;
        self.known().held = held;
        Ok(disk)
    }

    /// Sends what is new, in the order of the log.
    async fn send_all(
        self: &Arc<Self>,
        disk: &Disk,
        view: &LogView,
        sent: &mut Vec<OnItsWay>,
    ) -> Result<(), ShipError> {
        let n_lost = self.known().n_lost(&disk.segments);
        self.drop_unknown(disk).await?;
        if self.known().state.is_none() {
            let _turn = self.keeping.lock().await;
            let has_all_blocks = self.has_all_blocks().await?;
            self.adopt(disk, view, has_all_blocks).await?;
        }
        for (at, file) in disk.segments.iter().enumerate() {
            self.check_once(file).await?;
            let before = disk.segments.get(..at).unwrap_or_default();
            while let Some(next) = self.next(file) {
                let is_ready = |known: &Known| {
                    let has_room =
                        known.n_bytes_coming(&disk.segments) + next.n_bytes <= BYTES_COMING_MAX;
                    let is_next = known.is_quiet(before) && has_room;
                    (is_next || known.n_lost(&disk.segments) != n_lost).then_some(())
                };
                self.until(is_ready).await;
                let Some((part, piece)) = read(file, next).await? else {
                    break;
                };
                let key = self.key(file, part)?;
                {
                    let mut known = self.known();
                    if known.n_lost(&disk.segments) != n_lost {
                        let key = key.clone();
                        return Err(ShipError::LogBehind { key });
                    }
                    known.set_out(&file.name, part, &key);
                }
                sent.push(OnItsWay {
                    name: file.name.clone(),
                    part,
                    put: self.put(&file.name, part, (key, piece)),
                });
            }
        }
        Ok(())
    }

    /// Sends a part; it arrives or is lost whoever waits for it, and even where sending it panics.
    fn put(
        self: &Arc<Self>,
        name: &str,
        part: Part,
        (key, piece): (String, Bytes),
    ) -> JoinHandle<Result<(), BucketError>> {
        let shipper = Arc::clone(self);
        let mut fate = Fate {
            shipper: Arc::clone(self),
            name: name.to_owned(),
            part,
            is_there: false,
        };
        tokio::spawn(async move {
            let put = shipper.bucket.put(&key, piece).await;
            fate.is_there = put.is_ok();
            drop(fate);
            put
        })
    }

    /// Waits until it is so.
    async fn until<T>(&self, is_so: impl Fn(&Known) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What changes from here on is heard.
            changed.as_mut().enable();
            if let Some(so) = is_so(&self.known()) {
                return so;
            }
            changed.await;
        }
    }

    pub(crate) fn next(&self, file: &DiskFile) -> Option<Next> {
        self.known().sent(&file.name).next(file, PART_BYTES_MAX)
    }

    pub(crate) fn key(&self, file: &DiskFile, part: Part) -> Result<String, ShipError> {
        let dir = names::instance_dir(self.instance()?);
        Ok(format!("{dir}/{}/{}", file.name, part.name()))
    }

    /// Segments that the bucket has and that are yet to come here: the data directory is older than the bucket.
    async fn drop_unknown(&self, disk: &Disk) -> Result<(), ShipError> {
        let is_unknown = |name: &&String| {
            let (log, number) = log_and_number(name);
            let newest = disk.newest.iter().find(|(known, _)| known == log);
            number.is_some_and(|number| newest.is_some_and(|(_, newest)| *newest < number))
        };
        let unknown = self.known().names(is_unknown);
        // The newest first: what is left is a beginning at any moment.
        for name in unknown.iter().rev() {
            self.remove(name).await?;
        }
        Ok(())
    }

    /// A file that another life sent, or that may have been repaired since, goes on only where it begins alike.
    pub(crate) async fn check_once(&self, file: &DiskFile) -> Result<(), ShipError> {
        let parts = {
            let mut known = self.known();
            let sent = known.sent(&file.name);
            // The file system was put back, or the segment was repaired.
            let is_other = sent.is_whole() && (!file.is_closed || sent.n_bytes() != file.upto);
            if sent.is_checked && !is_other {
                return Ok(());
            }
            sent.parts.clone()
        };
        let here = file.clone();
        let is_same = off_the_runtime(move || Ok(has_parts(&here, &parts))).await?;
        if !is_same {
            self.remove(&file.name).await?;
        }
        self.known().sent(&file.name).is_checked = true;
        Ok(())
    }

    /// Removes a file from the bucket; the last part first, so that a beginning is left at any moment.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), ShipError> {
        let mut keys = self.known().sent(name).keys.clone();
        keys.sort_unstable();
        for key in keys.iter().rev() {
            self.bucket.delete(key).await.map_err(in_bucket)?;
        }
        self.known().files.get_or_insert_default().remove(name);
        Ok(())
    }
}

/// Waits for what became of a part.
async fn landed(name: &str, put: JoinHandle<Result<(), BucketError>>) -> Result<(), ShipError> {
    match put.await {
        Ok(put) => put.map_err(in_bucket),
        Err(panic) => Err(failed("send", name.as_ref())(io::Error::other(panic))),
    }
}

/// What a file goes on with; `None` where it is gone: in a block by now, or in a checkpoint.
pub(crate) async fn read(file: &DiskFile, next: Next) -> Result<Option<(Part, Bytes)>, ShipError> {
    let from = file.clone();
    let piece =
        off_the_runtime(move || read_piece(&from, next.offset, next.n_bytes).map(Bytes::from));
    match piece.await {
        Err(ShipError::Local { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(piece) => {
            let part = Part {
                offset: next.offset,
                n_bytes: next.n_bytes,
                crc32c: crc32c(&piece),
                is_last: next.is_last,
            };
            Ok(Some((part, piece)))
        }
    }
}

/// The directory and the number of a segment's name.
pub(crate) fn log_and_number(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once('/') {
        Some((log, number)) => (log, number.parse().ok()),
        None => (name, None),
    }
}

pub(crate) fn in_bucket(cause: BucketError) -> ShipError {
    ShipError::LogBucket { cause }
}

pub(crate) async fn off_the_runtime<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ShipError> + Send + 'static,
) -> Result<T, ShipError> {
    let done = tokio::task::spawn_blocking(run).await;
    let panicked = |panic| failed("read the log", "wal".as_ref())(io::Error::other(panic));
    done.unwrap_or_else(|panic| Err(panicked(panic)))
}
