//! A full disk: what is refused, what waits for room, and the room that is held back for closing and deleting.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::foundation::file_system::capacity_bytes;
use crate::head::HeadError;
use crate::head::commit::Committer;
use crate::head::core::{Head, Inner};
use crate::head::stats::count;
use crate::storage::AppendError;
use crate::wal::{Wal, WalError};

/// The reserve takes no more than this part of the file system.
const RESERVE_PART: u64 = 16;

/// Whether there is room, and the file that holds some back.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
    n_bytes: u64,
    is_short: AtomicBool,
    reserve: Mutex<Reserve>,
}

#[derive(Debug, Default)]
struct Reserve {
    file: Option<File>,
    is_whole: bool,
    n_lent: usize,
}

/// What an earlier process held back is free while this one starts.
pub(crate) fn free_reserve(path: &Path) {
    match File::options().write(true).open(path) {
        Ok(file) => {
            if let Err(error) = file.set_len(0) {
                tracing::warn!(path = %path.display(), %error, "free the room that was held back");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "free the room that was held back");
        }
    }
}

impl Room {
    /// Nothing is held back yet.
    pub(crate) fn open(path: PathBuf, wanted_bytes: u64) -> Self {
        let dir = path.parent().unwrap_or(&path);
        let part = capacity_bytes(dir).map_or(0, |bytes| bytes / RESERVE_PART);
        let room = Self {
            n_bytes: wanted_bytes.min(part),
            path,
            is_short: AtomicBool::new(false),
            reserve: Mutex::default(),
        };
        if 0 < room.n_bytes {
            match File::create(&room.path) {
                Ok(file) => room.reserve.lock().file = Some(file),
                Err(error) => {
                    tracing::warn!(path = %room.path.display(), %error, "no room is held back");
                }
            }
        }
        room
    }

    /// Whether the disk was full when it was last asked.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::SeqCst)
    }

    pub(crate) fn note_full(&self) {
        self.is_short.store(true, Ordering::SeqCst);
    }

    /// Holds room back again; fails while there is none.
    pub(crate) fn regain(&self) -> io::Result<()> {
        let mut reserve = self.reserve.lock();
        let Reserve {
            file: Some(file),
            is_whole,
            n_lent,
        } = &mut *reserve
        else {
            return Ok(());
        };
        if *n_lent > 0 && self.is_short() {
            return Err(Errno::NOSPC.into());
        }
        if !*is_whole {
            allocate(file, self.n_bytes).inspect_err(|_| {
                file.set_len(0).ok();
            })?;
            *is_whole = true;
        }
        Ok(())
    }
}

fn allocate(file: &File, n_bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, n_bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = [0; 1 << 16];
            file.set_len(0)?;
            io::Seek::rewind(&mut &*file)?;
            for _ in 0..n_bytes.div_ceil(zeros.len() as u64) {
                (&*file).write_all(&zeros)?;
            }
            Ok(())
        }
        allocated => Ok(allocated?),
    }
}

/// The reserve is free for closing and deleting for as long as this lives, when the disk is full.
#[derive(Debug)]
pub struct LentRoom<'a>(&'a Room);

impl Drop for LentRoom<'_> {
    fn drop(&mut self) {
        let mut reserve = self.0.reserve.lock();
        reserve.n_lent = reserve.n_lent.saturating_sub(1);
        drop(reserve);
        // Where there is none now, the next commit asks again.
        self.0.regain().ok();
    }
}

impl Head {
    /// Room for what makes room: while the disk is full the reserve is given up, and no sample is taken.
    pub fn lend_room(&self) -> LentRoom<'_> {
        let room = &self.inner().room;
        let mut reserve = room.reserve.lock();
        reserve.n_lent += 1;
        if room.is_short()
            && reserve.is_whole
            && let Some(file) = &reserve.file
        {
            reserve.is_whole = file.set_len(0).is_err();
        }
        drop(reserve);
        LentRoom(room)
    }

    /// Whether the disk was full when it was last asked.
    pub fn is_full(&self) -> bool {
        self.inner().room.is_short()
    }

    /// Something else than the log found the disk full.
    pub fn note_full(&self) {
        self.inner().room.note_full();
    }

    /// Bytes that are to be free so that writing can go on.
    pub fn reserve_bytes(&self) -> u64 {
        self.inner().room.n_bytes
    }

    /// Looks whether there is room again; whether there is.
    pub fn resume(&self) -> bool {
        let inner = self.inner();
        inner.settle(&mut inner.committer.lock()).is_ok()
    }
}

impl Inner {
    /// Brings into the log what it had no room for. While it has none, nothing else is taken.
    pub(crate) fn settle(&self, committer: &mut Committer) -> Result<(), AppendError> {
        if committer.owed.is_none() && !self.room.is_short() {
            return Ok(());
        }
        if let Some(reason) = committer.wal.poisoned() {
            return Err(AppendError::Closed(reason.to_owned()));
        }
        if let Err(error) = self.room.regain() {
            let error = WalError::io("hold back", &self.room.path)(error);
            let error = WalError::full(&self.wal_dir, error);
            return Err(self.refuse(&mut committer.wal, &error));
        }
        if let Some(owed) = committer.owed.take() {
            if let Err(error) = committer.log() {
                let refused = self.refuse(&mut committer.wal, &error);
                committer.owed = error.is_full().then_some(owed);
                return Err(refused);
            }
            self.finish_owed(committer, &owed);
        }
        self.room.is_short.store(false, Ordering::SeqCst);
        tracing::info!(dir = %self.wal_dir.display(), "there is room again: samples are taken");
        Ok(())
    }

    pub(crate) fn settle_for_deletion(&self, committer: &mut Committer) -> Result<(), HeadError> {
        let owes = committer.owed.is_some();
        if owes {
            let settled = self.settle(committer);
            settled.map_err(|refused| HeadError::Refused(refused.to_string()))?;
        }
        Ok(())
    }

    /// Everything in memory is in the log when this returns.
    pub(crate) fn await_log(&self) -> Result<(), AppendError> {
        let mut committer = self.committer.lock();
        if let Some(reason) = committer.wal.poisoned() {
            return Err(AppendError::Closed(reason.to_owned()));
        }
        self.settle(&mut committer)
    }

    /// Counts a failure of the log. Any but a full disk ends appending.
    pub(crate) fn refuse(&self, wal: &mut Wal, error: &WalError) -> AppendError {
        if error.is_full() {
            if !self.room.is_short.swap(true, Ordering::SeqCst) {
                tracing::error!(%error, "the disk is full");
            }
            count(&self.counters.refused_full, 1);
        } else {
            count(&self.counters.wal_failures, 1);
            wal.poison(error.to_string());
        }
        AppendError::Wal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::path::Path;

    use crate::foundation::durable::watch::Watch;
    use crate::head::{Head, HeadSettings, ReplayProgress};
    use crate::model::{Interval, Labels, MatchType, Matcher};
    use crate::storage::{AppendError, Appendable, Queryable, SelectHints};
    use crate::wal::WalSettings;

    fn open(dir: &Path) -> Head {
        let settings = HeadSettings {
            chunk_range_ms: 1000,
            wal: WalSettings {
                segment_bytes_max: 32 << 10,
                ..WalSettings::default()
            },
            chunk_file_bytes_max: 8 << 10,
            ..HeadSettings::default()
        };
        let (head, report) =
            Head::open(dir, settings, i64::MIN, &ReplayProgress::default()).unwrap();
        assert_eq!(report.n_damages, 0);
        head
    }

    fn commit(head: &Head, t: i64) -> Result<(), AppendError> {
        let mut appender = head.appender();
        for n in 0..20 {
            let text = format!("{n}-{}", "x".repeat(40));
            let labels = Labels::new(&[("n", &text)]).unwrap();
            let v = f64::from(i32::try_from(t * 31 + n).unwrap()).sin();
            appender.append_labels(&labels, t, v)?;
        }
        appender.commit()
    }

    fn times(head: &Head) -> BTreeSet<i64> {
        let all = [Matcher::new(MatchType::Regex, "n", "0-.*").unwrap()];
        let mut set = head
            .view()
            .select(&all, &SelectHints::new(Interval::ALL))
            .unwrap();
        let mut found = BTreeSet::new();
        while let Some(series) = set.next() {
            for chunk in series.unwrap().chunks {
                let (mut times, mut values) = (Vec::new(), Vec::new());
                let (t, v) = (&mut times, &mut values);
                crate::chunk::decode_floats(chunk.encoding, &chunk.data, t, v).unwrap();
                found.extend(times);
            }
        }
        found
    }

    #[test]
    fn a_disk_that_is_full_at_any_byte_refuses_and_goes_on_when_there_is_room() {
        let mut n_refused = 0;
        for room in (0i64..60_000).step_by(1511) {
            let dir = tempfile::tempdir().unwrap();
            let watch = Watch::of(dir.path());
            let head = open(dir.path());
            watch.set_room(room);
            let mut taken = BTreeSet::new();
            let mut refused = BTreeSet::new();
            for t in 0..200 {
                if let Err(error) = commit(&head, t) {
                    let text = error.to_string();
                    assert!(text.contains("disk is full"), "{text}");
                    refused.insert(t);
                    n_refused += 1;
                    // Somebody makes a little room now and then.
                    if n_refused % 7 == 0 {
                        watch.set_room(1000);
                    }
                } else {
                    taken.insert(t);
                }
                let here = times(&head);
                assert!(taken.is_subset(&here), "{room}");
                // What waited for room was refused, and is there now.
                assert!(here.difference(&taken).all(|t| refused.contains(t)));
                taken = here;
            }
            assert!(head.poisoned().is_none(), "{:?}", head.poisoned());
            watch.set_room(i64::MAX);
            for t in 200..230 {
                commit(&head, t).unwrap();
                taken.insert(t);
            }
            let here = times(&head);
            assert!(taken.is_subset(&here), "{room}");
            drop(head);
            assert_eq!(times(&open(dir.path())), here, "{room}");
        }
        writeln!(std::io::stdout(), "{n_refused} commits refused").unwrap();
        assert!(n_refused > 500);
    }

    #[test]
    fn a_sample_sent_again_is_acknowledged_only_when_the_log_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::of(dir.path());
        let head = open(dir.path());
        commit(&head, 1).unwrap();
        watch.set_room(10);
        assert!(commit(&head, 2).is_err());
        assert!(commit(&head, 2).is_err(), "the same samples again");
        assert_eq!(times(&head), BTreeSet::from([1]));
        watch.set_room(i64::MAX);
        commit(&head, 2).unwrap();
        assert_eq!(times(&head), BTreeSet::from([1, 2]));
        drop(head);
        assert_eq!(times(&open(dir.path())), BTreeSet::from([1, 2]));
    }
}
