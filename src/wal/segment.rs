//! Numbered files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wal::WalError;

/// The number in a segment's name.
pub type SegmentNumber = u32;

/// A segment that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number.
    pub number: SegmentNumber,
    /// Where it lies.
    pub path: PathBuf,
    /// How long it is.
    pub n_bytes: u64,
}

/// Eight digits.
pub fn segment_name(number: SegmentNumber) -> String {
    format!("{number:08}")
}

/// The segments of `dir` by number; other names are ignored, a directory that is not there has none.
pub fn list_segments(dir: &Path) -> Result<Vec<SegmentFile>, WalError> {
    let mut segments = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(segments),
        Err(error) => return Err(WalError::io("list", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(WalError::io("list", dir))?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(parse_name) else {
            continue;
        };
        let path = entry.path();
        let metadata = entry.metadata().map_err(WalError::io("inspect", &path))?;
        if metadata.is_file() {
            segments.push(SegmentFile {
                number,
                path,
                n_bytes: metadata.len(),
            });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

fn parse_name(name: &str) -> Option<SegmentNumber> {
    (name.len() >= 8 && name.bytes().all(|b| b.is_ascii_digit()))
        .then(|| name.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::replace_file;

    #[test]
    fn segments_are_listed_by_number_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "00000010",
            "00000009",
            "checkpoint.00000008",
            "0000000x",
            "7",
        ] {
            replace_file(&dir.path().join(name), b"abc").unwrap();
        }
        let numbers: Vec<_> = list_segments(dir.path())
            .unwrap()
            .iter()
            .map(|segment| (segment.number, segment.n_bytes))
            .collect();
        assert_eq!(numbers, [(9, 3), (10, 3)]);
        assert_eq!(list_segments(&dir.path().join("none")).unwrap(), []);
        assert_eq!(segment_name(7), "00000007");
    }
}
