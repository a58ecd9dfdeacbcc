//! One process per data directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::tsdb::TsdbError;

/// Holds `<dir>/lock` as Prometheus does, so neither opens a directory the other has open.
#[derive(Debug)]
pub(crate) struct DirLock {
    path: PathBuf,
    _file: File,
}

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, TsdbError> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(TsdbError::io("create", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(TsdbError::Locked {
                dir: dir.to_owned(),
            }),
            Err(errno) => Err(TsdbError::io("lock", &path)(io::Error::from(errno))),
        }
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // A file left behind does no harm: the lock is gone with this process.
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_opens_once_and_again_after_it_was_closed() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        let twice = DirLock::take(dir.path());
        assert!(matches!(twice, Err(TsdbError::Locked { .. })), "{twice:?}");
        drop(lock);
        DirLock::take(dir.path()).unwrap();
    }
}
