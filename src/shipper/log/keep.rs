//! The log in the bucket is kept in order beside the passes that send it: where it begins, what has gone into blocks, and
//! how many objects it is. A checkpoint of many series takes seconds, and what is acknowledged meanwhile does not wait.

use bytes::Bytes;

use crate::model::TimestampMs;
use crate::shipper::error::ShipError;
use crate::shipper::log::disk::{
    Disk, DiskFile, LogView, WAL, WBL, YOUNG, has_all_blocks, read_piece,
};
use crate::shipper::log::names::{self, Part};
use crate::shipper::log::send::{LogShipper, in_bucket, log_and_number, off_the_runtime, read};
use crate::shipper::log::state::{CheckpointState, Instance, LogState, STATE_BYTES_MAX};
use crate::shipper::log::upkeep::{
    JOINED_FOR_MS, LOOK_EVERY_MS, joinable, joined, remove_abandoned,
};

/// What a pass found here and brought to the bucket.
#[derive(Debug)]
pub struct Upkeep {
    disk: Disk,
    view: LogView,
}

impl Upkeep {
    pub(crate) fn new(disk: Disk, view: LogView) -> Self {
        Self { disk, view }
    }
}

impl LogShipper {
    /// Brings the log in the bucket in order, as far as a pass that has ended allows; one at a time, beside other passes.
    /// Says whether what is in blocks waits in the bucket, because not all those blocks are there.
    pub async fn keep_up(&self, upkeep: &Upkeep) -> Result<bool, ShipError> {
        let _turn = self.keeping.lock().await;
        let kept = self.try_keep_up(upkeep).await;
        if kept.is_err() {
            self.settings.counters.note_failure();
        }
        kept
    }

    async fn try_keep_up(&self, Upkeep { disk, view }: &Upkeep) -> Result<bool, ShipError> {
        self.join(disk).await?;
        // After the logs: what has left those is in one of the blocks.
        let has_all_blocks = self.has_all_blocks().await?;
        if has_all_blocks {
            self.adopt(disk, view, has_all_blocks).await?;
            self.retire(view).await?;
            if !view.is_replaying {
                self.forget_restored().await?;
            }
        }
        self.look_at_others().await?;
        Ok(!has_all_blocks)
    }

    pub(crate) async fn has_all_blocks(&self) -> Result<bool, ShipError> {
        let dir = self.settings.directory.clone();
        off_the_runtime(move || has_all_blocks(&dir)).await
    }

    /// Sends all of a file that nobody writes any more, one part after the other; whether it is there then.
    async fn send_whole(&self, file: &DiskFile) -> Result<bool, ShipError> {
        self.check_once(file).await?;
        while let Some(next) = self.next(file) {
            let Some((part, piece)) = read(file, next).await? else {
                break;
            };
            self.put_part(file, part, piece).await?;
            self.known().sent(&file.name).parts.push(part);
            self.settings.counters.note_part(part.n_bytes);
        }
        Ok(self.known().sent(&file.name).is_whole())
    }

    async fn put_part(&self, file: &DiskFile, part: Part, piece: Bytes) -> Result<(), ShipError> {
        let key = self.key(file, part)?;
        self.known().named(&file.name, &key);
        self.bucket.put(&key, piece).await.map_err(in_bucket)
    }

    /// The log begins from now on with the newest checkpoint. Its older part is in blocks of the bucket.
    pub(crate) async fn adopt(
        &self,
        disk: &Disk,
        view: &LogView,
        has_all_blocks: bool,
    ) -> Result<(), ShipError> {
        let mut state = self.wanted(disk, view, has_all_blocks);
        if let Some(now) = &self.known().state {
            state.at_ms = now.at_ms;
            // Written again now and then, so that nobody takes the log for one that nobody has any more.
            let is_fresh = self.clock.now_ms() < now.at_ms.saturating_add(LOOK_EVERY_MS);
            if *now == state && is_fresh {
                return Ok(());
            }
        }
        for (_, file) in disk.checkpoint.iter().flat_map(|(_, files)| files) {
            if !self.send_whole(file).await? {
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
        self.known().state = Some(state);
        Ok(())
    }

    fn wanted(&self, disk: &Disk, view: &LogView, has_all_blocks: bool) -> LogState {
        let labels = self.settings.external.iter();
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let checkpoint = disk.checkpoint.as_ref();
        let known = self.known();
        let known_floor = known.state.as_ref().and_then(|state| state.floor_ms);
        let floor = view.floor_ms.filter(|_| has_all_blocks);
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
    async fn retire(&self, view: &LogView) -> Result<(), ShipError> {
        let Some(state) = self.known().state.clone() else {
            return Ok(());
        };
        let checkpoint = state.checkpoint.as_ref();
        let checkpoint = checkpoint.map(|it| format!("{WAL}/checkpoint.{:08}", it.number));
        let over = self.known().names(|name| {
            let (log, number) = log_and_number(name);
            match (log, number) {
                (WAL, Some(number)) => number < state.wal_first,
                (WBL, Some(number)) => number < state.wbl_first,
                // What the young head had is in the log, which has just been sent.
                (log, _) if log.starts_with(YOUNG) => !view.is_replaying,
                (log, _) => Some(log) != checkpoint.as_deref(),
            }
        });
        for name in over {
            self.remove(&name).await?;
            self.settings.counters.note_retired();
        }
        Ok(())
    }

    /// Makes one part of many small ones, at most one at a time, and removes those that have been replaced long enough.
    async fn join(&self, disk: &Disk) -> Result<(), ShipError> {
        let now_ms = self.clock.now_ms();
        loop {
            let replaced = self.known().take_replaced(now_ms - JOINED_FOR_MS);
            let Some((name, key)) = replaced else {
                break;
            };
            self.bucket.delete(&key).await.map_err(in_bucket)?;
            let mut known = self.known();
            known.sent(&name).keys.retain(|known| *known != key);
        }
        for file in &disk.segments {
            let run_parts: Vec<Part> = {
                let mut known = self.known();
                let parts = &known.sent(&file.name).parts;
                let run = joinable(parts).and_then(|run| parts.get(run));
                run.unwrap_or_default().to_vec()
            };
            if let Some((part, bytes)) = read_joined(file, &run_parts).await? {
                self.put_part(file, part, bytes).await?;
                self.known().joined(&file.name, &run_parts, part, now_ms);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Once a day: what nobody has written for long goes.
    async fn look_at_others(&self) -> Result<(), ShipError> {
        let now_ms = self.clock.now_ms();
        let is_due = |at_ms: TimestampMs| at_ms.saturating_add(LOOK_EVERY_MS) <= now_ms;
        let Some(kept_ms) = self.settings.abandoned_after_ms else {
            return Ok(());
        };
        let looked_ms = self.known().looked_ms;
        if looked_ms.is_none_or(is_due) {
            let own = self.instance()?;
            remove_abandoned(&*self.bucket, own, (now_ms, kept_ms)).await?;
            self.known().looked_ms = Some(now_ms);
        }
        Ok(())
    }

    /// The log that was restored here is in the bucket under this name now, so the other one may go.
    async fn forget_restored(&self) -> Result<(), ShipError> {
        let instance = self.known().instance.clone();
        let Some(old) = instance.and_then(|instance| instance.restored_from) else {
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
        self.known().instance = Some(instance);
        Ok(())
    }
}

/// The part that takes the place of `parts`, and its bytes; `None` where the file is gone or is another one.
async fn read_joined(file: &DiskFile, parts: &[Part]) -> Result<Option<(Part, Bytes)>, ShipError> {
    let Some((first, last)) = parts.first().zip(parts.last()) else {
        return Ok(None);
    };
    let (from, offset, n_bytes) = (file.clone(), first.offset, last.end() - first.offset);
    let piece = off_the_runtime(move || read_piece(&from, offset, n_bytes)).await;
    match piece {
        Err(ShipError::Local { .. }) => Ok(None),
        piece => {
            let piece = piece?;
            Ok(joined(parts, &piece).map(|part| (part, Bytes::from(piece))))
        }
    }
}
