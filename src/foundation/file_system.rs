//! How large a file system is, and how much room it has.

use std::io;
use std::path::Path;

/// Bytes of the file system that `path` lies in, used or not.
pub fn capacity_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Bytes that this process may still use in the file system that `path` lies in.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
