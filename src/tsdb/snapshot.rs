//! A copy of the database for backups: blocks as hard links, the head as a block of its own.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::block::{Block, CHUNKS_DIR, INDEX_FILE, NewBlock, TOMBSTONES_FILE, meta, write_block};
use crate::foundation::durable::{create_dirs, hard_link, remove_dir_all, sync_dir};
use crate::model::TimeRange;
use crate::tsdb::TsdbError;
use crate::tsdb::db::Tsdb;

/// Directory of snapshots within the data directory.
pub const SNAPSHOTS_DIR: &str = "snapshots";

impl Tsdb {
    /// Makes `snapshots/<name>`, a data directory of its own, and returns the name. It holds everything that was
    /// committed; without the head when `skip_head`. When it fails, nothing is left.
    pub fn snapshot(&self, skip_head: bool) -> Result<String, TsdbError> {
        let inner = self.inner();
        // No block comes or goes meanwhile.
        let _one_at_a_time = inner.cutting.lock();
        inner.must_be_replayed("make a snapshot")?;
        let name = snapshot_name(inner.clock.now_ms());
        let parent = inner.dir.join(SNAPSHOTS_DIR);
        let dir = parent.join(&name);
        create_dirs(&dir).map_err(TsdbError::io("create", &dir))?;
        let made = self.fill_snapshot(&dir, skip_head);
        if made.is_err() {
            // The error that stopped it is the one to report.
            remove_dir_all(&dir).ok();
        }
        made?;
        for dir in [&dir, &parent, &inner.dir] {
            sync_dir(dir).map_err(TsdbError::io("sync", dir))?;
        }
        Ok(name)
    }

    fn fill_snapshot(&self, dir: &Path, skip_head: bool) -> Result<(), TsdbError> {
        for block in self.blocks() {
            link_block(&block, dir)?;
        }
        let inner = self.inner();
        let view = inner.head().view();
        let Some(span) = view.span().filter(|_| !skip_head) else {
            return Ok(());
        };
        let range = TimeRange {
            min: span.min,
            max: span.max.saturating_add(1),
        };
        let mut series = inner.for_block(view.series_in(span));
        write_block(dir, NewBlock::new(inner.new_id(), range), &mut series)?;
        Ok(())
    }
}

/// As Prometheus names them: when, and a number that no other has.
fn snapshot_name(now_ms: i64) -> String {
    let now = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let number: u64 = rand::random();
    format!("{}-{:016x}", now.strftime("%Y%m%dT%H%M%SZ"), number >> 1)
}

/// Files of a block never change, so that links are as good as copies.
fn link_block(block: &Block, into: &Path) -> Result<(), TsdbError> {
    let from = block.dir();
    let to = into.join(block.meta().ulid.to_string());
    let chunks = to.join(CHUNKS_DIR);
    create_dirs(&chunks).map_err(TsdbError::io("create", &chunks))?;
    let mut files: Vec<(PathBuf, PathBuf)> = [meta::META_FILE, INDEX_FILE, TOMBSTONES_FILE]
        .into_iter()
        .map(|name| (from.join(name), to.join(name)))
        .collect();
    files.extend(block.segments().paths().map(|path| {
        let name = path.file_name().unwrap_or_default();
        (path.to_owned(), chunks.join(name))
    }));
    for (from, to) in files {
        match hard_link(&from, &to) {
            Err(missing)
                if missing.kind() == std::io::ErrorKind::NotFound
                    && from.ends_with(TOMBSTONES_FILE) => {}
            linked => linked.map_err(TsdbError::io("link", &from))?,
        }
    }
    for dir in [&chunks, &to] {
        sync_dir(dir).map_err(TsdbError::io("sync", dir))?;
    }
    Ok(())
}
