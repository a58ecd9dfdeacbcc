//! From when on the head begins, where no block says so.
//!
//! Usually the newest block's end does. Where that block is gone because everything in it was deleted, log and chunk files
//! may still hold what it held, and a replay would bring it back.

use std::path::Path;

use crate::foundation::durable::replace_file;
use crate::model::TimestampMs;
use crate::tsdb::TsdbError;

/// One number, in the data directory.
const FLOOR_FILE: &str = "head_floor";

/// What is older than this was in blocks once. A file that does not read counts for nothing: at worst samples come back.
pub(crate) fn read_floor(dir: &Path) -> TimestampMs {
    let text = std::fs::read_to_string(dir.join(FLOOR_FILE));
    let floor = text.ok().and_then(|text| text.trim().parse().ok());
    floor.unwrap_or(TimestampMs::MIN)
}

/// Makes the floor at least `floor`, for good.
pub fn raise_floor(dir: &Path, floor: TimestampMs) -> Result<(), TsdbError> {
    if floor <= read_floor(dir) {
        return Ok(());
    }
    let path = dir.join(FLOOR_FILE);
    replace_file(&path, format!("{floor}\n").as_bytes()).map_err(TsdbError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_only_rises_and_damage_is_no_floor() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_floor(dir.path()), i64::MIN);
        for (raise, expect) in [(-5, -5), (700, 700), (20, 700)] {
            raise_floor(dir.path(), raise).unwrap();
            assert_eq!(read_floor(dir.path()), expect);
        }
        replace_file(&dir.path().join(FLOOR_FILE), b"7x").unwrap();
        assert_eq!(read_floor(dir.path()), i64::MIN);
    }
}
