//! What lies in the data directory at the start.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::block::{Block, TMP_FOR_CREATION, TMP_FOR_DELETION};
use crate::foundation::durable::{create_dirs, remove_dir_all, rename_durably, replace_file};
use crate::model::BlockId;
use crate::tsdb::TsdbError;

/// Directory of what could not be read.
const QUARANTINE: &str = "quarantine";
/// Says why, within a quarantined directory.
const REASON_FILE: &str = "reason.txt";

/// A block that could not be opened and was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Where it lies now.
    pub path: PathBuf,
    /// What was wrong.
    pub reason: String,
}

/// The blocks that opened, sorted by time.
pub(crate) struct Loaded {
    pub(crate) blocks: Vec<Block>,
    pub(crate) quarantined: Vec<Quarantined>,
}

/// Opens every block; removes what was never finished or was half deleted, and sets aside what does not open.
pub(crate) fn load(dir: &Path) -> Result<Loaded, TsdbError> {
    let mut blocks = Vec::new();
    for entry in fs::read_dir(dir).map_err(TsdbError::io("list", dir))? {
        let entry = entry.map_err(TsdbError::io("list", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let path = entry.path();
        if is_unfinished(name) {
            remove_dir_all(&path).map_err(TsdbError::io("remove", &path))?;
            continue;
        }
        if name.parse::<BlockId>().is_err() || !path.is_dir() {
            continue;
        }
        match Block::open(&path) {
            Ok(block) => blocks.push(block),
            Err(error) => set_aside(dir, name, &error.to_string())?,
        }
    }
    // A crash between writing a compacted block and deleting what it was made of.
    let parents: BTreeSet<BlockId> = blocks
        .iter()
        .flat_map(|block| block.meta().compaction.parents.iter())
        .map(|parent| parent.ulid)
        .collect();
    let (replaced, mut blocks): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| {
        // Of a deletable block nothing was left to write.
        parents.contains(&block.meta().ulid) || block.meta().compaction.deletable
    });
    for block in replaced {
        delete_block_dir(block.dir())?;
    }
    sort(&mut blocks);
    Ok(Loaded {
        blocks,
        quarantined: list_quarantined(dir)?,
    })
}

pub(crate) fn sort(blocks: &mut [Block]) {
    blocks.sort_by_key(|block| {
        (
            block.meta().min_time,
            block.meta().max_time,
            block.meta().ulid,
        )
    });
}

fn is_unfinished(name: &str) -> bool {
    [TMP_FOR_CREATION, TMP_FOR_DELETION, ".tmp"]
        .iter()
        .filter_map(|ending| name.strip_suffix(ending))
        .any(|id| id.parse::<BlockId>().is_ok())
}

/// Renames first, so that a half deleted block is never taken for a whole one.
pub(crate) fn delete_block_dir(path: &Path) -> Result<(), TsdbError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TMP_FOR_DELETION);
    let doomed = path.with_file_name(name);
    rename_durably(path, &doomed).map_err(TsdbError::io("rename", path))?;
    remove_dir_all(&doomed).map_err(TsdbError::io("remove", &doomed))
}

/// Moves `<dir>/<name>` to `<dir>/quarantine/<name>` and writes down why.
pub(crate) fn set_aside(dir: &Path, name: &str, reason: &str) -> Result<(), TsdbError> {
    let from = dir.join(name);
    let quarantine = dir.join(QUARANTINE);
    create_dirs(&quarantine).map_err(TsdbError::io("create", &quarantine))?;
    let mut to = quarantine.join(name);
    for attempt in 1.. {
        if !to.try_exists().map_err(TsdbError::io("inspect", &to))? {
            break;
        }
        to = quarantine.join(format!("{name}.{attempt}"));
    }
    tracing::warn!(block = name, reason, to = %to.display(), "block does not open and is set aside");
    rename_durably(&from, &to).map_err(TsdbError::io("set aside", &from))?;
    let reason_file = to.join(REASON_FILE);
    replace_file(&reason_file, reason.as_bytes()).map_err(TsdbError::io("write", &reason_file))
}

fn list_quarantined(dir: &Path) -> Result<Vec<Quarantined>, TsdbError> {
    let quarantine = dir.join(QUARANTINE);
    let entries = match fs::read_dir(&quarantine) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TsdbError::io("list", &quarantine)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(TsdbError::io("list", &quarantine))?.path();
        if path.is_dir() {
            let reason = fs::read(path.join(REASON_FILE)).unwrap_or_default();
            found.push(Quarantined {
                reason: String::from_utf8_lossy(&reason).into_owned(),
                path,
            });
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}
