//! Files as bytes without copying.
#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; this drawer is the only one that does"
)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// Maps the whole file read-only; slices of the result are free and keep the mapping alive.
///
/// The file must not be truncated while it is mapped: blocks and closed chunk files are immutable, and
/// deleting a file leaves its mapping valid.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    map_open_file(&File::open(path)?)
}

/// [`map_file`] for a file that is open already.
pub fn map_open_file(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is read-only and private to this process, and the callers' contract above says
    // that nobody truncates the file, which is the one thing that could make reads of the mapping fault.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Maps `len` bytes of a file that is still growing, so that what is appended later is there without mapping again.
///
/// Bytes behind the end of the file must not be touched until they are written: the caller reads only offsets it wrote.
pub fn map_file_ahead(file: &File, len: usize) -> io::Result<Bytes> {
    // SAFETY: read-only and private to this process; the contract above keeps reads inside the file, which only grows.
    let map = unsafe { MmapOptions::new().len(len).map(file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::replace_file;

    #[test]
    fn a_slice_outlives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunks");
        replace_file(&path, b"0123456789").unwrap();
        let slice = map_file(&path).unwrap().slice(2..5);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&slice[..], b"234");
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        replace_file(&path, b"").unwrap();
        assert!(map_file(&path).unwrap().is_empty());
    }

    #[test]
    fn what_is_appended_later_is_there_without_mapping_again() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("growing");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let map = map_file_ahead(&file, 1 << 20).unwrap();
        file.write_all(b"first").unwrap();
        assert_eq!(&map[..5], b"first");
        file.write_all(b"second").unwrap();
        assert_eq!(&map[5..11], b"second");
    }
}
