//! A data directory as it stands, running or not: for those who look and change nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::Block;
use crate::head::{Head, HeadSettings};
use crate::model::BlockId;
use crate::storage::{Fanout, Queryable};
use crate::tsdb::TsdbError;
use crate::tsdb::floor::read_floor;
use crate::tsdb::load::sort;
use crate::tsdb::opening::YOUNG_DIR;

/// Beginning of the name of the directory that a replay writes to, as promtool names its own.
const SANDBOX: &str = "tmp_dbro_sandbox";

/// Blocks and head of a directory that somebody else may own.
#[derive(Debug)]
pub struct ReadOnlyTsdb {
    blocks: Vec<Block>,
    refused: Vec<String>,
    /// That of the log, and a young one whose samples are not in the log yet. Before the sandbox, so that their files are
    /// closed when that goes.
    heads: Vec<Head>,
    _sandbox: Option<Sandbox>,
}

/// Goes with whoever holds it.
#[derive(Debug)]
struct Sandbox(PathBuf);

impl Drop for Sandbox {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl ReadOnlyTsdb {
    /// The blocks of `dir`, oldest first, without the head. What does not open is left where it is: see
    /// [`ReadOnlyTsdb::refused`].
    pub fn open_blocks(dir: &Path) -> Result<Self, TsdbError> {
        let mut all = Self {
            blocks: Vec::new(),
            refused: Vec::new(),
            heads: Vec::new(),
            _sandbox: None,
        };
        for entry in std::fs::read_dir(dir).map_err(TsdbError::io("list", dir))? {
            let entry = entry.map_err(TsdbError::io("list", dir))?;
            let name = entry.file_name();
            let is_block = name
                .to_str()
                .is_some_and(|name| name.parse::<BlockId>().is_ok());
            if !is_block || !entry.path().is_dir() {
                continue;
            }
            match Block::open(&entry.path()) {
                Ok(block) => all.blocks.push(block),
                Err(error) => all.refused.push(error.to_string()),
            }
        }
        all.refused.sort();
        sort(&mut all.blocks);
        Ok(all)
    }

    /// Blocks, and the head by replaying its log; chunks that a replay closes lie in a directory below `sandbox_root`
    /// until this is dropped.
    pub fn open(dir: &Path, sandbox_root: &Path) -> Result<Self, TsdbError> {
        let mut all = Self::open_blocks(dir)?;
        let wal = dir.join("wal");
        if !wal.try_exists().map_err(TsdbError::io("inspect", &wal))? {
            return Ok(all);
        }
        let number: u64 = rand::random();
        let sandbox = Sandbox(sandbox_root.join(format!("{SANDBOX}{number:016x}")));
        let scratch = &sandbox.0;
        std::fs::create_dir_all(scratch).map_err(TsdbError::io("create", scratch))?;
        let in_order = all.blocks.iter().filter(|block| !block.meta().is_partial());
        let floor = in_order.map(|block| block.meta().max_time).max();
        let floor = floor.unwrap_or(i64::MIN).max(read_floor(dir));
        let settings = HeadSettings::default();
        let (head, _report) = Head::open_read_only(dir, scratch, settings, floor)?;
        all.heads.push(head);
        let young = dir.join(YOUNG_DIR);
        if young.is_dir() {
            match Head::open_read_only(&young, &scratch.join(YOUNG_DIR), settings, floor) {
                Ok((head, _report)) => all.heads.push(head),
                // Its owner was done with it meanwhile.
                Err(_) if !young.is_dir() => (),
                Err(error) => return Err(error.into()),
            }
        }
        all._sandbox = Some(sandbox);
        Ok(all)
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Why blocks did not open.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Everything there is.
    pub fn timeline(&self) -> Fanout {
        let heads = self
            .heads
            .iter()
            .map(|head| Arc::new(head.clone()) as Arc<dyn Queryable>);
        let blocks = self
            .blocks
            .iter()
            .map(|block| Arc::new(block.clone()) as Arc<dyn Queryable>);
        Fanout::new(heads.chain(blocks).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::ReadOnlyTsdb;
    use crate::tsdb::Tsdb;
    use crate::tsdb::tests::{Model, append, samples, scratch, settings};

    #[test]
    fn late_samples_are_seen_and_nothing_is_changed() {
        let (dir, root) = (scratch(), scratch());
        let mut settings = settings();
        settings.head.out_of_order_window_ms = 5000;
        let clock = std::sync::Arc::new(crate::foundation::ManualClock::new(1));
        let db = Tsdb::open(dir.path(), settings, clock).unwrap();
        let mut model = Model::new();
        append(&db, &["a", "b"], (0..30).map(|n| 9000 + n * 10), &mut model);
        append(&db, &["a"], (0..80).map(|n| 8000 + n * 7), &mut model);
        append(&db, &["c"], [7000, 9000, 6500], &mut model);
        let list = || {
            let of = |name: &str| {
                let entries = std::fs::read_dir(dir.path().join(name)).unwrap();
                let entries = entries.map(Result::unwrap);
                let mut all: Vec<_> = entries
                    .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
                    .collect();
                all.sort();
                all
            };
            ["wal", "wbl", "chunks_head"].map(of)
        };
        let before = list();
        for _ in 0..2 {
            let looking = ReadOnlyTsdb::open(dir.path(), root.path()).unwrap();
            assert_eq!(samples(&looking.timeline()), model);
        }
        assert_eq!(list(), before);
        // The samples of before the last cut of late ones are in blocks, and of none of them are there two.
        db.cut_out_of_order().unwrap();
        append(&db, &["a"], [7500], &mut model);
        let looking = ReadOnlyTsdb::open(dir.path(), root.path()).unwrap();
        assert_eq!(samples(&looking.timeline()), model);
        assert_eq!(samples(&*db.timeline()), model);
    }
}
