//! What is done below a directory, in order, and faults on demand.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use rustix::io::Errno;

/// One thing that was asked of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateDir(PathBuf),
    Create(PathBuf),
    Write {
        path: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen(PathBuf, u64),
    Sync(PathBuf),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveDir(PathBuf),
}

impl Operation {
    fn path(&self) -> &Path {
        match self {
            Self::CreateDir(path)
            | Self::Create(path)
            | Self::Write { path, .. }
            | Self::SetLen(path, _)
            | Self::Sync(path)
            | Self::SyncDir(path)
            | Self::Rename(path, _)
            | Self::Link(path, _)
            | Self::RemoveFile(path)
            | Self::RemoveDir(path) => path,
        }
    }
}

/// A directory whose operations are noted for as long as this lives. Syncs are noted and not done.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    root: PathBuf,
    operations: Mutex<Vec<Operation>>,
    /// Bytes that may still be written.
    room: AtomicI64,
    syncs_fail: AtomicBool,
    sync_ms: AtomicU64,
}

static WATCHED: RwLock<Vec<Arc<Watched>>> = RwLock::new(Vec::new());

impl Watch {
    pub(crate) fn of(root: &Path) -> Self {
        let watched = Arc::new(Watched {
            root: root.to_owned(),
            operations: Mutex::default(),
            room: AtomicI64::new(i64::MAX),
            syncs_fail: AtomicBool::new(false),
            sync_ms: AtomicU64::new(0),
        });
        WATCHED.write().push(Arc::clone(&watched));
        Self(watched)
    }

    /// Everything so far.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.0.operations.lock().clone()
    }

    pub(crate) fn n_operations(&self) -> usize {
        self.0.operations.lock().len()
    }

    pub(crate) fn n_syncs(&self) -> usize {
        let operations = self.0.operations.lock();
        let is_sync = |operation: &&Operation| matches!(operation, Operation::Sync(_));
        operations.iter().filter(is_sync).count()
    }

    /// After so many more bytes the disk is full.
    pub(crate) fn set_room(&self, n_bytes: i64) {
        self.0.room.store(n_bytes, Ordering::SeqCst);
    }

    /// How long an fsync takes.
    pub(crate) fn set_sync_ms(&self, ms: u64) {
        self.0.sync_ms.store(ms, Ordering::SeqCst);
    }

    /// Whether fsync fails from now on.
    pub(crate) fn set_syncs_fail(&self, they_do: bool) {
        self.0.syncs_fail.store(they_do, Ordering::SeqCst);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED
            .write()
            .retain(|watched| !Arc::ptr_eq(watched, &self.0));
    }
}

fn watched(path: &Path) -> Option<Arc<Watched>> {
    let all = WATCHED.read();
    all.iter()
        .find(|watched| path.starts_with(&watched.root))
        .map(Arc::clone)
}

pub(super) fn is_watched(path: &Path) -> bool {
    watched(path).is_some()
}

/// Notes what is about to be done; whether somebody watches.
pub(super) fn before(operation: &Operation) -> io::Result<bool> {
    let Some(watched) = watched(operation.path()) else {
        return Ok(false);
    };
    let is_full = watched.room.load(Ordering::SeqCst) <= 0;
    if is_full && matches!(operation, Operation::Create(_) | Operation::CreateDir(_)) {
        return Err(Errno::NOSPC.into());
    }
    let is_sync = matches!(operation, Operation::Sync(_));
    if is_sync && watched.syncs_fail.load(Ordering::SeqCst) {
        return Err(Errno::IO.into());
    }
    watched.operations.lock().push(operation.clone());
    let sync_ms = watched.sync_ms.load(Ordering::SeqCst);
    if 0 < sync_ms && is_sync {
        let (nobody, comes) = (Mutex::new(()), Condvar::new());
        comes.wait_for(&mut nobody.lock(), Duration::from_millis(sync_ms));
    }
    Ok(true)
}

/// As much as there is room for is written here when that is not all.
pub(super) fn before_write(path: &Path, mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let Some(watched) = watched(path) else {
        return Ok(());
    };
    let offset = file.stream_position()?;
    let len = i64::try_from(bytes.len()).unwrap();
    let room = watched.room.fetch_sub(len, Ordering::SeqCst);
    let fits = usize::try_from(room.clamp(0, len)).unwrap();
    watched.operations.lock().push(Operation::Write {
        path: path.to_owned(),
        offset,
        bytes: bytes[..fits].to_vec(),
    });
    if fits == bytes.len() {
        return Ok(());
    }
    watched.room.store(0, Ordering::SeqCst);
    io::Write::write_all(&mut file, &bytes[..fits])?;
    Err(Errno::NOSPC.into())
}

/// One by one, so that each step is noted.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            remove_tree(&path)?;
        } else {
            super::remove_file(&path)?;
        }
    }
    before(&Operation::RemoveDir(dir.to_owned()))?;
    fs::remove_dir(dir)
}
