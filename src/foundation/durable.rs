//! The one crash-safe write.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces a file: after `Ok` the new content survives power loss, before it the old one does.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that renames"
)]
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    name.push(".tmp");
    let tmp = dir.join(name);
    let mut file = File::create(&tmp)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    sync_dir(dir)
}

/// Moves a finished directory (or file) to its final name and makes the move survive power loss.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that renames"
)]
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(to.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Makes creations, renames and removals in `dir` survive power loss.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_replaces_the_old_and_no_temporary_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.json");
        replace_file(&path, b"old").unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
