//! The files of a block that goes up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::block::{Block, CHUNKS_DIR, INDEX_FILE, TOMBSTONES_FILE};
use crate::foundation::durable::{create_dirs, hard_link, remove_dir_all};
use crate::foundation::sha256::sha256_file;
use crate::model::BlockId;
use crate::shipper::error::ShipError;

/// Where blocks of others get second names while they go up; the directory that Thanos' shipper uses for it.
const STAGING_DIR: &str = "thanos/upload";

/// A file that goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalFile {
    /// Path inside the block.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) n_bytes: u64,
    /// SHA-256 in hexadecimal.
    pub(crate) sha256: String,
}

/// Whether the block in `dir` reads, and the files of it that go up. Reads all of them.
pub(crate) fn readable_files(dir: &Path, block: BlockId) -> Result<Vec<LocalFile>, ShipError> {
    // Nobody can repair in the bucket what is broken here.
    let n_tombstones = match Block::open(dir) {
        Ok(opened) => opened.tombstones().n_intervals(),
        Err(cause) => return Err(ShipError::Damaged { block, cause }),
    };
    let mut files = Vec::new();
    for name in names(dir, 0 < n_tombstones)? {
        let path = dir.join(&name);
        let (n_bytes, sha256) = sha256_file(&path).map_err(failed("read", &path))?;
        files.push(LocalFile {
            name,
            path,
            n_bytes,
            sha256,
        });
    }
    Ok(files)
}

/// Chunks, then the index, then tombstones: the order in which they go up.
///
/// Thanos uploads no tombstones and so forgets deletions; here they go along, and who does not know them skips them.
fn names(dir: &Path, with_tombstones: bool) -> Result<Vec<String>, ShipError> {
    let mut names = Vec::new();
    for name in segment_names(dir)? {
        names.push(format!("{CHUNKS_DIR}/{name}"));
    }
    names.push(INDEX_FILE.to_owned());
    if with_tombstones {
        names.push(TOMBSTONES_FILE.to_owned());
    }
    Ok(names)
}

fn segment_names(dir: &Path) -> Result<Vec<String>, ShipError> {
    let chunks = dir.join(CHUNKS_DIR);
    let list = || failed("list the files of block", &chunks);
    let mut names = Vec::new();
    for entry in fs::read_dir(&chunks).map_err(list())? {
        let entry = entry.map_err(list())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Second names for the files of a block that somebody else may delete at any moment; gone when dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    dir: PathBuf,
}

impl Staged {
    /// `None` where the file system gives no second names: the block is read where it lies.
    pub(crate) fn of(directory: &Path, block: BlockId) -> Result<Option<Self>, ShipError> {
        let source = directory.join(block.to_string());
        let dir = directory.join(STAGING_DIR).join(block.to_string());
        remove(&dir)?;
        let staged = Self { dir };
        match staged.link(&source) {
            Ok(()) => Ok(Some(staged)),
            Err(error) if is_unsupported(&error) => Ok(None),
            Err(error) => Err(failed("link", &source)(error)),
        }
    }

    /// Where the second names are; without `meta.json`, which the upload writes itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn link(&self, source: &Path) -> io::Result<()> {
        create_dirs(&self.dir.join(CHUNKS_DIR))?;
        for entry in fs::read_dir(source.join(CHUNKS_DIR))? {
            let entry = entry?;
            let target = self.dir.join(CHUNKS_DIR).join(entry.file_name());
            hard_link(&entry.path(), &target)?;
        }
        for name in [INDEX_FILE, TOMBSTONES_FILE, crate::block::meta::META_FILE] {
            match hard_link(&source.join(name), &self.dir.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                linked => linked?,
            }
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.dir) {
            tracing::warn!(%error, "second names of a block's files stay until the next pass");
        }
    }
}

/// Second names that an earlier life left behind.
pub(crate) fn remove_staged(directory: &Path) -> Result<(), ShipError> {
    remove(&directory.join(STAGING_DIR))
}

fn remove(dir: &Path) -> Result<(), ShipError> {
    match remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// No such thing here, or not for us: reading in place still works.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::TooManyLinks
    )
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShipError {
    let path = path.to_owned();
    move |cause| ShipError::Local {
        action,
        path,
        cause,
    }
}
