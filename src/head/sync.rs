//! Commits that wait for the disk wait together: one fsync is enough for all of them.

use parking_lot::{Condvar, Mutex};

use crate::foundation::Clock;
use crate::head::HeadError;
use crate::head::core::Head;
use crate::head::stats::count;
use crate::wal::{LogEnd, WalError};

/// How far the log is safe.
#[derive(Debug, Default)]
pub(crate) struct GroupSync {
    state: Mutex<SyncState>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct SyncState {
    is_running: bool,
    /// Bytes of the log that survive the end of the machine.
    n_bytes_safe: u64,
}

impl Head {
    /// Makes every commit so far survive the end of the machine. A failure ends appending, not reading.
    ///
    /// Whoever comes while a sync runs waits for the next one, together with all others who came meanwhile. `clock` says
    /// what it takes.
    pub fn sync(&self, clock: &dyn Clock) -> Result<(), HeadError> {
        let inner = self.inner();
        let wanted = inner.committer.lock().n_bytes_written();
        let mut state = inner.syncing.state.lock();
        while state.is_running && state.n_bytes_safe < wanted {
            inner.syncing.done.wait(&mut state);
        }
        let is_safe = 0 < wanted && wanted <= state.n_bytes_safe;
        if is_safe {
            return Ok(());
        }
        state.is_running = true;
        drop(state);
        let synced = self.sync_now(clock);
        let mut state = inner.syncing.state.lock();
        state.is_running = false;
        if let Ok(n_bytes) = synced {
            state.n_bytes_safe = state.n_bytes_safe.max(n_bytes);
        }
        inner.syncing.done.notify_all();
        drop(state);
        synced.map(|_| ())
    }

    /// Where what was acknowledged of the log and of the log of late samples ends; the latter `None` while there is none.
    pub fn log_ends(&self) -> (LogEnd, Option<LogEnd>) {
        let committer = self.inner().committer.lock();
        (committer.wal.end(), committer.late.end())
    }

    /// Up to where the log is safe now.
    fn sync_now(&self, clock: &dyn Clock) -> Result<u64, HeadError> {
        let inner = self.inner();
        let mut committer = inner.committer.lock();
        if let Some(reason) = committer.wal.poisoned() {
            return Err(WalError::Poisoned(reason.to_owned()).into());
        }
        let n_bytes = committer.n_bytes_written();
        let files = committer.unsynced();
        drop(committer);
        for (file, counters) in files {
            let begun = clock.now_ns();
            let synced = file.sync_data();
            if let Some(counters) = counters {
                counters.add_sync(clock.now_ns().saturating_sub(begun));
            }
            if let Err(error) = synced {
                let mut committer = inner.committer.lock();
                committer.wal.poison(format!("fsync: {error}"));
                count(&inner.counters.wal_failures, 1);
                return Err(WalError::io("sync", &inner.wal_dir)(error).into());
            }
        }
        count(&inner.counters.wal_syncs, 1);
        Ok(n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::foundation::SystemClock;
    use crate::foundation::durable::watch::Watch;
    use crate::head::{Head, HeadSettings, ReplayProgress};
    use crate::model::Labels;
    use crate::storage::Appendable;

    fn open(dir: &std::path::Path) -> Head {
        let progress = ReplayProgress::default();
        let opened = Head::open(dir, HeadSettings::default(), i64::MIN, &progress);
        opened.unwrap().0
    }

    fn commit(head: &Head, name: &str, t: i64) {
        let labels = Labels::new(&[("n", name)]).unwrap();
        let mut appender = head.appender();
        appender.append_labels(&labels, t, 0.5).unwrap();
        appender.commit().unwrap();
    }

    #[test]
    fn commits_that_wait_together_share_an_fsync() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path());
        let watch = Watch::of(dir.path());
        watch.set_sync_ms(3);
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let head = head.clone();
                scope.spawn(move || {
                    for t in 0..50 {
                        commit(&head, &writer.to_string(), t);
                        head.sync(&SystemClock).unwrap();
                    }
                });
            }
        });
        let (n_commits, n_syncs) = (8 * 50, watch.n_syncs());
        let said = format!("{n_commits} commits of 8 writers, {n_syncs} fsyncs");
        writeln!(std::io::stdout(), "{said}").unwrap();
        // One at a time would be one each; together it is at best one for eight.
        assert!((50..n_commits / 2).contains(&n_syncs), "{n_syncs}");
    }

    #[test]
    fn after_a_failed_fsync_nothing_is_taken_and_everything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path());
        let watch = Watch::of(dir.path());
        commit(&head, "a", 1);
        watch.set_syncs_fail(true);
        let error = head.sync(&SystemClock).unwrap_err().to_string();
        assert!(error.contains("sync"), "{error}");
        // The disk being well again does not say what became of the bytes.
        watch.set_syncs_fail(false);
        let error = head.sync(&SystemClock).unwrap_err().to_string();
        assert!(error.contains("restart"), "{error}");
        let labels = Labels::new(&[("n", "a")]).unwrap();
        let mut appender = head.appender();
        appender.append_labels(&labels, 2, 0.5).unwrap();
        assert!(appender.commit().is_err());
        assert_eq!(head.view().span().map(|span| span.max), Some(1));
        assert_eq!(head.stats().wal_failures_total, 1);
        assert!(head.poisoned().is_some());
    }
}
