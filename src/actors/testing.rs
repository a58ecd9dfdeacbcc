//! What tests of actors share: a database in a directory of its own, and somebody who listens.

use std::sync::Arc;

use actix::prelude::*;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::foundation::{Clock, ManualClock};
use crate::storage::Appendable;
use crate::tsdb::{HeadSettings, RetentionSettings, Tsdb, TsdbSettings};

/// Length of the blocks of [`database`].
pub(crate) const BLOCK_RANGE_MS: i64 = 10_000;

/// Keeps what it is told; clones hear the same.
pub(crate) struct Listener<M>(pub(crate) Arc<Mutex<Vec<M>>>);

impl<M: 'static> Actor for Listener<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + 'static> Handler<M> for Listener<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Context<Self>) {
        self.0.lock().push(message);
    }
}

/// Somebody to tell things to, and what was told so far.
pub(crate) fn listener<M>() -> (Recipient<M>, Arc<Mutex<Vec<M>>>)
where
    M: Message<Result = ()> + Send + 'static,
{
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Listener(Arc::clone(&heard)).start();
    (listener.recipient(), heard)
}

/// A database with blocks of ten seconds that keeps twenty seconds.
pub(crate) fn database() -> (TempDir, Tsdb, Arc<dyn Clock>) {
    database_in(tempfile::tempdir().unwrap())
}

/// The same, in memory where the system has such a place: for tests that open many.
pub(crate) fn database_in_memory() -> (TempDir, Tsdb, Arc<dyn Clock>) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_not_there| tempfile::tempdir());
    database_in(dir.unwrap())
}

fn database_in(dir: TempDir) -> (TempDir, Tsdb, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_000_000));
    let settings = TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: BLOCK_RANGE_MS,
            ..HeadSettings::default()
        },
        retention: RetentionSettings {
            time_ms: Some(2 * BLOCK_RANGE_MS),
            bytes: None,
            percent: None,
        },
        stale_percent: None,
    };
    let tsdb = Tsdb::open(dir.path(), settings, Arc::clone(&clock)).unwrap();
    (dir, tsdb, clock)
}

/// One sample a second from `from_s` to before `to_s`.
pub(crate) fn append(tsdb: &Tsdb, from_s: i64, to_s: i64) {
    let labels = crate::model::Labels::new(&[("__name__", "x")]).unwrap();
    for second in from_s..to_s {
        let mut appender = tsdb.appender();
        appender.append_labels(&labels, second * 1000, 1.0).unwrap();
        appender.commit().unwrap();
    }
}
