//! How large a file system is.

use std::io;
use std::path::Path;

/// Bytes of the file system that `path` lies in, used or not.
pub fn capacity_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}
