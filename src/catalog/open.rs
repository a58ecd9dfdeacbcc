//! Opening always succeeds.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::catalog::entry::{seal, unseal};
use crate::foundation::durable::rename_durably;

/// Changes when the meaning of any record changes; an older catalog is emptied.
const SCHEMA: &[u8] = b"2";
const SCHEMA_KEY: &[u8] = b"schema";
/// Memory for pages; the catalog holds a kilobyte or two for every block of the bucket.
const CACHE_BYTES: u64 = 8 << 20;
/// Catalogs moved aside that are kept for looking at.
const ASIDE_MAX: usize = 3;
/// How often, and how far apart, a locked catalog is tried.
const LOCK_ATTEMPTS_MAX: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How the catalog came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogState {
    /// As it was left, or new.
    Opened,
    /// A damaged snapshot was removed; the records are all there.
    SnapshotRemoved,
    /// Written by another version: emptied.
    Emptied,
    /// Damaged: moved here, and begun anew.
    MovedAside(PathBuf),
    /// There is none, for this reason: everything is asked anew each time.
    Absent(String),
}

/// What is known of blocks and uploads. Cloning is cheap.
///
/// Reads of a damaged record say that it is not there; failed writes are forgotten. Both cost time and nothing else.
#[derive(Debug, Clone)]
pub struct Catalog {
    db: Option<sled::Db>,
    state: CatalogState,
}

impl Catalog {
    /// Opens or makes the catalog in `dir`; what cannot be read is moved aside.
    pub fn open(dir: &Path) -> Self {
        let (db, state) = match open_database(dir) {
            Ok(db) => (db, CatalogState::Opened),
            Err(Failure::Unavailable(reason)) => return Self::absent(reason),
            Err(Failure::Damaged) => match reopen(dir) {
                Ok(reopened) => reopened,
                Err(reason) => return Self::absent(reason),
            },
        };
        match check_schema(&db) {
            Ok(true) => Self {
                db: Some(db),
                state,
            },
            Ok(false) => Self {
                db: Some(db),
                state: CatalogState::Emptied,
            },
            Err(error) => {
                drop(db);
                match begin_anew(dir) {
                    Ok((db, state)) => Self {
                        db: check_schema(&db).is_ok().then_some(db),
                        state,
                    },
                    Err(reason) => Self::absent(format!("{error}; {reason}")),
                }
            }
        }
    }

    /// A catalog that remembers nothing.
    pub fn absent(reason: String) -> Self {
        Self {
            db: None,
            state: CatalogState::Absent(reason),
        }
    }

    /// How it came up.
    pub fn state(&self) -> &CatalogState {
        &self.state
    }

    /// Makes everything so far survive a crash. Blocks: call it from a thread that may wait.
    pub fn flush(&self) {
        if let Some(db) = &self.db
            && let Err(error) = db.flush()
        {
            tracing::warn!(error = %error, "catalog not flushed");
        }
    }

    #[cfg(test)]
    pub(crate) fn overwrite_schema(&self, value: &[u8]) {
        let db = self.db.as_ref().unwrap();
        db.insert(SCHEMA_KEY, value).unwrap();
        db.flush().unwrap();
    }

    pub(crate) fn read(&self, tree: &str, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.tree(tree)?.get(key).ok()??;
        unseal(key, &value).map(<[u8]>::to_vec)
    }

    pub(crate) fn write(&self, tree: &str, key: &[u8], payload: &[u8]) {
        if let Some(tree) = self.tree(tree)
            && let Err(error) = tree.insert(key, seal(key, payload))
        {
            tracing::warn!(error = %error, "catalog record not written");
        }
    }

    pub(crate) fn remove(&self, tree: &str, key: &[u8]) {
        if let Some(tree) = self.tree(tree)
            && let Err(error) = tree.remove(key)
        {
            tracing::warn!(error = %error, "catalog record not removed");
        }
    }

    /// Shows every sound record: key and payload, by key.
    pub(crate) fn each(&self, tree: &str, mut show: impl FnMut(&[u8], &[u8])) {
        let Some(tree) = self.tree(tree) else {
            return;
        };
        for item in &tree {
            // A damaged page ends the walk: what lies behind it is asked anew.
            let Ok((key, value)) = item else { break };
            if let Some(payload) = unseal(&key, &value) {
                show(&key, payload);
            }
        }
    }

    fn tree(&self, name: &str) -> Option<sled::Tree> {
        self.db.as_ref()?.open_tree(name).ok()
    }
}

enum Failure {
    /// The bytes are wrong: they can be moved away.
    Damaged,
    /// The place is wrong: locked by somebody, read-only, full.
    Unavailable(String),
}

/// A database that was closed a moment ago in this process stays locked until its last thread let go of it.
fn open_database(dir: &Path) -> Result<sled::Db, Failure> {
    let mut attempt = 0;
    loop {
        match open_once(dir) {
            Err(Failure::Unavailable(reason))
                if attempt < LOCK_ATTEMPTS_MAX && reason.contains("acquire lock") =>
            {
                thread::park_timeout(LOCK_PAUSE);
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

fn open_once(dir: &Path) -> Result<sled::Db, Failure> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
    // Some damage makes the opening panic instead of failing.
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(sled::Error::Io(error))) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(Failure::Unavailable(error.to_string()))
        }
        Ok(Err(_)) | Err(_) => Err(Failure::Damaged),
    }
}

/// A damaged snapshot can be made again from the log; anything else is moved aside.
fn reopen(dir: &Path) -> Result<(sled::Db, CatalogState), String> {
    let mut n_removed = 0;
    for entry in fs::read_dir(dir).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") {
            fs::remove_file(&path).map_err(|error| error.to_string())?;
            n_removed += 1;
        }
    }
    if 0 < n_removed
        && let Ok(db) = open_database(dir)
    {
        return Ok((db, CatalogState::SnapshotRemoved));
    }
    begin_anew(dir)
}

fn begin_anew(dir: &Path) -> Result<(sled::Db, CatalogState), String> {
    let aside =
        move_aside(dir).map_err(|error| format!("move the damaged catalog aside: {error}"))?;
    match open_database(dir) {
        Ok(db) => Ok((db, CatalogState::MovedAside(aside))),
        Err(Failure::Damaged) => Err("a new catalog does not open".to_owned()),
        Err(Failure::Unavailable(reason)) => Err(reason),
    }
}

fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    // The oldest place is used again: damage must not fill the disk.
    let mut aside = dir.with_file_name(&name);
    for number in 1..ASIDE_MAX {
        if !aside.try_exists()? {
            break;
        }
        let mut numbered = name.clone();
        numbered.push(format!("-{number}"));
        aside = dir.with_file_name(numbered);
    }
    if aside.try_exists()? {
        fs::remove_dir_all(&aside)?;
    }
    rename_durably(dir, &aside)?;
    Ok(aside)
}

/// True where the schema is ours, false where the catalog had to be emptied.
fn check_schema(db: &sled::Db) -> Result<bool, sled::Error> {
    let found = db.get(SCHEMA_KEY)?;
    if found.as_deref().and_then(|value| unseal(SCHEMA_KEY, value)) == Some(SCHEMA) {
        return Ok(true);
    }
    let is_new = found.is_none() && db.tree_names().len() == 1;
    for tree in db.tree_names() {
        db.open_tree(tree)?.clear()?;
    }
    db.insert(SCHEMA_KEY, seal(SCHEMA_KEY, SCHEMA))?;
    db.flush()?;
    Ok(is_new)
}
