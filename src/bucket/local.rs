//! Files into a bucket that is a directory of this machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::bucket::error::BucketError;
use crate::bucket::store::file_error;
use crate::foundation::durable::{rename_durably, sync_dir};

/// A sibling name that no listing shows: readers of the directory skip names that end in `#` and a number.
pub(crate) fn temporary(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push("#0");
    target.with_file_name(name)
}

/// Makes `target` the same as `file`: a second name for it where the file system can, a copy where it cannot.
///
/// The second name costs no space and no time. It is safe because files of blocks never change.
pub(crate) async fn place(file: &Path, target: PathBuf) -> Result<u64, BucketError> {
    let file = file.to_owned();
    let placed = tokio::task::spawn_blocking(move || place_blocking(&file, &target)).await;
    placed.unwrap_or_else(|error| {
        Err(BucketError::Unavailable {
            bucket: "file".to_owned(),
            action: "upload",
            key: String::new(),
            source: Box::new(error),
        })
    })
}

fn place_blocking(file: &Path, target: &Path) -> Result<u64, BucketError> {
    if let Some(dir) = target.parent() {
        create_dirs_durably(dir)?;
    }
    let tmp = temporary(target);
    match fs::remove_file(&tmp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error("remove", &tmp)(error));
        }
        Ok(()) | Err(_) => (),
    }
    if fs::hard_link(file, &tmp).is_err() {
        fs::copy(file, &tmp).map_err(file_error("copy", file))?;
    }
    let placed = File::open(&tmp).map_err(file_error("open", &tmp))?;
    placed.sync_all().map_err(file_error("sync", &tmp))?;
    let size = placed
        .metadata()
        .map_err(file_error("inspect", &tmp))?
        .len();
    // Renaming one name of a file over another of the same file does nothing and leaves both.
    rename_durably(&tmp, target).map_err(file_error("rename", target))?;
    fs::remove_file(&tmp).ok();
    Ok(size)
}

fn create_dirs_durably(dir: &Path) -> Result<(), BucketError> {
    if dir.try_exists().map_err(file_error("inspect", dir))? {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dirs_durably(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(file_error("create", dir)(error));
            }
            Ok(()) | Err(_) => (),
        }
        sync_dir(parent).map_err(file_error("sync", parent))?;
    }
    Ok(())
}
