//! Files that survive: everything that is written, synced, renamed or removed below a data directory goes through here.
//!
//! In unit tests a directory can be watched (`watch`): each operation is noted, and faults can be asked for. Outside
//! of them this is the file system and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
pub(crate) mod watch;

use crate::foundation::buffers::set_uncached;
#[cfg(test)]
use watch::Operation;

/// A file that is being written.
#[derive(Debug)]
pub struct DurableFile {
    file: File,
    #[cfg(test)]
    path: std::path::PathBuf,
}

impl DurableFile {
    /// Makes a file that must not be there, to be written and read.
    pub fn create_new(path: &Path) -> io::Result<Self> {
        #[cfg(test)]
        watch::before(&Operation::Create(path.to_owned()))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Ok(Self::of(options.open(path)?, path))
    }

    /// Makes a file, or empties the one that is there.
    pub fn create(path: &Path) -> io::Result<Self> {
        #[cfg(test)]
        watch::before(&Operation::Create(path.to_owned()))?;
        Ok(Self::of(File::create(path)?, path))
    }

    /// Opens a file that is there, to be cut or synced.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(OpenOptions::new().write(true).open(path)?, path))
    }

    #[cfg_attr(
        not(test),
        expect(unused_variables, reason = "only a watched file knows its name")
    )]
    fn of(file: File, path: &Path) -> Self {
        Self {
            file,
            #[cfg(test)]
            path: path.to_owned(),
        }
    }

    /// Has it written past the page cache, or through it again: whole blocks from aligned memory only. False where its file
    /// system does not do that.
    pub fn set_uncached(&self, is_uncached: bool) -> bool {
        set_uncached(&self.file, is_uncached)
    }

    /// Cuts it, or fills it up with zeros. The next write goes to its end.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        watch::before(&Operation::SetLen(self.path.clone(), len))?;
        self.file.set_len(len)?;
        io::Seek::seek(&mut &self.file, io::SeekFrom::End(0)).map(|_| ())
    }

    /// Writes over bytes that are there already. The next write goes to its end.
    pub fn write_over(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
        (&mut &*self).write_all(bytes)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map(|_| ())
    }

    /// Makes its content survive power loss.
    pub fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        if watch::before(&Operation::Sync(self.path.clone()))? {
            return Ok(());
        }
        self.file.sync_data()
    }

    /// Makes its content and its attributes survive power loss.
    pub fn sync_all(&self) -> io::Result<()> {
        #[cfg(test)]
        if watch::before(&Operation::Sync(self.path.clone()))? {
            return Ok(());
        }
        self.file.sync_all()
    }

    /// For mapping and attributes; not for writing.
    pub fn as_file(&self) -> &File {
        &self.file
    }
}

impl Write for &DurableFile {
    #[expect(
        clippy::disallowed_methods,
        reason = "a writer is made of the one beneath; callers use write_all"
    )]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        watch::before_write(&self.path, &self.file, bytes)?;
        (&self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for DurableFile {
    #[expect(
        clippy::disallowed_methods,
        reason = "a writer is made of the one beneath; callers use write_all"
    )]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Replaces a file: after `Ok` the new content survives power loss, before it the old one does.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    let mut file = DurableFile::create(&tmp)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename_durably(&tmp, path)
}

/// Moves a finished directory (or file) to its final name and makes the move survive power loss.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that renames"
)]
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    watch::before(&Operation::Rename(from.to_owned(), to.to_owned()))?;
    fs::rename(from, to)?;
    sync_dir(to.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Makes creations, renames and removals in `dir` survive power loss.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    if watch::before(&Operation::SyncDir(dir.to_owned()))? {
        return Ok(());
    }
    File::open(dir)?.sync_all()
}

/// Makes a directory, which must not be there; it survives power loss once its parent is synced.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    watch::before(&Operation::CreateDir(dir.to_owned()))?;
    fs::create_dir(dir)
}

/// Makes a directory and those above it where they are not there; what is made survives power loss.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dirs(parent)?;
    match create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        _ => sync_dir(parent),
    }
}

/// Gives a file another name beside the one it has.
pub fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    watch::before(&Operation::Link(from.to_owned(), to.to_owned()))?;
    fs::hard_link(from, to)
}

/// Removes a file; whether that survives power loss is up to [`sync_dir`].
pub fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    watch::before(&Operation::RemoveFile(path.to_owned()))?;
    fs::remove_file(path)
}

/// Removes a directory and what is in it.
pub fn remove_dir_all(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    if watch::is_watched(dir) {
        return watch::remove_tree(dir);
    }
    fs::remove_dir_all(dir)
}

/// Whether a write failed for want of room, which may come back: the disk, the quota or the largest file.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
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

    #[test]
    fn missing_directories_are_made_and_those_above_are_synced() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch::Watch::of(dir.path());
        create_dirs(&dir.path().join("a/b")).unwrap();
        create_dirs(&dir.path().join("a/b")).unwrap();
        let made = |name: &str| Operation::CreateDir(dir.path().join(name));
        let synced = |name: &str| Operation::SyncDir(dir.path().join(name));
        assert_eq!(
            watch.operations(),
            [made("a"), synced(""), made("a/b"), synced("a")]
        );
    }
}
